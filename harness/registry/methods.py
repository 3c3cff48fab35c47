"""The method registry: ``@register("name")`` on a class in a file of ``methods/`` is all it takes.

Names are found by reading the files' syntax, so listing methods imports nothing; a method's module is
imported when the method is used. A file outside the package is named ``path/to/file.py`` or
``path/to/file.py:name``; stages of several methods are composed by ``base+stage=method``
(:mod:`harness.config.composition`). An installed package adds a folder of methods by an entry point
(:mod:`harness.registry.folders`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from harness.config.composition import is_composed, parse
from harness.meaning import digest
from harness.registry.folders import folders, home_of, import_file, registered
from harness.stages.composed import composed_class
from harness.stages.method import Method
from harness.util.errors import UserError, unknown

M = TypeVar("M", bound=type[Method])
D = TypeVar("D", bound=type)
_loaded: dict[str, type[Method]] = {}
_composed: dict[tuple[Any, ...], type[Method]] = {}
_diagnostics: dict[str, type] = {}


@dataclass(frozen=True)
class MethodEntry:
    """Where a method lives: its name, its file and its card (``<file stem>.md`` or ``<name>.md``)."""

    name: str
    file: Path

    @property
    def slug(self) -> str:
        return self.name.split("@")[0]

    @property
    def card_path(self) -> Path:
        own = self.file.with_name(f"{self.name.replace('@', '_')}.md")
        return own if own.exists() else self.file.with_suffix(".md")

    @property
    def hash(self) -> str:
        """What the method's code means (:mod:`harness.meaning.digest`): part of a run's identity."""
        return digest.identity(self.file, self.name)


@dataclass(frozen=True)
class ComposedEntry(MethodEntry):
    """A composed method: its base, and the entry that each further stage comes from."""

    base: MethodEntry
    parts: tuple[tuple[str, MethodEntry], ...]

    @property
    def slug(self) -> str:
        return self.name

    @property
    def card_path(self) -> Path:
        return self.base.card_path

    @property
    def hash(self) -> str:
        """Hash of the hashes of all that is in it."""
        involved = [self.base, *(entry for _, entry in self.parts)]
        return hashlib.sha256("".join(entry.hash for entry in involved).encode()).hexdigest()[:16]


def register(name: str) -> Callable[[M], M]:
    """Class decorator: make a :class:`~harness.stages.method.Method` known as ``name``.

    Raises:
        ValueError: the name is taken by another class.
    """

    def add(cls: M) -> M:
        there = _loaded.get(name)
        if there is not None and (there.__module__, there.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"method '{name}' is registered twice: {there.__module__} and {cls.__module__}")
        cls.name = name
        _loaded[name] = cls
        return cls

    return add


def diagnostic(name: str) -> Callable[[D], D]:
    """Class decorator: make a :class:`~harness.stages.base.Diagnostic` known as ``name``.

    Raises:
        ValueError: the name is taken by another class.
    """

    def add(cls: D) -> D:
        there = _diagnostics.get(name)
        if there is not None and (there.__module__, there.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(
                f"diagnostic '{name}' is registered twice: {there.__module__} and {cls.__module__}"
            )
        _diagnostics[name] = cls
        return cls

    return add


def names_in(file: Path, decorator: str = "register") -> list[str]:
    """Names registered in ``file``, read from its syntax."""
    return [found.name for found in registered(file, decorator)]


def entries(folder: Path | None = None) -> dict[str, MethodEntry]:
    """All registered methods by name, sorted; of ``folder`` alone where it is given.

    Raises:
        ValueError: two files register the same name.
    """
    return dict(_entries(tuple(_versions(folder))))


@lru_cache(maxsize=16)
def _entries(versions: tuple[tuple[str, int, int], ...]) -> dict[str, MethodEntry]:
    """Read once per state of the folders: a plan of a thousand runs asks hundreds of times."""
    found: dict[str, MethodEntry] = {}
    for file in [Path(path) for path, _, _ in versions]:
        for name in names_in(file):
            if name in found:
                there = found[name].file
                both = (there.name, file.name) if there.parent == file.parent else (there, file)
                raise ValueError(f"method '{name}' is registered twice: {both[0]} and {both[1]}")
            found[name] = MethodEntry(name, file)
    return dict(sorted(found.items()))


def _versions(folder: Path | None) -> Iterator[tuple[str, int, int]]:
    """Every method file with its time and size."""
    for place in [folder] if folder else [home.path for home in folders("methods")]:
        if place.is_dir():
            with os.scandir(place) as found:
                files = [f for f in found if f.name.endswith(".py") and f.name != "__init__.py"]
            yield from sorted((f.path, f.stat().st_mtime_ns, f.stat().st_size) for f in files)


def find(name: str) -> MethodEntry:
    """The entry of ``name``, of ``path/to/file.py[:name]``, or of several in ``base+stage=method``.

    Raises:
        UserError: no such method; the message names the nearest ones.
    """
    if is_composed(name):
        return _find_composed(name)
    file_part, _, inner = name.partition(".py:")
    if name.endswith(".py") or inner:
        file = Path(f"{file_part}.py" if inner else name).expanduser()
        if not file.is_file():
            raise UserError(f"no method file {file}")
        names = names_in(file)
        if not names:
            raise UserError(f'{file} registers no method; put @register("name") on its class')
        chosen = inner or names[0]
        if chosen not in names:
            raise unknown(f"method in {file.name}", chosen, names)
        if chosen in entries() and entries()[chosen].file.resolve() != file.resolve():
            raise UserError(f"{file} registers '{chosen}', which is a built-in method; choose another name")
        return MethodEntry(chosen, file.resolve())
    known = entries()
    if name not in known:
        raise unknown("method", name, known, "(entrobench methods lists all)")
    return known[name]


def _find_composed(name: str) -> MethodEntry:
    entries_of: dict[str, MethodEntry] = {}

    def named(method: str) -> str:
        entry = find(method)
        if entries_of.setdefault(entry.name, entry).file != entry.file:
            raise UserError(f"method '{name}' names two files that register '{entry.name}'; rename one")
        return entry.name

    composition = parse(name).renamed(named)
    base = entries_of[composition.base]
    if not composition.parts:
        return base
    parts = tuple((stage, entries_of[method]) for stage, method in composition.parts)
    return ComposedEntry(composition.name, base.file, base, parts)


def load(name: str) -> type[Method]:
    """The method class of ``name`` (see :func:`find`); imports its module."""
    return _load(find(name))


def _load(entry: MethodEntry) -> type[Method]:
    if isinstance(entry, ComposedEntry):
        base, parts = _load(entry.base), [(s, part.name, _load(part)) for s, part in entry.parts]
        key = (entry.name, base, *(cls for *_, cls in parts))
        if key not in _composed:
            _composed[key] = composed_class(entry.name, (entry.base.name, base), parts)
        return _composed[key]
    if entry.name not in _loaded or home_of(entry.file, "methods") is None:
        import_file(entry.file, "methods")
    return _loaded[entry.name]


def diagnostics() -> dict[str, Path]:
    """The file of every registered diagnostic by name, sorted."""
    files = [Path(path) for path, _, _ in _versions(None)]
    return dict(sorted((name, file) for file in files for name in names_in(file, "diagnostic")))


def find_diagnostic(name: str) -> Path:
    """The file of the diagnostic ``name``.

    Raises:
        UserError: no such diagnostic; the message names the nearest ones.
    """
    known = diagnostics()
    if name not in known:
        raise unknown("diagnostic", name, known, "(entrobench methods lists all)")
    return known[name]


def load_diagnostic(name: str) -> type:
    """The class of the diagnostic ``name``; imports its module."""
    file = find_diagnostic(name)
    if name not in _diagnostics:
        import_file(file, "methods")
    return _diagnostics[name]
