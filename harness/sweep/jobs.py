"""One unit of work of a sweep, and what the sweep layer needs from the runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.config.schema import RunConfig
from harness.evaluation.in_run import check_run
from harness.model.checks import check_model
from harness.model.source import resolve_model
from harness.records.record import RunResult
from harness.registry import benchmarks, methods
from harness.rollout.settings import check_installed
from harness.run import execute as runs
from harness.run.compose import compose
from harness.run.identity import NUMERICS_VERSION
from harness.sweep.sections import method_reference
from harness.util.errors import unknown


@dataclass(frozen=True)
class Job:
    """A run, or the evaluation of an untrained model.

    Attributes:
        key: the cell of the sweep, the same whatever the code is: role/label/model/benchmark/seed.
        role: method, control, base or trial.
        label: the row's name in tables.
        run_id: the identity's name; the run's folder is called so.
        config: the resolved run, see :func:`harness.config.schema.to_dict`.
        evaluate: also sample the test sets.
        choice: what tuning chose for it, None when untuned.
        changes: of a control, what it changes of the tuned run; of the untrained model, of its plain row.
        model, training_set: names of the sweep's entries, ``default`` where it has none.
    """

    key: str
    role: str
    label: str
    method: str
    seed: int
    run_id: str
    folder: Path
    config: Mapping[str, Any]
    evaluate: bool = True
    choice: Mapping[str, Any] | None = None
    changes: Mapping[str, Any] | None = None
    model: str = "default"
    training_set: str = "default"

    @property
    def setting(self) -> str:
        """Model and training set: rows are compared within a setting only."""
        return f"{self.model}/{self.training_set}"

    @property
    def table_setting(self) -> tuple[str, str]:
        """Model and training set as tables name them."""
        default = (str(self.config["model"]["path"]), str(self.config["data"]["benchmark"]))
        named = (self.model, self.training_set)
        return (
            default[0] if named[0] == "default" else named[0],
            default[1] if named[1] == "default" else named[1],
        )

    @property
    def table_seed(self) -> int | None:
        """The seed, where it means something: an untrained model has none."""
        return None if self.role == "base" else self.seed

    @property
    def name(self) -> str:
        """How progress lines call it."""
        return self.label if self.table_seed is None else f"{self.label} seed {self.seed}"

    @property
    def splits(self) -> tuple[str, ...]:
        """Test sets that the finished run has samples of."""
        return tuple(self.config["eval"]["splits"]) if self.evaluate else ()

    @property
    def threads(self) -> int:
        return int(self.config["train"]["threads"])

    @property
    def processes(self) -> int:
        """Processes that the run starts on one machine; 0 is one for each GPU there."""
        return int(self.config["train"].get("processes", 1))

    @property
    def cores(self) -> int:
        """CPU cores that the run keeps busy on one machine, as far as its configuration says."""
        return self.threads * max(1, self.processes)

    def payload(self) -> dict[str, Any]:
        """What a worker needs, as plain values."""
        kept = ("key", "role", "label", "run_id", "evaluate")
        return {k: getattr(self, k) for k in kept} | {"folder": str(self.folder), "config": dict(self.config)}


class Backend(Protocol):
    """What a sweep asks of the runs.

    Attributes:
        numerics_version: of runs that start now.
    """

    numerics_version: int

    def compose(self, settings: Mapping[str, Any]) -> RunConfig: ...

    def identity(self, run: RunConfig) -> str: ...

    def folder(self, run: RunConfig) -> Path: ...

    def base_folder(self, run: RunConfig) -> Path: ...

    def result(self, folder: Path) -> RunResult: ...

    def method_hash(self, method: str) -> str: ...


class Runs:
    """The backend: :mod:`harness.run.execute`, with what is the same for many runs looked up once."""

    numerics_version = NUMERICS_VERSION

    def __init__(self) -> None:
        self._classes: dict[str, Any] = {}
        self._benchmarks, self._models = benchmarks.names(), benchmarks.shipped_models()

    def compose(self, settings: Mapping[str, Any]) -> RunConfig:
        named = {key: _with_full_path(key, value) for key, value in settings.items()}
        run = compose(named, load=self._load)
        check_names(run, self._benchmarks, self._models)
        return run

    def _load(self, name: str) -> Any:
        cls = self._classes.get(name)
        if cls is None or getattr(sys.modules.get(cls.__module__), cls.__name__, None) is not cls:
            cls = self._classes[name] = methods.load(name)
        return cls

    def identity(self, run: RunConfig) -> str:
        return runs.identity(run)

    def folder(self, run: RunConfig) -> Path:
        return runs.run_folder(run)

    def base_folder(self, run: RunConfig) -> Path:
        return runs.base_folder(run)

    def result(self, folder: Path) -> RunResult:
        return runs.result(folder)

    def method_hash(self, method: str) -> str:
        return str(methods.find(method).hash)


def _with_full_path(key: str, value: Any) -> Any:
    """A method file's full path, so that workers and later commands find it from anywhere."""
    named = key == "method" or key.startswith("+")
    return method_reference(value) if named and isinstance(value, str) and ".py" in value else value


def check_names(run: RunConfig, known: Sequence[str], shipped: Mapping[str, Path]) -> None:
    """Refuse a mistyped benchmark, split or model before any work.

    Args:
        known: registered benchmarks; shipped: the models that come with them.

    Raises:
        UserError: names the nearest valid ones.
    """
    splits = list(benchmarks.load(run.data.benchmark).splits())
    for split in (run.data.train_split, run.data.validation_split, *run.eval.splits):
        if split not in splits:
            raise unknown(
                f"split of {run.data.benchmark}",
                split,
                splits,
                "(eval.splits=… or eval.benchmarks=… sets what is evaluated)",
            )
    check_run(run, known)
    check_installed(run)
    check_model(run, resolve_model(run.model.path, shipped))
