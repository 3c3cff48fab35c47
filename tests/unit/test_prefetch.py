"""Models and data are fetched before, checked at submit, and read without a network. No hub is asked here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.problem_sets import rows as math_data
from harness.problem_sets.math_set import MathSet
from harness.problem_sets.rows import Hub, Part
from harness.problems.text import content_digest
from harness.registry import benchmarks as registry
from harness.sweep.prefetch import Need, fetch, incomplete, missing, needs
from harness.util.errors import UserError
from harness.util.offline import offline_environment

Write = Callable[..., Path]
ROWS = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(40)]
DIGEST = content_digest((row["question"], row["answer"]) for row in ROWS)


class Doubles(MathSet):
    """A set whose hub copy is the rows above."""

    name = "doubles"
    parts = {"train": Part("doubles", 40, DIGEST, Hub("org/doubles", split="train"))}


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Makes the set known; yields what the stand-in for the hub was asked for."""
    asked: list[str] = []

    def table(name: str, part: Part) -> Any:
        asked.append(str(part.hub))
        return ROWS

    monkeypatch.setattr(math_data, "_hub_table", table)
    monkeypatch.setenv("ENTROBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ENTROBENCH_DATA", raising=False)
    known, entry = registry.entries(), registry.BenchmarkEntry("doubles", Path(__file__), "Doubles", {})
    monkeypatch.setattr(registry, "entries", lambda: {**known, "doubles": entry})
    monkeypatch.setitem(registry._instances, "doubles", Doubles())
    yield asked


@pytest.fixture
def hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def _model(folder: Path, shards: tuple[str, ...] = (), lost: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    if shards:
        index = {"weight_map": {f"layer.{i}": name for i, name in enumerate(shards)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in shards or ("model.safetensors",):
        if name not in lost:
            (folder / name).write_text("x")
    return folder


def _cached(hub: Path, name: str, revision: str = "main", **more: Any) -> Path:
    """A snapshot laid out as the hub's cache has it."""
    folder = hub / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / revision).write_text("c0ffee")
    return _model(folder / "snapshots" / "c0ffee", **more)


def test_needs_are_the_models_and_splits_of_all_runs_each_once(sweep_file: Write) -> None:
    from harness.sweep.jobs import Runs
    from harness.sweep.plan import make_plan
    from harness.sweep.spec import load_sweep

    path = sweep_file(
        models={"org/a": None, "micro": None}, training_sets=["gsm8k"], methods=["grpo"],
        settings={"eval.benchmarks": ["math500", "gsm8k:validation"], "model.revision": "v2"},
    )  # fmt: skip
    jobs = make_plan(load_sweep(path), Runs())
    assert [str(need) for need in needs(job.config for job in jobs)] == [
        "data gsm8k (train)", "data gsm8k (validation)", "data math500 (test)", "model micro (v2)",
        "model org/a (v2)",
    ]  # fmt: skip


def test_a_model_that_a_method_names_is_a_need(sweep_file: Write) -> None:
    from harness.sweep.jobs import Runs
    from harness.sweep.plan import make_plan
    from harness.sweep.spec import load_sweep

    path = sweep_file(methods=["grpo", "mentor"], per_method={"mentor": {"method.expert": "org/expert"}})
    wanted = needs(job.config for job in make_plan(load_sweep(path), Runs()))
    assert [n.name for n in wanted if n.kind == "model" and n.name != "micro"] == ["org/expert"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"shards": ("a.safetensors", "b.safetensors")}, ""),
        ({"shards": ("a.safetensors", "b.safetensors"), "lost": ("b.safetensors",)}, "1 of 2 weight files"),
    ],
)
def test_a_model_is_whole_when_every_shard_is_there(tmp_path: Path, change: Any, reason: str) -> None:
    assert incomplete(_model(tmp_path / "m", **change)).startswith(reason) and bool(reason) == bool(
        incomplete(tmp_path / "m")
    )


@pytest.mark.parametrize("lost", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_model_without_one_of_its_parts_is_refused(tmp_path: Path, lost: str) -> None:
    folder = _model(tmp_path / "m")
    (folder / lost).unlink()
    found = dict(missing([Need("model", str(folder), "main")]))
    assert len(found) == 1 and ("no " in next(iter(found.values())))
    with pytest.raises(UserError, match="a local folder must hold the whole model"):
        fetch(Need("model", str(folder), "main"))


def test_a_hub_model_is_looked_for_in_the_cache(hub_cache: Path) -> None:
    need = Need("model", "org/small", "main")
    assert dict(missing([need])) == {need: "not in the hub's cache"}
    folder = _cached(hub_cache, "org/small")
    assert not dict(missing([need])) and fetch(need) == str(folder)
    assert dict(missing([Need("model", "org/small", "v2")])), "another revision is another model"
    (folder / "model.safetensors").unlink()
    assert "no weights" in dict(missing([need]))[need]


def test_without_a_network_a_model_that_is_not_here_says_so(hub_cache: Path) -> None:
    with pytest.raises(UserError, match=r"cannot fetch model org/absent \(main\): .+"):
        fetch(Need("model", "org/absent", "main"))


def test_data_is_fetched_once_and_then_read_without_the_hub(
    doubles: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    need = Need("data", "doubles", "train")
    assert dict(missing([need])) == {need: "not fetched from the hub yet"}
    from_hub = [p.id for p in registry.load("doubles").problems("train")]
    assert "40 rows from hub:org/doubles" in fetch(need)
    assert not dict(missing([need]))

    def unreachable(name: str, part: Part) -> Any:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(math_data, "_hub_table", unreachable)
    fresh = Doubles()
    assert [p.id for p in fresh.problems("train")] == from_hub
    assert fresh.fingerprint() == registry.load("doubles").fingerprint()
    assert "fetched to" in fetch(need)
    copy = next((tmp_path / "cache").glob("doubles-*.jsonl"))
    copy.write_text("".join(copy.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="39 rows instead of 40"):
        Doubles().problems("train")


def test_local_data_is_only_checked(
    doubles: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENTROBENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    need = Need("data", "doubles", "train")
    assert "no doubles.jsonl" in dict(missing([need]))[need]
    rows = [{"id": str(i), "problem": r["question"], "answer": r["answer"]} for i, r in enumerate(ROWS)]
    (tmp_path / "data" / "doubles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not dict(missing([need])) and fetch(need) == str(tmp_path / "data" / "doubles.jsonl")
    assert doubles == [] and not (tmp_path / "cache").exists()


def test_generated_problems_and_shipped_models_are_always_here(sweep_file: Write, capsys: Any) -> None:
    path = sweep_file(methods=["grpo"], seeds=[1])
    assert main(["prefetch", str(path)]) == 0
    assert "all 6 are here; jobs need no network" in capsys.readouterr().out


def test_the_command_names_what_failed_and_goes_on(
    doubles: list[str], hub_cache: Path, sweep_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_file(
        models=["org/absent"], training_sets=["doubles"], methods=["grpo"], seeds=[1],
        settings={"eval.splits": ["validation"]},
    )  # fmt: skip
    assert main(["prefetch", str(path)]) == 1
    out = capsys.readouterr().out
    assert "data doubles (train): 40 rows from hub:org/doubles" in out
    assert "model org/absent (main): FAILED: cannot fetch" in out
    assert "1 of 3 are still missing; run it again where there is a network" in out


@pytest.mark.parametrize("verb", ["submit", "retry", "tune"])
def test_submit_refuses_before_any_work(
    doubles: list[str], hub_cache: Path, sweep_file: Write, tmp_path: Path, verb: str, capsys: Any
) -> None:
    path = sweep_file(
        models=["org/absent"], training_sets=["doubles"], methods=["grpo"], seeds=[1],
        settings={"eval.splits": ["validation"]},
        tuning={"lrs": [1e-4], "seed": 9, "knobs": {"grpo": {"eps_high": [0.2, 0.3]}}},
    )  # fmt: skip
    assert main(["sweep", verb, str(path)]) == 2
    said = capsys.readouterr().err
    assert "model org/absent (main): not in the hub's cache" in said and said.count("\n") == 1
    assert f"Fetch it where there is a network: entrobench prefetch {path}" in said
    assert not list((tmp_path / "runs").glob("[!.]*"))
    assert "data doubles (train): not fetched from the hub yet" in said


def test_jobs_look_where_prefetch_put_things(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "ENTROBENCH_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", "models")
    found = offline_environment()
    assert found["HF_HUB_OFFLINE"] == found["TRANSFORMERS_OFFLINE"] == found["HF_DATASETS_OFFLINE"] == "1"
    assert found["HF_HOME"] == str(tmp_path / "models") and "secret" not in found.values()
    assert "HF_HUB_CACHE" not in found
