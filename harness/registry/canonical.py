"""Syntax as canonical text: no comments, docstrings or imports, and every name by what it stands for.

In the text ``#2:f`` is the definition ``f`` in the second unit below, ``q:torch.exp`` a name known elsewhere, and
``n:x`` a local or built-in name. A unit is the statements that bind a name at the top level of a module; units
follow in the order of their first use, so the place of a definition does not count.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from harness.registry.sources import Bindings, Defined, Import, Sources, is_empty

_SKIPPED = ("ctx", "kind", "type_comment")
#: Built-ins that reach names of a module unseen: where one is used, the whole module counts.
_UNSEEN = ("globals", "eval", "exec")
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(frozen=True)
class Scope:
    """The names of a function, class or comprehension."""

    bindings: Bindings
    parent: Scope | None
    is_class: bool = False


class Text:
    """The canonical text of one definition and of all that it uses.

    Attributes:
        names: the project's names that count by name, as ``module:name``.
    """

    def __init__(self, sources: Sources, root: str) -> None:
        self.sources = sources
        self.names: set[str] = set()
        self._out: list[str] = []
        self._units: dict[tuple[str, tuple[int, ...], tuple[Import, ...]], int] = {}
        self._touched: set[str] = set()
        self._add(sources.module, root)
        self._effects(sources.module)

    def build(self) -> str:
        done = 0
        while done < len(self._units):
            module, positions, also = list(self._units)[done]
            self._module, source = module, self.sources.source(module)
            self._out.append(f"\nunit {done}")
            self._value([source.body[at] for at in positions], None)
            for value in also:
                self._import(value, ())
            done += 1
        return " ".join(self._out)

    # Units

    def _add(self, module: str, name: str) -> str:
        source = self.sources.source(module)
        whole = tuple(range(len(source.body)))
        also = tuple(source.imports.get(name, ()))  # imported or bound, as in ``try: import x``
        unit = self._unit(module, source.binders[name] if name else whole, also)
        if module not in self._touched:
            self._effects(module)
        return f"#{unit}:{name}"

    def _unit(self, module: str, positions: tuple[int, ...], also: tuple[Import, ...] = ()) -> int:
        return self._units.setdefault((module, positions, also), len(self._units))

    def _effects(self, module: str) -> None:
        """Count what ``module`` and the files it imports do when they are imported."""
        if module in self._touched:
            return
        self._touched.add(module)
        source = self.sources.source(module)
        if source.effects:
            self._unit(module, source.effects)
        for other in sorted(source.modules):
            if self.sources.by_content(other):
                self._effects(other)

    # Names

    def _name(self, name: str, attributes: tuple[str, ...], scope: Scope | None) -> None:
        found = self._lookup(name, scope)
        if len(found) > 1:
            self._out.append("either(")
        for meaning in found:
            if isinstance(meaning, Import):
                self._import(meaning, attributes)
            else:
                self._out.append("".join((meaning, *(f".{part}" for part in attributes))))
        if len(found) > 1:
            self._out.append(")")

    def _lookup(self, name: str, scope: Scope | None) -> list[Import | str]:
        """What ``name`` may stand for in ``scope``: several things where that depends on the flow."""
        found: list[Import | str] = []
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
        source = self.sources.source(self._module)
        if name in source.binders:
            return [*found, self._add(self._module, name)]
        if name in source.imports:
            return [*found, *source.imports[name]]
        if name in _UNSEEN:
            self._add(self._module, "")
        return found or [f"n:{name}"]

    def _import(self, start: Import, attributes: tuple[str, ...]) -> None:
        target, rest = self.sources.resolve(Import(start.module, (*start.parts, *attributes)))
        if isinstance(target, Defined) and self._counts_by_content(target):
            written = self._add(target.module, target.name)
        elif isinstance(target, Defined):
            name = self.sources.canonical(target)
            self.names.add(name)
            written = f"q:{name}"
        else:
            written = f"q:{target}"
        self._out.append("".join((written, *(f".{part}" for part in rest))))

    def _counts_by_content(self, target: Defined) -> bool:
        if not self.sources.by_content(target.module):
            return False
        return not target.name or target.name in self.sources.source(target.module).binders

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
        for name, value in ast.iter_fields(node):
            # a field that is empty is left out: later versions of Python add fields
            if name in (*_SKIPPED, *but) or value is None or value == []:
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
        found = Bindings(self.sources.file, self.sources.package(self._module)).visit_all(nodes)
        return Scope(found, parent, is_class)


def _arguments(node: ast.arguments) -> list[ast.AST]:
    """The parameters as names that are bound."""
    found = [*node.posonlyargs, *node.args, *node.kwonlyargs]
    found += [extra for extra in (node.vararg, node.kwarg) if extra]
    return [ast.Name(argument.arg, ast.Store()) for argument in found]
