"""The problem sets by name. One line each: where the class lives; it is imported when it is used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from harness.errors import unknown
from harness.problems import Benchmark

_BENCHMARKS = {"micro": "benchmarks.micro.testbed:Micro"}
#: Models that come with a benchmark, by the name that ``model.path`` accepts.
_MODELS = {"micro": Path(__file__).parent / "micro" / "base"}
_instances: dict[str, Benchmark] = {}


def names() -> list[str]:
    return sorted(_BENCHMARKS)


def shipped_models() -> dict[str, Path]:
    return dict(_MODELS)


def load(name: str) -> Benchmark:
    """The benchmark called ``name`` (one instance per process).

    Raises:
        UserError: unknown name; the message names the nearest ones.
    """
    if name not in _BENCHMARKS:
        raise unknown("benchmark", name, _BENCHMARKS)
    if name not in _instances:
        module, _, attribute = _BENCHMARKS[name].partition(":")
        _instances[name] = getattr(import_module(module), attribute)()
    return _instances[name]
