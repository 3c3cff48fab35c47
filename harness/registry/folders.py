"""Where entries are found: the checkout's folders, and those that installed packages offer as entry points.

``harness/`` imports neither ``methods`` nor ``benchmarks`` by name. A folder of entries is the one beside
``harness/``, or that of a package which a distribution names in the entry-point group ``entrobench.methods``
or ``entrobench.benchmarks``:

    [project.entry-points."entrobench.methods"]
    mine = "my_package.methods"

Files are read as syntax, so that listing entries imports nothing.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.util.environment import ROOT
from harness.util.errors import UserError


@dataclass(frozen=True)
class Folder:
    """A folder of entries, importable as ``package``."""

    path: Path
    package: str

    def module_of(self, file: Path) -> str:
        """The name that ``file`` is imported by, e.g. ``methods.dapo``."""
        return ".".join((self.package, *file.relative_to(self.path).with_suffix("").parts))


@cache
def folders(kind: str) -> tuple[Folder, ...]:
    """The folders of ``methods`` or ``benchmarks``, the shipped one first.

    Raises:
        UserError: an entry point names a package that is not there.
    """
    found = {(ROOT / kind): Folder(ROOT / kind, kind)} if (ROOT / kind).is_dir() else {}
    for point in sorted(entry_points(group=f"entrobench.{kind}"), key=lambda point: point.name):
        try:
            spec = importlib.util.find_spec(point.value)
        except ImportError:
            spec = None
        if spec is None or not spec.submodule_search_locations:
            owner = point.dist.name if point.dist else "a distribution"
            raise UserError(
                f"{owner} offers {kind} in '{point.value}', which is no package here; install it again or "
                "uninstall it"
            )
        path = Path(list(spec.submodule_search_locations)[0]).resolve()
        found.setdefault(path, Folder(path, point.value))
    return tuple(found.values())


def home_of(file: Path, kind: str) -> Folder | None:
    """The folder of entries that ``file`` lies in; None for a file of its own."""
    return next((folder for folder in folders(kind) if file.resolve().is_relative_to(folder.path)), None)


@dataclass(frozen=True)
class Registered:
    """A class with a decorator, as its syntax says: the name, the class, and literal keyword arguments."""

    name: str
    class_name: str
    options: tuple[tuple[str, Any], ...] = ()


def registered(file: Path, decorator: str) -> tuple[Registered, ...]:
    """What ``file`` registers by ``decorator``, in its order.

    Raises:
        UserError: the file is not valid Python.
    """
    stat = file.stat()
    return _registered(file, decorator, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=2048)
def _registered(file: Path, decorator: str, mtime_ns: int, size: int) -> tuple[Registered, ...]:
    """Read once per version of the file: a plan of a thousand runs asks as often."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise UserError(f"{file}:{error.lineno}: not valid Python: {error.msg}") from error
    return tuple(_decorators(tree, decorator))


def _decorators(tree: ast.Module, decorator: str) -> Iterator[Registered]:
    for node in tree.body:
        for call in node.decorator_list if isinstance(node, ast.ClassDef) else ():
            match call:
                case ast.Call(
                    func=ast.Name(id=used), args=[ast.Constant(value=str(name)), *_], keywords=more
                ):
                    if used == decorator:
                        options = tuple((str(k.arg), ast.literal_eval(k.value)) for k in more)
                        yield Registered(name, node.name, options)  # type: ignore[attr-defined]


def import_file(file: Path, kind: str) -> ModuleType:
    """The module of ``file``, imported once: from its package, or under a name of its own."""
    folder = home_of(file, kind)
    if folder is not None:
        module = importlib.import_module(folder.module_of(file.resolve()))
        if Path(module.__file__ or "").resolve() != file.resolve():
            raise UserError(
                f"{module.__name__} is {module.__file__ or 'a folder without code'}, not {file}: something "
                f"called '{folder.package}' stands before it in sys.path; take it away"
            )
        return module
    name = f"entrobench_{kind}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec: Any = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception:
        del sys.modules[name]
        raise
    return module
