"""Composed methods: ``grpo+loss=gspo+weights=fork-tokens`` is GRPO with GSPO's loss on the fork tokens.

A name is a base and, for each station that another method takes over, ``+station=method``. Stations are the
fields of ``Stages``, and three pieces of a :class:`~harness.stages.PolicyLoss`:

    ratio         what is bounded
    bounds        the ratio bounds and the dual clip
    weights       token weights and token selection; what the base has and the other has not stays

``regularisers`` are added to the base's. ``controllers`` are components that no station refers to. Everything
else replaces what the base has there. A taken stage keeps the hyper-parameters of its own method, which stand
under that method's name: ``method.fork_tokens.rho=0.5``. This module names and checks; it imports no torch
until stages are made.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from harness.errors import UserError, unknown
from harness.method import Method, check_ranges

if TYPE_CHECKING:
    from harness.config import RunConfig
    from harness.stages import Stages

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


@dataclass(frozen=True)
class ComposedMethod(Method):
    """Base of composed classes: ``made_of`` are (station, field that holds the part's hyper-parameters)."""

    made_of: ClassVar[tuple[tuple[str, str], ...]] = ()
    part_names: ClassVar[Mapping[str, str]] = {}
    base_name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for f in _part_fields(type(self)):
            value = getattr(self, f.name)
            if isinstance(value, Mapping):  # plain values from a configuration
                object.__setattr__(self, f.name, f.type(**value))  # type: ignore[operator]

    def validate(self, run: RunConfig) -> None:
        super().validate(run)
        for f in _part_fields(type(self)):
            part = getattr(self, f.name)
            check_ranges(part, f"method.{f.name}")
            try:
                part.validate(run)
            except UserError as error:
                told = re.sub(r"\bmethod\.(?=\w)", f"method.{f.name}.", str(error))
                raise UserError(f"{self.part_names[f.name]} in {self.name}: {told}") from error
        self._refuse_idle()

    def _refuse_idle(self) -> None:
        """A hyper-parameter of a stage that is not in the composition would be set in vain."""
        from harness.stages.compose import same

        stages = self.stages()
        for key in method_keys(type(self)):
            part, _, name = key.rpartition(".")
            owner = getattr(self, part) if part else self
            default = next(f.default for f in dataclasses.fields(owner) if f.name == name)
            if getattr(owner, name) == default:
                continue
            plain = dataclasses.replace(owner, **{name: default})
            if same((dataclasses.replace(self, **{part: plain}) if part else plain).stages(), stages):
                raise UserError(
                    f"method.{key} has no effect in {self.name}, which takes that station from elsewhere; "
                    "leave it out"
                )

    def stages(self) -> Stages:
        from harness.stages.compose import composed_stages

        parts = {f.name: getattr(self, f.name).stages() for f in _part_fields(type(self))}
        return composed_stages(self.base_name, super().stages(), self.made_of, parts, self.part_names)


def method_keys(cls: type) -> list[str]:
    """Hyper-parameters of a method class; those of a composed method's parts as ``part.name``."""
    keys: list[str] = []
    for f in dataclasses.fields(cls):
        inner = method_keys(f.type) if "part" in f.metadata else []  # type: ignore[arg-type]
        keys += [f"{f.name}.{key}" for key in inner] or [f.name]
    return keys


def _part_fields(cls: type) -> list[Any]:
    return [f for f in dataclasses.fields(cls) if "part" in f.metadata]


def composed_class(
    name: str, base: tuple[str, type[Method]], parts: Sequence[tuple[str, str, type[Method]]]
) -> type[Method]:
    """The class of a composed method: the base's hyper-parameters, and each part's under its name.

    Args:
        name: the composed name.
        base: name and class.
        parts: station, name and class of each part.

    Raises:
        UserError: the base has a hyper-parameter of a part's name.
    """
    classes = {method: cls for _, method, cls in parts}
    own = {f.name for f in dataclasses.fields(base[1])}
    clash = sorted(own & {field_name(method) for method in classes})
    if clash:
        raise UserError(f"{base[0]} has a hyper-parameter '{clash[0]}', the name of a part of {name}")
    made = dataclasses.make_dataclass(
        "Composed",
        [
            (field_name(m), cls, field(default_factory=cls, metadata={"part": m}))
            for m, cls in classes.items()
        ],
        bases=(ComposedMethod, base[1]),
        frozen=True,
        namespace={
            "name": name,
            "base_name": base[0],
            "made_of": tuple((station, field_name(method)) for station, method, _ in parts),
            "part_names": {field_name(method): method for method in classes},
            "__doc__": f"{name}, composed.",
        },
    )
    return made
