"""A definition and all that it uses as one text, in which names count by what they resolve to.

In the text ``#2:f`` is the definition ``f`` in unit 2, ``q:torch.exp`` a name known elsewhere, and ``n:x`` a
local or built-in name. A unit is the statements that bind a name at the top level of a module. Units follow
in the order of their first use, so the place of a definition does not count.
"""

from __future__ import annotations

from typing import NamedTuple

from harness.meaning.bindings import Import
from harness.meaning.sources import Defined, Sources
from harness.meaning.syntax import Own, Part


class _Unit(NamedTuple):
    module: str
    positions: tuple[int, ...]
    also: tuple[Import, ...] = ()


class Text:
    """The canonical text of the definition ``name`` of the method's file.

    Attributes:
        names: the project's names that count by name, as ``module:name``.
    """

    def __init__(self, sources: Sources, name: str) -> None:
        self.sources = sources
        self.names: set[str] = set()
        self._units: dict[_Unit, int] = {}
        self._entered: set[str] = set()
        self._own(sources.module, Own(name))

    def build(self) -> str:
        out: list[str] = []
        while len(out) < len(self._units):
            unit = list(self._units)[len(out)]
            text = self.sources.source(unit.module).text
            parts = [*(part for at in unit.positions for part in text[at]), *unit.also]
            out.append(" ".join(self._resolved(unit.module, part) for part in parts))
        return "\n".join(out)

    def _resolved(self, module: str, part: Part) -> str:
        if isinstance(part, str):
            return part
        return self._own(module, part) if isinstance(part, Own) else self._imported(part)

    def _own(self, module: str, use: Own) -> str:
        source = self.sources.source(module)
        if use.name:
            also = tuple(source.imports.get(use.name, ()))  # imported or bound, as in ``try: import x``
            unit = _Unit(module, source.binders[use.name], also)
        else:
            unit = _Unit(module, tuple(range(len(source.text))))
        number = self._number(unit)
        self._enter(module)
        return ".".join((f"#{number}:{use.name}", *use.attributes))

    def _imported(self, start: Import) -> str:
        target, rest = self.sources.resolve(start)
        if isinstance(target, str):
            return f"q:{target}"
        if self._counts_by_content(target):
            return self._own(target.module, Own(target.name, rest))
        name = self.sources.canonical(target)
        self.names.add(name)
        return ".".join((f"q:{name}", *rest))

    def _counts_by_content(self, target: Defined) -> bool:
        if not self.sources.by_content(target.module):
            return False
        return not target.name or target.name in self.sources.source(target.module).binders

    def _number(self, unit: _Unit) -> int:
        return self._units.setdefault(unit, len(self._units))

    def _enter(self, module: str) -> None:
        """Count what ``module`` and the files it imports do when they are imported."""
        if module in self._entered:
            return
        self._entered.add(module)
        source = self.sources.source(module)
        if source.effects:
            self._number(_Unit(module, source.effects))
        for other in sorted(source.modules):
            if self.sources.by_content(other):
                self._enter(other)
