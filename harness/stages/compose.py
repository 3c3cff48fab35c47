"""Putting stages of several methods into one :class:`Stages`, and refusing what does not belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from harness.config.composition import STAGE_NAMES
from harness.stages.base import Component, PromptSource, Stage, Stages
from harness.stages.defaults import grpo_stages
from harness.stages.loss import PolicyLoss
from harness.util.errors import UserError

#: Fields of a policy loss by the stage they are taken as.
PIECES = {
    "ratio": ("ratio",),
    "bounds": ("bounds", "dual_clip"),
    "weights": ("weight", "selection", "credit"),
}
#: Stages whose values make up a method, each counted once.
_ATOMS = tuple(s for s in STAGE_NAMES if s not in ("loss", "controllers"))
#: Tags that the trainer itself sets.
GIVEN_TAGS = {"row", "grpo_advantage", "grad_norm"}


def composed_stages(
    base_name: str,
    base: Stages,
    made_of: Sequence[tuple[str, str]],
    parts: Mapping[str, Stages],
    names: Mapping[str, str],
) -> Stages:
    """``base`` with the stages ``made_of`` (stage, part) taken from ``parts``.

    Args:
        names: the method of each part, for messages.

    Raises:
        UserError: a stage that the method leaves as it is, or one that cannot do without another.
    """
    stages = base
    for stage, part in made_of:
        changed = _put(stages, stage, parts[part], names[part], dict(made_of))
        if same(changed, stages):
            does = ", ".join(changes(parts[part])) or "nothing"
            raise UserError(
                f"+{stage}={names[part]} changes nothing: {base_name} has the same there; "
                f"{names[part]} changes {does}"
            )
        stages = changed
    taken = {part: {s for s, p in made_of if p == part} for part in parts}
    for part, taken_stages in taken.items():
        _refuse_torn(parts[part], names[part], taken_stages, "take")
    replaced = {stage for stage, _ in made_of if stage not in ("regularisers", "controllers")}
    _refuse_torn(base, base_name, replaced, "replace")
    stages = replace(stages, components=_components(stages, base, taken, parts))
    _refuse_missing_tags(stages, base, base_name, dict(made_of), parts, names)
    return stages


def changes(stages: Stages) -> list[str]:
    """Names of the stages that differ from the plain ones, pieces of the loss one by one."""
    plain = grpo_stages()
    found = [s for s in _ATOMS if not same(_value(stages, s), _value(plain, s))]
    loss = stages.loss
    rest = ("surrogate", "aggregation")
    if type(loss) is not PolicyLoss or any(getattr(loss, k) != getattr(plain.loss, k) for k in rest):
        found.append("loss")
    return sorted([*found, *(["controllers"] if free_components(stages) else [])], key=STAGE_NAMES.index)


def free_components(stages: Stages) -> dict[str, Component]:
    """Components that no stage refers to."""
    used = {id(c) for stage in _ATOMS for c in _components_in(_value(stages, stage))}
    used |= {id(c) for c in _components_in(stages.loss)}
    return {name: c for name, c in stages.components.items() if id(c) not in used}


# --- one stage --------------------------------------------------------------------------------------------


def _put(stages: Stages, stage: str, other: Stages, name: str, made_of: Mapping[str, str]) -> Stages:
    if stage == "regularisers":
        return replace(stages, regularisers=stages.regularisers + other.regularisers)
    if stage == "controllers":
        free = free_components(other)
        return replace(
            stages, components={**stages.components, **{f"{name}/{k}": c for k, c in free.items()}}
        )
    if stage not in PIECES:
        return replace(stages, **{stage: getattr(other, stage)})
    mine, theirs = stages.loss, other.loss
    for loss, whose in ((mine, "the loss it would go into"), (theirs, f"the loss of {name}")):
        if not isinstance(loss, PolicyLoss):
            raise UserError(
                f"+{stage}={name}: {whose} is a {type(loss).__name__}, which has no {stage} to exchange; "
                f"take +loss={name}"
            )
    assert isinstance(mine, PolicyLoss) and isinstance(theirs, PolicyLoss)
    if mine.surrogate != theirs.surrogate and (stage != "weights" or theirs.surrogate != "clip"):
        raise UserError(
            f"+{stage}={name} belongs to a loss with surrogate={theirs.surrogate}, and this one has "
            f"surrogate={mine.surrogate}; take +loss={name}"
        )
    given = {key: getattr(theirs, key) for key in PIECES[stage]}
    if stage == "weights":
        given = {key: value for key, value in given.items() if value is not None}
        claimed = [key for key in given if getattr(mine, key) is not None]
        if "loss" in made_of and claimed:
            raise UserError(
                f"the loss that +loss= takes brings {stage} of its own, and so does +weights={name}: two "
                "methods claim one stage; leave one out"
            )
    return replace(stages, loss=replace(mine, **given))


def _value(stages: Stages, stage: str) -> Any:
    """What stands at a stage; of a loss of another kind the pieces are all the loss itself."""
    if stage not in PIECES:
        return getattr(stages, stage)
    loss = stages.loss
    return tuple(getattr(loss, k) for k in PIECES[stage]) if isinstance(loss, PolicyLoss) else loss


def same(a: Any, b: Any) -> bool:
    """Whether two values of stages, or two compositions, are equal; components are equal to themselves."""
    if isinstance(a, Stages) and isinstance(b, Stages):
        names = [f.name for f in fields(Stages)]
        return all(same(getattr(a, name), getattr(b, name)) for name in names)
    if isinstance(a, PromptSource) and type(a) is type(b):  # its state is not yet bound to problems
        return _plain_settings(a) == _plain_settings(b)
    return bool(a == b)


def _plain_settings(source: PromptSource) -> dict[str, Any]:
    return {k: v for k, v in vars(source).items() if isinstance(v, int | float | str | None)}


# --- what belongs together --------------------------------------------------------------------------------


def _components_in(value: Any) -> list[Component]:
    """Components that ``value`` refers to: in fields, containers, bound methods and closures."""
    found: dict[int, Component] = {}
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Component):
            found[id(item)] = item
        waiting += _inside(item)
    return list(found.values())


def _inside(item: Any) -> list[Any]:
    if isinstance(item, list | tuple | set | frozenset):
        return list(item)
    if isinstance(item, Mapping):
        return list(item.values())
    if isinstance(item, MethodType):
        return [item.__self__]
    if isinstance(item, partial):
        return [item.func, *item.args, *item.keywords.values()]
    if isinstance(item, FunctionType):
        return [cell.cell_contents for cell in item.__closure__ or ()]
    if isinstance(item, Stage | Component) or (is_dataclass(item) and not isinstance(item, type)):
        return list(vars(item).values())
    return []


def _refuse_torn(stages: Stages, name: str, chosen: set[str], verb: str) -> None:
    """Stages that share a component are taken, or replaced, together."""
    whole = chosen | (set(PIECES) if "loss" in chosen else set())
    users = {s: {id(c) for c in _components_in(_value(stages, s))} for s in _ATOMS}
    for stage in [s for s in _ATOMS if s in whole]:
        torn = [s for s in _ATOMS if s not in whole and users[s] & users[stage]]
        if torn:
            both = [s for s in STAGE_NAMES if s in {*chosen, *torn}]
            if verb == "take":
                remedy = "take " + "".join(f"+{s}={name}" for s in both)
            else:
                remedy = f"replace all of {', '.join(both)}, or none"
            raise UserError(
                f"{stage} and {', '.join(torn)} of {name} share a state, so one is nothing without the "
                f"other; {remedy}"
            )


def _components(
    stages: Stages, base: Stages, taken: Mapping[str, set[str]], parts: Mapping[str, Stages]
) -> dict[str, Component]:
    """The base's components that are still used, and those that the taken stages refer to."""
    of_base = {id(c) for s in _ATOMS for c in _components_in(_value(base, s))}
    now = {id(c) for s in (*_ATOMS, "loss") for c in _components_in(_value(stages, s))}
    kept = {k: c for k, c in stages.components.items() if id(c) not in of_base or id(c) in now}
    for part, other in parts.items():
        used = {id(c) for s in taken[part] - {"controllers"} for c in _components_in(_value(other, s))}
        kept |= {f"{part}/{k}": c for k, c in other.components.items() if id(c) in used}
    return kept


def _refuse_missing_tags(
    stages: Stages,
    base: Stages,
    base_name: str,
    made_of: Mapping[str, str],
    parts: Mapping[str, Stages],
    names: Mapping[str, str],
) -> None:
    """A stage that reads a tag of the batch needs the stage that writes it."""
    written = GIVEN_TAGS | {tag for s in (*_ATOMS, "loss") for tag in _tags_at(stages, s)[1]}
    for stage in (*_ATOMS, "loss"):
        for tag in sorted(_tags_at(stages, stage)[0] - written):
            part = made_of.get(stage) or (made_of.get("loss") if stage in PIECES else None)
            whole, whose = (parts[part], names[part]) if part else (base, base_name)
            writers = [s for s in _ATOMS if tag in _tags_at(whole, s)[1]]
            kept = f"+{writers[0]}={whose}" if part and writers else f"the {whose} it comes from as it is"
            raise UserError(f"{stage} of {whose} reads '{tag}', which nothing here sets; it needs {kept}")


def _tags_at(stages: Stages, stage: str) -> tuple[set[str], set[str]]:
    """Tags that the stage, with all that stands inside it, reads and writes."""
    found = list(_stages_in(_value(stages, stage)))
    return {t for part in found for t in part.reads_tags}, {t for part in found for t in part.writes_tags}


def _stages_in(value: Any) -> Iterator[Stage]:
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, Stage):
            yield item
            yield from _stages_in(item.parts())
