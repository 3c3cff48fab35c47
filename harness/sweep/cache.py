"""Plans are kept, so that ``status`` on a thousand runs answers at once; changed code makes a new one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.config.composition import parse
from harness.meaning.digest import meaning
from harness.registry import benchmarks
from harness.sweep.jobs import Job
from harness.sweep.sweep import Sweep
from harness.util.environment import ROOT
from harness.util.files import write_text

_PACKAGES = ("harness", "methods", "benchmarks")
#: Contents of data sets that the user accepts though they differ: part of what fingerprints are made of.
_ACCEPTED = "ENTROBENCH_ACCEPT_DATA"
_KEPT = ("key", "role", "label", "method", "seed", "run_id", "evaluate", "choice", "changes", "model",
         "training_set")  # fmt: skip


def plan_key(sweep: Sweep) -> str | None:
    """Hash of everything a plan depends on; None where that is not known (a local model)."""
    shipped = benchmarks.shipped_models()
    tables = (
        sweep.settings, *sweep.per_method.values(), *sweep.controls.values(),
        *(setting.settings for setting in sweep.grid),
        *(own for entry in (*sweep.models, *sweep.training_sets) for own in entry.per_method.values()),
    )  # fmt: skip
    models = [str(value) for table in tables for key, value in table.items() if key == "model.path"]
    folders = [model for model in models if model not in shipped and Path(model).expanduser().exists()]
    if folders or "model.path" in sweep.extra:
        return None
    digest = hashlib.sha256(f"{sweep!r}\0{os.environ.get(_ACCEPTED, '')}".encode())
    for file in _inputs(sweep, list(shipped.values())):
        digest.update(str(file).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _inputs(sweep: Sweep, models: list[Path]) -> Iterator[Path]:
    for package in _PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))
    yield from sorted((ROOT / "harness" / "meaning").glob("*.json"))  # what identities are kept by
    # what a benchmark keeps of its own content, such as a frozen fingerprint
    yield from sorted(file for name in ("FROZEN*", "*.json") for file in (ROOT / "benchmarks").rglob(name))
    for model in models:
        yield from sorted(file for file in model.glob("*") if file.is_file())
    named = [*sweep.methods, *(str(own["method"]) for own in sweep.controls.values() if own.get("method"))]
    composed = [parse(name) for name in named]
    single = [method for c in composed for method in (c.base, *(part for _, part in c.parts))]
    outside = [name.rpartition(":") for name in single if ".py:" in name]
    seen = {file for path, _, own in outside for file in meaning(Path(path), own).files}
    yield from sorted(file for file in seen if file.is_file() and not file.is_relative_to(ROOT))
    yield from sorted({Path(path) for path, *_ in outside})
    if sweep.tuned_path.exists():
        yield sweep.tuned_path


def load_plan(path: Path, key: str | None) -> list[Job] | None:
    """The kept plan, if it was made from the same inputs."""
    if key is None or not path.exists():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if raw.get("key") != key:
        return None
    configs = raw["configs"]
    return [_job(row, configs[row["config"]]) for row in raw["jobs"]]


def save_plan(path: Path, key: str | None, jobs: list[Job]) -> None:
    """Keep ``jobs``; configurations that differ only in the seed are kept once."""
    if key is None:
        return
    configs: list[dict[str, Any]] = []
    index: dict[str, int] = {}
    rows = []
    for job in jobs:
        config = {k: v for k, v in job.config.items() if k != "seed"}
        text = json.dumps(config, sort_keys=True)
        if text not in index:
            index[text] = len(configs)
            configs.append(config)
        row = {name: getattr(job, name) for name in _KEPT}
        rows.append(row | {"folder": str(job.folder), "config": index[text]})
    write_text(path, json.dumps({"key": key, "configs": configs, "jobs": rows}))


def _job(row: dict[str, Any], config: dict[str, Any]) -> Job:
    return Job(**{**row, "folder": Path(row["folder"]), "config": {**config, "seed": row["seed"]}})
