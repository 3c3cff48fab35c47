"""Modules read as syntax: which names they bind, and which definition an imported name resolves to."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError

ROOT = Path(__file__).parent.parent.parent
#: Packages of the project. What other packages define counts by its dotted name.
PACKAGES = ("harness", "methods", "benchmarks", "entrobench")
ENTRIES = "methods"
#: Modules among the entries that hold machinery: their names count like the harness's, not by content.
MACHINERY = ("methods.registry", "methods.cards", "methods")
#: The literal dict of a package that imports what it exports when it is asked for: name -> module.
LAZY = "_EXPORTS"
MOVES = Path("harness", "registry", "moves.json")

Stamp = tuple[int, int] | None
Function = ast.FunctionDef | ast.AsyncFunctionDef
#: Statements that only bind names. All others may also do something when the module is imported.
_PLAIN = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.AugAssign)


class Import(NamedTuple):
    """What an import binds: ``parts`` to look up, one after the other, in ``module``."""

    module: str
    parts: tuple[str, ...] = ()


class Defined(NamedTuple):
    """``name`` at the top level of ``module``; the module itself where ``name`` is empty."""

    module: str
    name: str = ""


@dataclass(frozen=True)
class Source:
    """The top level of a module.

    Attributes:
        binders: name -> positions in ``body`` of the statements that bind or change it.
        imports: name -> what the module's imports bind it to.
        exports: name -> the module that a lazy export comes from.
        effects: positions of statements that do more than bind names.
        modules: what the module's own imports may run.
    """

    body: list[ast.stmt]
    binders: dict[str, tuple[int, ...]]
    imports: dict[str, list[Import]]
    exports: dict[str, str]
    effects: tuple[int, ...]
    modules: set[str]


@dataclass
class Bindings(ast.NodeVisitor):
    """Names that the visited nodes bind in their own scope; nested scopes are not entered."""

    file: Path
    package: str
    names: set[str] = field(default_factory=set)
    imports: dict[str, list[Import]] = field(default_factory=dict)
    outer: dict[str, type[ast.stmt]] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)

    def visit_all(self, nodes: Sequence[ast.AST]) -> Bindings:
        for node in nodes:
            self.visit(node)
        return self

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.names.add(node.id)

    def visit_FunctionDef(self, node: Function) -> None:
        self.names.add(node.name)
        self.visit_all([*node.decorator_list, node.args])

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.names.add(node.name)
        self.visit_all([*node.decorator_list, *node.bases, *node.keywords])

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)

    def visit_ListComp(self, node: ast.AST) -> None:
        inner = (n for n in ast.walk(node) if isinstance(n, ast.NamedExpr))
        self.names.update(n.target.id for n in inner)

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def visit_ExceptHandler(self, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar) -> None:
        if node.name:
            self.names.add(node.name)
        self.generic_visit(node)

    visit_MatchAs = visit_MatchStar = visit_ExceptHandler

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self.names.add(node.rest)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        self.outer.update(dict.fromkeys(node.names, type(node)))

    visit_Nonlocal = visit_Global

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            module = alias.name if alias.asname else alias.name.split(".")[0]
            self._bind(alias.asname or module, Import(module))
            self.modules.add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module == "__future__":
            return
        above = self.package.split(".")
        base = above[: len(above) - node.level + 1] if node.level else []
        module = ".".join(part for part in (*base, node.module or "") if part)
        for alias in node.names:
            if alias.name == "*":
                raise UserError(
                    f"{self.file}:{node.lineno}: 'from {module} import *' hides which definitions the method "
                    "is made of; import the names that it uses"
                )
            self._bind(alias.asname or alias.name, Import(module, (alias.name,)))
            self.modules.update((module, f"{module}.{alias.name}"))

    def _bind(self, name: str, value: Import) -> None:
        there = self.imports.setdefault(name, [])
        if value not in there:
            there.append(value)


def is_empty(node: ast.AST) -> bool:
    """A statement without meaning of its own: an import, ``pass``, a docstring, an ``if`` with no more in it."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name | ast.Attribute) and all(map(is_empty, node.body + node.orelse))
    return isinstance(node, ast.Import | ast.ImportFrom | ast.Pass)


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
def read_source(file: Path, package: str, version: Stamp) -> Source:
    """The top level of ``file``, read once per ``version``; ``package`` is what relative imports start from."""
    body = parse(file).body
    binders: dict[str, list[int]] = {}
    bound = Bindings(file, package).visit_all(body)
    imports = bound.imports
    exports: dict[str, str] = {}
    effects = []
    for at, node in enumerate(body):
        if is_empty(node):
            continue
        names = Bindings(file, package).visit_all([node]).names
        changed = {name for name in _changed(node) if name not in imports}
        for name in names | changed:
            binders.setdefault(name, []).append(at)
        if not isinstance(node, _PLAIN) or not (names | changed):
            effects.append(at)
        if isinstance(node, ast.Assign | ast.AnnAssign) and LAZY in names and node.value:
            exports = dict(ast.literal_eval(node.value))
    positions = {name: tuple(at) for name, at in binders.items()}
    return Source(body, positions, imports, exports, tuple(effects), bound.modules)


def _changed(node: ast.stmt) -> Iterator[str]:
    """Names whose value ``node`` changes in place (``TABLE["a"] = 1``) or, in a function, by ``global``."""
    inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    for part in ast.walk(node):
        if isinstance(part, ast.Global):
            yield from part.names
        elif not inside_function and isinstance(part, ast.Subscript | ast.Attribute):
            target: ast.AST = part
            while isinstance(target, ast.Subscript | ast.Attribute):
                target = target.value
            if isinstance(target, ast.Name) and not isinstance(part.ctx, ast.Load):
                yield target.id


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
        file = self.locate(module)
        assert file is not None, module
        return read_source(file, self.package(module), self._stamp(file))

    def package(self, module: str) -> str:
        """What relative imports in ``module`` start from."""
        file = self.locate(module)
        is_package = file is not None and file.name == "__init__.py"
        return module if is_package else module.rpartition(".")[0]

    def by_content(self, module: str) -> bool:
        """Whether definitions in ``module`` count by what they say: those of methods and of files beside them."""
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
