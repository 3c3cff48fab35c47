"""The problem sets by name. One line each: where the class lives; it is imported when it is used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from harness.errors import unknown
from harness.problems import Benchmark

_BENCHMARKS = {
    "aime24": "benchmarks.aime24:Aime24",
    "aime25": "benchmarks.aime25:Aime25",
    "amc22_23": "benchmarks.amc22_23:Amc2223",
    "amc23": "benchmarks.amc23:Amc23",
    "dapo-math-17k": "benchmarks.dapo_math_17k:DapoMath17k",
    "gsm8k": "benchmarks.gsm8k:Gsm8k",
    "math-l3to5": "benchmarks.math_l3to5:MathL3to5",
    "math500": "benchmarks.math500:Math500",
    "micro": "benchmarks.micro.testbed:Micro",
    "minerva": "benchmarks.minerva:Minerva",
    "olympiadbench": "benchmarks.olympiadbench:OlympiadBench",
}
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
        _instances[name] = _class(name)()
    return _instances[name]


def load_from(name: str, data_dir: str | None, accept: str) -> Benchmark:
    """A benchmark that reads its files in ``data_dir`` and takes the contents that ``accept`` names.

    One that generates its problems needs neither. Raises as :func:`load`.
    """
    if name not in _BENCHMARKS or not (data_dir or accept) or not hasattr(_class(name), "parts"):
        return load(name)
    benchmark: Benchmark = _class(name)(data_dir=data_dir, accept=accept)
    return benchmark


def _class(name: str) -> Any:
    module, _, attribute = _BENCHMARKS[name].partition(":")
    return getattr(import_module(module), attribute)
