"""The class of a composed method: its base's hyper-parameters, and each part's under its name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from harness.config.composition import field_name, method_keys, part_fields
from harness.config.fields import check_ranges
from harness.stages.base import Stages
from harness.stages.compose import composed_stages, same
from harness.stages.method import Method
from harness.util.errors import UserError

if TYPE_CHECKING:
    from harness.config.schema import RunConfig


@dataclass(frozen=True)
class ComposedMethod(Method):
    """Base of composed classes: ``made_of`` are (stage, field that holds the part's hyper-parameters)."""

    made_of: ClassVar[tuple[tuple[str, str], ...]] = ()
    part_names: ClassVar[Mapping[str, str]] = {}
    base_name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for f in part_fields(type(self)):
            value = getattr(self, f.name)
            if isinstance(value, Mapping):  # plain values from a configuration
                object.__setattr__(self, f.name, f.type(**value))  # type: ignore[operator]

    def validate(self, run: RunConfig) -> None:
        super().validate(run)
        for f in part_fields(type(self)):
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
                    f"method.{key} has no effect in {self.name}, which takes that stage from elsewhere; "
                    "leave it out"
                )

    def stages(self) -> Stages:
        parts = {f.name: getattr(self, f.name).stages() for f in part_fields(type(self))}
        return composed_stages(self.base_name, super().stages(), self.made_of, parts, self.part_names)


def composed_class(
    name: str, base: tuple[str, type[Method]], parts: Sequence[tuple[str, str, type[Method]]]
) -> type[Method]:
    """The class of a composed method: the base's hyper-parameters, and each part's under its name.

    Args:
        name: the composed name.
        base: name and class.
        parts: stage, name and class of each part.

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
            "made_of": tuple((stage, field_name(method)) for stage, method, _ in parts),
            "part_names": {field_name(method): method for method in classes},
            "__doc__": f"{name}, composed.",
        },
    )
    return made
