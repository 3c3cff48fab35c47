"""Composed methods: ``grpo+loss=gspo+weights=fork-tokens`` is GRPO with GSPO's loss on the fork tokens.

A name is a base and, for each stage that another method takes over, ``+stage=method``. Stages are the
fields of ``Stages``, and three pieces of a :class:`~harness.stages.loss.PolicyLoss`:

    ratio         what is bounded
    bounds        the ratio bounds and the dual clip
    weights       token weights and token selection; what the base has and the other has not stays

``regularisers`` are added to the base's. ``controllers`` are components that no stage refers to. Everything
else replaces what the base has there. A taken stage keeps the hyper-parameters of its own method, which stand
under that method's name: ``method.fork_tokens.rho=0.5``. This module takes names apart;
:mod:`harness.stages.composed` makes the class.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.util.errors import UserError, unknown

#: In the order of the step; pieces of the loss after the loss, because they go into it.
STAGE_NAMES = (
    "prompts", "rollout", "reward", "group_filter", "advantage", "selection", "plan",
    "loss", "ratio", "bounds", "weights", "regularisers", "step_size", "controllers",
)  # fmt: skip
_PART = re.compile(r"\+([A-Za-z_-]+)=")


@dataclass(frozen=True)
class Composition:
    """A composed name taken apart; ``parts`` are (stage, method), in the order of the step."""

    base: str
    parts: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The one way to write it; the base alone when nothing is taken from another method."""
        return self.base + "".join(f"+{stage}={method}" for stage, method in self.parts)

    def renamed(self, rename: Callable[[str], str]) -> Composition:
        """With ``rename`` applied to every method; what is taken from the base itself falls away."""
        base = rename(self.base)
        parts = [(stage, rename(method)) for stage, method in self.parts]
        return Composition(base, tuple(part for part in parts if part[1] != base))


def is_composed(name: str) -> bool:
    return _PART.search(name) is not None


def parse(name: str) -> Composition:
    """Take ``name`` apart; a plain name is a composition without parts.

    Raises:
        UserError: no such stage, or two methods for one.
    """
    base, *rest = _PART.split(name)
    parts: dict[str, str] = {}
    for stage, method in zip(rest[::2], rest[1::2], strict=True):
        key = stage.replace("-", "_")
        if key not in STAGE_NAMES:
            raise unknown("stage", stage, STAGE_NAMES, f"in method '{name}'")
        if not method:
            raise UserError(f"method '{name}' names no method for {key}; write +{key}=METHOD")
        if key in parts:
            raise UserError(f"{parts[key]} and {method} both claim the stage {key}; keep one of them")
        parts[key] = method
    if not base:
        raise UserError(f"method '{name}' has no base; write the method that the parts go into first")
    ordered = tuple((stage, parts[stage]) for stage in STAGE_NAMES if stage in parts)
    return Composition(base, ordered).renamed(str)


def with_parts(name: str, parts: Mapping[str, str]) -> str:
    """``name`` with further ``parts``, stage -> method.

    Raises:
        UserError: no such stage; the message names the nearest.
    """
    for stage, method in parts.items():
        if stage.replace("-", "_") not in STAGE_NAMES:
            raise unknown("stage", stage, STAGE_NAMES, "(+stage=METHOD takes a stage from a method)")
        name += f"+{stage}={method}"
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
