"""The method registry: ``@register("name")`` on a class in a file of this folder is all it takes.

Names are found by reading the files' syntax, so listing methods imports nothing; a method's module is
imported when the method is used. A file outside the package is named ``path/to/file.py`` or
``path/to/file.py:name``; stages of several methods are composed by ``base+station=method``
(:mod:`harness.composition`).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from harness.composition import composed_class, is_composed, parse
from harness.errors import UserError, unknown
from harness.method import Method
from harness.registry import meaning
from harness.registry.sources import parse as parse_file
from harness.registry.sources import registered_names

M = TypeVar("M", bound=type[Method])
D = TypeVar("D", bound=type)
_loaded: dict[str, type[Method]] = {}
_composed: dict[tuple[Any, ...], type[Method]] = {}
_diagnostics: dict[str, type] = {}
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
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
        """What the method's code means (:mod:`harness.registry.meaning`): part of a run's identity."""
        return meaning.identity(self.file, self.name)


@dataclass(frozen=True)
class ComposedEntry(Entry):
    """A composed method: its base, and the entry that each further station comes from."""

    base: Entry
    parts: tuple[tuple[str, Entry], ...]

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
    """Class decorator: make a :class:`~harness.method.Method` known as ``name``.

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
    """Class decorator: make a :class:`~harness.stages.Diagnostic` known as ``name``.

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
    stat = file.stat()
    return list(_names_in(file, decorator, stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=1024)
def _names_in(file: Path, decorator: str, mtime_ns: int, size: int) -> tuple[str, ...]:
    """Read once per version of the file: a plan of a thousand runs asks as often."""
    return tuple(name for node in parse_file(file).body for name in registered_names(node, decorator))


def entries(folder: Path = FOLDER) -> dict[str, Entry]:
    """All registered methods of ``folder`` by name, sorted.

    Raises:
        ValueError: two files register the same name.
    """
    found: dict[str, Entry] = {}
    for file in sorted(folder.glob("*.py")):
        if file.name in ("__init__.py", "registry.py", "cards.py"):
            continue
        for name in names_in(file):
            if name in found:
                raise ValueError(
                    f"method '{name}' is registered twice: {found[name].file.name} and {file.name}"
                )
            found[name] = Entry(name, file)
    return dict(sorted(found.items()))


def find(name: str) -> Entry:
    """The entry of ``name``, of ``path/to/file.py[:name]``, or of several in ``base+station=method``.

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
        return Entry(chosen, file.resolve())
    known = entries()
    if name not in known:
        raise unknown("method", name, known, "(entrobench methods lists all)")
    return known[name]


def _find_composed(name: str) -> Entry:
    entries_of: dict[str, Entry] = {}

    def named(method: str) -> str:
        entry = find(method)
        if entries_of.setdefault(entry.name, entry).file != entry.file:
            raise UserError(f"method '{name}' names two files that register '{entry.name}'; rename one")
        return entry.name

    composition = parse(name).renamed(named)
    base = entries_of[composition.base]
    if not composition.parts:
        return base
    parts = tuple((station, entries_of[method]) for station, method in composition.parts)
    return ComposedEntry(composition.name, base.file, base, parts)


def load(name: str) -> type[Method]:
    """The method class of ``name`` (see :func:`find`); imports its module."""
    return _load(find(name))


def _load(entry: Entry) -> type[Method]:
    if isinstance(entry, ComposedEntry):
        base, parts = _load(entry.base), [(s, part.name, _load(part)) for s, part in entry.parts]
        key = (entry.name, base, *(cls for *_, cls in parts))
        if key not in _composed:
            _composed[key] = composed_class(entry.name, (entry.base.name, base), parts)
        return _composed[key]
    if entry.name not in _loaded or not entry.file.is_relative_to(FOLDER):
        _import(entry.file)
    return _loaded[entry.name]


def forget(modules: Container[str]) -> None:
    """Drop the classes of ``modules``: they are imported again when they are used."""
    _composed.clear()
    for name in [name for name, cls in _loaded.items() if cls.__module__ in modules]:
        del _loaded[name]


def diagnostics(folder: Path = FOLDER) -> dict[str, Path]:
    """The file of every registered diagnostic by name, sorted."""
    return dict(sorted((n, file) for file in folder.glob("*.py") for n in names_in(file, "diagnostic")))


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
        _import(file)
    return _diagnostics[name]


def _import(file: Path) -> ModuleType:
    if file.parent == FOLDER:
        return importlib.import_module(f"methods.{file.stem}")
    module_name = f"entrobench_method_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec: Any = importlib.util.spec_from_file_location(module_name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception:
        del sys.modules[module_name]
        raise
    return module
