"""Composed methods: ``grpo+loss=gspo+weights=fork-tokens`` is GRPO with GSPO's loss on the fork tokens.

A name is a base and, for each station that another method takes over, ``+station=method``. Stations are the
fields of ``Stages``, and three pieces of a :class:`~harness.stages.PolicyLoss`:

    ratio         what is bounded
    bounds        the ratio bounds and the dual clip
    weights       token weights and token selection; what the base has and the other has not stays

``regularisers`` are added to the base's. ``controllers`` are components that no station refers to. Everything
else replaces what the base has there. A taken stage keeps the hyper-parameters of its own method, which stand
under that method's name: ``method.fork_tokens.rho=0.5``. This module takes names apart;
:mod:`harness.stages.composed` makes the class.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.util.errors import UserError, unknown

#: In the order of the step; pieces of the loss after the loss, because they go into it.
STATIONS = (
    "prompts", "rollout", "reward", "group_filter", "advantage", "selection", "plan",
    "loss", "ratio", "bounds", "weights", "regularisers", "step_size", "controllers",
)  # fmt: skip
_PART = re.compile(r"\+([A-Za-z_-]+)=")


@dataclass(frozen=True)
class Composition:
    """A composed name taken apart; ``parts`` are (station, method), in the order of the step."""

    base: str
    parts: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The one way to write it; the base alone when nothing is taken from another method."""
        return self.base + "".join(f"+{station}={method}" for station, method in self.parts)

    def renamed(self, rename: Callable[[str], str]) -> Composition:
        """With ``rename`` applied to every method; what is taken from the base itself falls away."""
        base = rename(self.base)
        parts = [(station, rename(method)) for station, method in self.parts]
        return Composition(base, tuple(part for part in parts if part[1] != base))


def is_composed(name: str) -> bool:
    return _PART.search(name) is not None


def parse(name: str) -> Composition:
    """Take ``name`` apart; a plain name is a composition without parts.

    Raises:
        UserError: no such station, or two methods for one.
    """
    base, *rest = _PART.split(name)
    parts: dict[str, str] = {}
    for station, method in zip(rest[::2], rest[1::2], strict=True):
        key = station.replace("-", "_")
        if key not in STATIONS:
            raise unknown("station", station, STATIONS, f"in method '{name}'")
        if not method:
            raise UserError(f"method '{name}' names no method for {key}; write +{key}=METHOD")
        if key in parts:
            raise UserError(f"{parts[key]} and {method} both claim the station {key}; keep one of them")
        parts[key] = method
    if not base:
        raise UserError(f"method '{name}' has no base; write the method that the parts go into first")
    ordered = tuple((station, parts[station]) for station in STATIONS if station in parts)
    return Composition(base, ordered).renamed(str)


def from_words(name: str, words: Sequence[str]) -> str:
    """``name`` with the words ``+station=method`` of a command line.

    Raises:
        UserError: a word is none; the message names the nearest station.
    """
    for word in words:
        station, sign, method = word[1:].partition("=")
        if not sign or station.replace("-", "_") not in STATIONS:
            raise unknown("station", station, STATIONS, "(+station=METHOD takes a station from a method)")
        name += f"+{station}={method}"
    return name


def field_name(method: str) -> str:
    """Under which name a part's hyper-parameters stand: ``bapo@paper`` under ``method.bapo_paper``."""
    return re.sub(r"\W", "_", method)


def method_keys(cls: type) -> list[str]:
    """Hyper-parameters of a method class; those of a composed method's parts as ``part.name``."""
    keys: list[str] = []
    for f in dataclasses.fields(cls):
        inner = method_keys(f.type) if "part" in f.metadata else []  # type: ignore[arg-type]
        keys += [f"{f.name}.{key}" for key in inner] or [f.name]
    return keys


def part_fields(cls: type) -> list[Any]:
    return [f for f in dataclasses.fields(cls) if "part" in f.metadata]
