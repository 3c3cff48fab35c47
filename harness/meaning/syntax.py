"""Syntax as canonical text: no comments, docstrings, imports or positions; what names mean stays open."""

from __future__ import annotations

import ast
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from harness.meaning.bindings import Bindings, Import, is_empty

_SKIPPED = ("ctx", "kind", "type_comment")
#: Built-ins that reach names of a module unseen: where one is used, the whole module counts.
_UNSEEN = ("globals", "eval", "exec")
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Own(NamedTuple):
    """A use of ``name``, bound at the top level of the same module; of all of it where ``name`` is empty."""

    name: str
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scope:
    """The names of a function, class or comprehension."""

    bindings: Bindings
    parent: Scope | None
    is_class: bool = False


Part = str | Own | Import


class Writer:
    """Statements of a module whose top level binds ``binders`` and, by imports, ``imports``.

    They become text and, between it, names still to be resolved. A local or built-in name is ``n:name``.
    """

    def __init__(
        self, file: Path, package: str, binders: Container[str], imports: dict[str, list[Import]]
    ) -> None:
        self._file, self._package, self._binders, self._imports = file, package, binders, imports
        self._out: list[Part] = []

    def write(self, node: ast.stmt) -> list[Part]:
        """The parts of a statement; none if it has no meaning of its own."""
        self._out = []
        if not is_empty(node):
            self._value(node, None)
        joined: list[Part] = []
        for is_text, group in groupby(self._out, lambda part: isinstance(part, str)):
            parts = list(group)
            joined += [" ".join(map(str, parts))] if is_text else parts
        return joined

    # Names

    def _name(self, name: str, attributes: tuple[str, ...], scope: Scope | None) -> None:
        found = self._lookup(name, scope)
        if len(found) > 1:
            self._out.append("either(")
        for meaning in found:
            if isinstance(meaning, Import):
                self._out.append(Import(meaning.module, (*meaning.parts, *attributes)))
            elif isinstance(meaning, Own):
                self._out.append(Own(name, attributes))
            else:
                self._out.append(".".join((meaning, *attributes)))
        if len(found) > 1:
            self._out.append(")")

    def _lookup(self, name: str, scope: Scope | None) -> list[Part]:
        """What ``name`` may stand for in ``scope``: several things where that depends on the flow."""
        found: list[Part] = []
        inner = scope
        while scope is not None:
            bound = scope.bindings
            if bound.outer.get(name) is ast.Global:
                break
            hidden = scope.is_class and scope is not inner  # a class's names are not seen from within
            if not hidden and name not in bound.outer:
                found += [f"n:{name}"] if name in bound.names else []
                found += bound.imports.get(name, [])
                if found and not scope.is_class:
                    return found
            scope = scope.parent
        if name in self._binders:
            return [*found, Own(name)]
        if name in self._imports:
            return [*found, *self._imports[name]]
        if name in _UNSEEN:
            self._out.append(Own(""))
        return found or [f"n:{name}"]

    # Syntax

    def _value(self, value: object, scope: Scope | None) -> None:
        if isinstance(value, list):
            self._out.append("[")
            for item in value:
                if not (isinstance(item, ast.stmt) and is_empty(item)):
                    self._value(item, scope)
            self._out.append("]")
        elif isinstance(value, ast.AST):
            self._node(value, scope)
        else:
            self._out.append(f"{type(value).__name__}:{value!r}")

    def _node(self, node: ast.AST, scope: Scope | None) -> None:
        chain: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            chain.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            return self._name(inner.id, tuple(chain), scope)
        self._out.append(f"{type(node).__name__}(")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            body = node.body if isinstance(node.body, list) else [node.body]
            self._fields(node, scope, "body")
            self._value(node.body, self._scope([*_arguments(node.args), *body], scope))
        elif isinstance(node, ast.ClassDef):
            self._fields(node, scope, "body")
            self._value(node.body, self._scope(node.body, scope, is_class=True))
        elif isinstance(node, _Comprehension):
            self._comprehension(node, scope)
        else:
            self._fields(node, scope)
        self._out.append(")")

    def _fields(self, node: ast.AST, scope: Scope | None, *but: str) -> None:
        for name in node._fields:
            value = getattr(node, name, None)
            # a field that is empty is left out: later versions of Python add fields
            if value is None or value == [] or name in _SKIPPED or name in but:
                continue
            self._out.append(f"{name}=")
            self._value(value, scope)

    def _comprehension(self, node: _Comprehension, scope: Scope | None) -> None:
        inner = self._scope([generator.target for generator in node.generators], scope)
        for at, generator in enumerate(node.generators):
            self._out.append("for" if not generator.is_async else "async for")
            self._value(generator.target, inner)
            self._value(generator.iter, inner if at else scope)
            self._value(generator.ifs, inner)
        self._fields(node, inner, "generators")

    def _scope(self, nodes: Sequence[ast.AST], parent: Scope | None, is_class: bool = False) -> Scope:
        found = Bindings(self._file, self._package).visit_all(nodes)
        return Scope(found, parent, is_class)


def _arguments(node: ast.arguments) -> list[ast.AST]:
    """The parameters as names that are bound."""
    found = [*node.posonlyargs, *node.args, *node.kwonlyargs]
    found += [extra for extra in (node.vararg, node.kwarg) if extra]
    return [ast.Name(argument.arg, ast.Store()) for argument in found]
