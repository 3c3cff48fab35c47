"""Fixtures that several test files share."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

# One thread, so that tests that run beside each other do not slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Until the tests are collected nothing that is imported becomes garbage; to look for it takes a fifth longer.
gc.disable()

ROOT = Path(__file__).parent.parent

#: A worker without a trainer: a run is three steps of a status file.
FAKE_WORKER = """
    import json, os, platform, sys, time
    from pathlib import Path

    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    seed = job["config"]["seed"]

    def status(state, step, **more):
        body = dict(state=state, step=step, steps=3, phase="train", pid=os.getpid(), host=platform.node(),
                    updated_unix_s=time.time(), reward=0.5, entropy=1.0, eta_s=3 - step, **more)
        (folder / "status.json").write_text(json.dumps(body))

    with open(folder / "starts", "a") as handle:
        handle.write("x")
    for step in range(1, 4):
        status("running", step)
        time.sleep(float(os.environ.get("FAKE_STEP_S", "0")))
    if os.environ.get("FAKE_FAIL") == job["label"]:
        status("failed", 3, error=["ValueError: broken on purpose"])
        sys.exit(1)
    (folder / "eval").mkdir(exist_ok=True)
    if job["evaluate"]:
        for split in job["config"]["eval"]["splits"]:
            (folder / "eval" / f"{split}.parquet").write_text("")
    lr = job["config"]["train"]["lr"]
    ev = job["config"]["eval"]
    # the closer the temperature is to 0.8, the more are right
    right = round(ev["n"] * (0.5 - 0.5 * abs(ev["temperature"] - 0.8)))
    tried = ev["splits"] == ["validation"]
    result = {"schema": 2, "run_id": folder.name, "method": job["config"]["method_name"], "seed": seed,
              "model": "micro", "benchmark": "micro@1", "numerics_version": 1, "method_hash": "m",
              "hyperparameters": job["config"]["method"],
              "evals": {"validation": {"n": ev["n"], "correct": [right, 0]}} if tried else {},
              "validation": {"pass@1": round(lr * 1000, 6), "pass@8": 0.5}}
    (folder / "result.json").write_text(json.dumps(result))
    status("done", 3)
"""


class FakeBackend:
    """The real configuration, with identities that cost nothing."""

    numerics_version = 1

    def __init__(self) -> None:
        self.code = "1"

    def compose(self, settings: Mapping[str, Any]) -> Any:
        from harness.run.compose import compose

        return compose(settings)

    def identity(self, run: Any) -> str:
        from harness.config.schema import to_dict

        text = json.dumps({k: v for k, v in to_dict(run).items() if k != "runs_dir"}, sort_keys=True)
        return hashlib.sha256((self.code + text).encode()).hexdigest()[:12]

    def folder(self, run: Any) -> Path:
        return Path(run.runs_dir) / f"{run.method_name}-s{run.seed}-{self.identity(run)}"

    def base_folder(self, run: Any) -> Path:
        return Path(run.runs_dir) / f"base-{self.identity(run)}"

    def result(self, folder: Path) -> Any:
        from harness.records.load import read_result

        return read_result((folder / "result.json").read_bytes())

    def method_hash(self, method: str) -> str:
        return "m"


@pytest.fixture(scope="session", autouse=True)
def _shared_forkers() -> Iterator[None]:
    """Graders of this process get their forkers from one process; it starts with the first that needs it."""
    from harness.grading import children
    from tests.helpers.forkers import Shared

    shared, start = Shared(), children.start
    children.start = shared.start  # type: ignore[assignment]
    yield
    children.start = start
    shared.close()


@pytest.fixture
def forkers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graders start new interpreters, as they do outside of tests."""
    from tests.helpers.forkers import new_interpreter

    monkeypatch.setattr("harness.grading.children.start", new_interpreter)


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are composed and stay white: for tests of a report's texts, most of whose time is paint."""
    agg = "matplotlib.backends.backend_agg.FigureCanvasAgg"
    monkeypatch.setattr(f"{agg}.draw", lambda canvas: canvas.get_renderer())


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command that starts a fake worker; it is done long before a real one would be looked at again."""
    monkeypatch.setattr("harness.sweep.local.POLL_S", 0.02)
    script = tmp_path / "fake_worker.py"
    script.write_text(textwrap.dedent(FAKE_WORKER))
    return [sys.executable, str(script)]


@pytest.fixture
def sweep_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small sweep file; keyword arguments replace or add top-level keys."""
    import yaml

    def write(stem: str = "small", **changes: Any) -> Path:
        body: dict[str, Any] = {
            "methods": ["grpo", "dapo"],
            "seeds": [1, 2],
            "settings": {"train": {"steps": 3}, "eval.n": 4},
            "runs_dir": str(tmp_path / "runs"),
            "results_dir": str(tmp_path / "results"),
        }
        body |= changes
        path = tmp_path / f"{stem}.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in body.items() if v is not None}, sort_keys=False))
        return path

    return write


#: Where the tests on Slurm are, which share one cluster.
SLURM = "tests/slurm/"


def _scope(file: str) -> str:
    """What runs in one process, in order: a file; all tests on Slurm."""
    return SLURM if file.startswith(SLURM) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``--dist loadfile``, with the tests on Slurm together: they wait for it while others compute."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByScope(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(super()._split_scope(nodeid))

    return ByScope(config, log)


#: Of the tests on Slurm when they are put in order. Their clocks want a machine with room: they begin when
#: vLLM's tests, which run beside the others from the start, are through.
SLURM_S = 32.0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first where processes share the tests, so that none is left with a long file in the end."""
    if not hasattr(config, "workerinput"):  # it is the workers' order that counts, and they have no --dist
        return
    known = json.loads(Path(__file__).with_name("seconds.json").read_text()) | {SLURM: SLURM_S}
    # a new file may be long, too
    items.sort(key=lambda item: -known.get(_scope(item.nodeid.partition("::")[0]), float("inf")))


def pytest_collection_finish() -> None:
    """Garbage is looked for among what the tests make, not again and again in modules and collected tests."""
    gc.collect()
    gc.freeze()
    gc.enable()


class Seconds:
    """Keeps what each test file took, in pytest's cache: ``tests/changed.py`` chooses by it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._spent = config, dict[str, float]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = report.nodeid.partition("::")[0]
        self._spent[file] = self._spent.get(file, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        cache = getattr(self._config, "cache", None)
        whole = not self._config.option.keyword and not any("::" in word for word in self._config.args)
        if cache is not None and whole:
            cache.set("entrobench/seconds", cache.get("entrobench/seconds", {}) | self._spent)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Seconds(config), "entrobench-seconds")
