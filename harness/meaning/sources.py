"""Modules read as syntax: which names they bind, and which definition an imported name resolves to."""

from __future__ import annotations

import ast
import json
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from harness.meaning.bindings import Bindings, Import, changed_in_place, is_empty
from harness.meaning.syntax import Part, Writer
from harness.util.errors import UserError

ROOT = Path(__file__).parent.parent.parent
#: Packages of the project. What other packages define counts by its dotted name.
PACKAGES = ("harness", "methods", "benchmarks", "entrobench")
ENTRIES = "methods"
#: Modules among the entries that hold machinery: their names count like the harness's, not by content.
MACHINERY = ("methods",)
#: The literal dict of a package that imports what it exports when it is asked for: name -> module.
LAZY = "_EXPORTS"
MOVES = Path("harness", "meaning", "moves.json")

Stamp = tuple[int, int] | None
#: Statements that only bind names. All others may also do something when the module is imported.
_PLAIN = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.AugAssign)


class Defined(NamedTuple):
    """``name`` at the top level of ``module``; the module itself where ``name`` is empty."""

    module: str
    name: str = ""


@dataclass(frozen=True)
class Source:
    """The top level of a module, by the positions of its statements.

    Attributes:
        text: the statements as canonical text; empty for modules that count by name.
        binders: name -> the statements that bind or change it.
        imports: name -> what the module's imports bind it to.
        exports: name -> the module that a lazy export comes from.
        effects: statements that do more than bind names.
        modules: what the module's own imports may run.
        registered: name of a method -> its class.
    """

    text: list[list[Part]]
    binders: dict[str, tuple[int, ...]]
    imports: dict[str, list[Import]]
    exports: dict[str, str]
    effects: tuple[int, ...]
    modules: frozenset[str]
    registered: dict[str, str]


def stamp(file: str | Path) -> Stamp:
    """When ``file`` was written and its size; None where there is none."""
    try:
        stat = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_mtime_ns, stat.st_size


def parse(file: Path) -> ast.Module:
    """The syntax of ``file``.

    Raises:
        UserError: it is not valid Python.
    """
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise UserError(f"{file}:{error.lineno}: not valid Python: {error.msg}") from error


@lru_cache(maxsize=1024)
def read_source(file: Path, package: str, with_text: bool, version: Stamp) -> Source:
    """The top level of ``file``, read once per ``version``; relative imports start from ``package``.

    No syntax tree is kept: the garbage collector would go through it again and again.
    """
    body = parse(file).body
    bound = [Bindings(file, package).visit_all([node]) for node in body]
    binders: dict[str, list[int]] = {}
    imports: dict[str, list[Import]] = {}
    exports: dict[str, str] = {}
    effects = []
    for name, values in (item for each in bound for item in each.imports.items()):
        there = imports.setdefault(name, [])
        there += [value for value in values if value not in there]
    for at, node in enumerate(body):
        if is_empty(node):
            continue
        names = bound[at].names | {name for name in changed_in_place(node) if name not in imports}
        for name in names:
            binders.setdefault(name, []).append(at)
        if not isinstance(node, _PLAIN) or not names:
            effects.append(at)
        if LAZY in names and isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            exports = dict(ast.literal_eval(node.value))
    writer = Writer(file, package, set(binders), imports)
    return Source(
        [writer.write(node) for node in body] if with_text else [],
        {name: tuple(at) for name, at in binders.items()}, imports, exports, tuple(effects),
        frozenset(module for each in bound for module in each.modules),
        {name: getattr(node, "name", "") for node in body for name in registered_names(node)},
    )  # fmt: skip


def registered_names(node: ast.stmt, decorator: str = "register") -> list[str]:
    """The names that a class statement is registered as: ``@register("name")``."""
    if not isinstance(node, ast.ClassDef):
        return []
    calls = [call for call in node.decorator_list if isinstance(call, ast.Call) and call.args]
    named = [call.args[0] for call in calls if getattr(call.func, "id", "") == decorator]
    return [str(first.value) for first in named if isinstance(first, ast.Constant)]


@lru_cache(maxsize=16)
def read_table(file: Path, version: Stamp) -> dict[str, Any]:
    """A committed JSON table, read once per ``version``; empty where there is no file."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if version else {}


class Sources:
    """The modules that the method in ``file`` can see, and the files that were looked at (``seen``).

    These are the project's packages below ``root`` and, for a method from outside, the modules beside it.
    """

    def __init__(self, file: Path, root: Path = ROOT) -> None:
        self.root, self.file = root, file
        self.seen: dict[Path, Stamp] = {}
        inside = file.resolve().parent == (root / ENTRIES).resolve()
        self.module = f"{ENTRIES}.{file.stem}" if inside else ""
        self._beside = None if inside else file.parent
        self._files: dict[str, Path | None] = {self.module: file}
        self._sources: dict[str, Source] = {}
        self._moves = read_table(root / MOVES, self._stamp(root / MOVES))

    def _stamp(self, file: Path) -> Stamp:
        if file not in self.seen:
            self.seen[file] = stamp(file)
        return self.seen[file]

    def locate(self, module: str) -> Path | None:
        """The file of ``module`` if it is the project's or lies beside the method."""
        if module not in self._files:
            first, *_ = parts = module.split(".")
            base = self.root if first in PACKAGES else self._beside
            found = None
            if base is not None and first not in sys.stdlib_module_names:
                path = base.joinpath(*parts)
                options = (path / "__init__.py", path.with_name(f"{path.name}.py"))
                found = next((file for file in options if self._stamp(file)), None)
            self._files[module] = found
        return self._files[module]

    def source(self, module: str) -> Source:
        if module not in self._sources:
            file = self.locate(module)
            assert file is not None, module
            version = self._stamp(file)
            by_content = self.by_content(module)
            self._sources[module] = read_source(file, self.package(module), by_content, version)
        return self._sources[module]

    def package(self, module: str) -> str:
        """What relative imports in ``module`` start from."""
        file = self.locate(module)
        is_package = file is not None and file.name == "__init__.py"
        return module if is_package else module.rpartition(".")[0]

    def by_content(self, module: str) -> bool:
        """Whether definitions in ``module`` count by what they say: a method's and those beside it."""
        if self.locate(module) is None or module in MACHINERY:
            return False
        return module.split(".")[0] not in PACKAGES or module.split(".")[0] == ENTRIES

    def resolve(self, start: Import) -> tuple[Defined | str, tuple[str, ...]]:
        """The definition that ``start`` leads to through all re-exports, and the attributes left over.

        A name of another package is its dotted name, attributes and all.
        """
        module, parts = start
        passed: set[Defined] = set()
        while True:
            if self.locate(module) is None and module.split(".")[0] not in PACKAGES:
                return ".".join((module, *parts)), ()
            if not parts:
                return Defined(module), ()
            here, rest = Defined(module, parts[0]), parts[1:]
            onward = None if here in passed else self._onward(here)
            if onward is None:
                return here, rest
            passed.add(here)
            module, parts = onward.module, (*onward.parts, *rest)

    def _onward(self, here: Defined) -> Import | None:
        """Where ``here`` is imported from; None where it is defined (or known by nobody)."""
        if self.locate(here.module) is None:
            return None
        source = self.source(here.module)
        if here.name in source.binders:
            return None
        if here.name in source.imports:
            return source.imports[here.name][-1]
        if here.name in source.exports:
            module, _, name = source.exports[here.name].partition(":")
            return Import(module, (name or here.name,))
        inner = f"{here.module}.{here.name}"
        return Import(inner) if self.locate(inner) else None

    def canonical(self, definition: Defined) -> str:
        """``module:name`` as first frozen: pure moves since then do not count."""
        module, name = definition
        written = f"{module}:{name}" if name else module
        module = self._moves.get("modules", {}).get(module, module)
        return str(self._moves.get("names", {}).get(written, f"{module}:{name}" if name else module))
