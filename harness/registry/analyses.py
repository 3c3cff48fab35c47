"""The analyses: commands on finished runs, each a file of ``harness/analyses/`` with its card beside it.

``@analysis("name")`` on a class makes it known; names are read from the files' syntax, as those of methods.
An analysis trains nothing, so it is no method: no run names it, and no sweep ranks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from harness.registry.folders import registered
from harness.registry.methods import MethodEntry
from harness.util.errors import unknown

C = TypeVar("C", bound=type)
FOLDER = Path(__file__).parents[1] / "analyses"


@dataclass(frozen=True)
class AnalysisEntry(MethodEntry):
    """Where an analysis lives: its name, its file and its card (``<file stem>.md``)."""


def analysis(name: str) -> Callable[[C], C]:
    """Class decorator: make an analysis known as ``name``."""

    def add(cls: C) -> C:
        cls.name = name  # type: ignore[attr-defined]
        return cls

    return add


def entries() -> dict[str, AnalysisEntry]:
    """All analyses by name, sorted."""
    return dict(
        sorted(
            (found.name, AnalysisEntry(found.name, file))
            for file in FOLDER.glob("*.py")
            for found in registered(file, "analysis")
        )
    )


def find(name: str) -> AnalysisEntry:
    """The entry of ``name``.

    Raises:
        UserError: no such analysis; the message names the nearest ones.
    """
    known = entries()
    if name not in known:
        raise unknown("analysis", name, known)
    return known[name]


def load(name: str) -> Any:
    """The class of ``name``; imports its module."""
    entry = find(name)
    module = import_module(f"harness.analyses.{entry.file.stem}")
    return getattr(module, registered(entry.file, "analysis")[0].class_name)
