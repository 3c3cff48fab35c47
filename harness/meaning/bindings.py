"""Which names syntax binds."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from harness.util.errors import UserError

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Import(NamedTuple):
    """What an import binds: ``parts`` to look up, one after the other, in ``module``."""

    module: str
    parts: tuple[str, ...] = ()


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

    def visit_Constant(self, node: ast.Constant) -> None:
        """Binds nothing."""

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
    """A statement without meaning of its own: an import, ``pass``, a docstring, an ``if`` of such."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name | ast.Attribute) and all(map(is_empty, node.body + node.orelse))
    return isinstance(node, ast.Import | ast.ImportFrom | ast.Pass)


def changed_in_place(node: ast.stmt) -> Iterator[str]:
    """Names whose value ``node`` changes in place (``TABLE["a"] = 1``) or, in a function, by ``global``."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        for inner in _statements(node):
            yield from inner.names if isinstance(inner, ast.Global) else ()
        return
    for part in ast.walk(node):
        if isinstance(part, ast.Subscript | ast.Attribute):
            target: ast.AST = part
            while isinstance(target, ast.Subscript | ast.Attribute):
                target = target.value
            if isinstance(target, ast.Name) and not isinstance(part.ctx, ast.Load):
                yield target.id


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """All statements in ``node``; expressions hold none."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(node, block, ()):
            if isinstance(inner, ast.stmt):
                yield inner
            yield from _statements(inner)
