"""The benchmark registry: ``@register_benchmark("name")`` on a class in a file of ``benchmarks/``.

Names are found by reading the files' syntax; a benchmark's module is imported when it is used. A benchmark
may ship models: ``models={"micro": "base"}`` gives each the folder beside the file that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.problems.problem import Benchmark
from harness.registry.folders import folders, import_file, registered
from harness.util.errors import UserError, unknown

B = TypeVar("B", bound=type)
_instances: dict[str, Benchmark] = {}


@dataclass(frozen=True)
class BenchmarkEntry:
    """Where a benchmark lives: its file, its class, and the models that come with it."""

    name: str
    file: Path
    class_name: str
    models: Mapping[str, Path]


def register_benchmark(name: str, *, models: Mapping[str, str] | None = None) -> Callable[[B], B]:
    """Class decorator: make a :class:`~harness.problems.problem.Benchmark` known as ``name``.

    Args:
        models: names that ``model.path`` accepts, each with its folder beside the file. Both are literals,
            because they are read from the syntax.
    """

    def add(cls: B) -> B:
        cls.name = name  # type: ignore[attr-defined]
        return cls

    return add


def entries() -> dict[str, BenchmarkEntry]:
    """All registered benchmarks by name, sorted.

    Raises:
        UserError: two files register the same name.
    """
    found: dict[str, BenchmarkEntry] = {}
    for home in folders("benchmarks"):
        for file in sorted(home.path.rglob("*.py")):
            for item in registered(file, "register_benchmark"):
                if item.name in found:
                    raise UserError(
                        f"benchmark '{item.name}' is registered twice: {found[item.name].file} and {file}; "
                        "rename one"
                    )
                models = dict(dict(item.options).get("models") or {})
                places = {model: file.parent / folder for model, folder in models.items()}
                found[item.name] = BenchmarkEntry(item.name, file, item.class_name, places)
    return dict(sorted(found.items()))


def names() -> list[str]:
    return list(entries())


def shipped_models() -> dict[str, Path]:
    """Models that come with a benchmark, by the name that ``model.path`` accepts."""
    return {model: path for entry in entries().values() for model, path in entry.models.items()}


def load(name: str) -> Benchmark:
    """The benchmark called ``name`` (one instance per process).

    Raises:
        UserError: unknown name; the message names the nearest ones.
    """
    if name not in _instances:
        _instances[name] = _class(name)()
    return _instances[name]


def load_from(name: str, data_dir: str | None, accept: str) -> Benchmark:
    """A benchmark that reads its files in ``data_dir`` and takes the contents that ``accept`` names.

    One that generates its problems needs neither. Raises as :func:`load`.
    """
    if not (data_dir or accept) or not hasattr(_class(name), "parts"):
        return load(name)
    benchmark: Benchmark = _class(name)(data_dir=data_dir, accept=accept)
    return benchmark


def _class(name: str) -> Any:
    known = entries()
    if name not in known:
        raise unknown("benchmark", name, known)
    entry = known[name]
    return getattr(import_file(entry.file, "benchmarks"), entry.class_name)
