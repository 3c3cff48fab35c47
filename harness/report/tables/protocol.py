"""What was run, in a few words from the records: sampling, problems, budget, what controls change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.records.record import Record
from harness.report.data.groups import Group, row_of
from harness.report.tables.columns import count

_LR, _REWARD, _TEMPERATURE, _WEIGHTS = "train.lr", "train.random_reward", "eval.temperature", "eval.weights"
_PROFILE = "eval.profile_settings"


def protocol(groups: Sequence[Group], sets: Sequence[str]) -> str:
    """Samples and temperature, problems of each set, validation, checkpoints and budget; empty if unknown."""
    records = [record for group in groups for record in group.records]
    alike = [record for group in groups if not group.sampling_differs for record in group.records]
    regimes = _unique(record.regime for record in records if record.regime)
    parts = [
        f"Regime: {regimes[0]}." if len(regimes) == 1 else "",
        _sampling(alike, sets),
        _problems(records, sets),
        _validation([r for group in groups if group.role != "base" for r in group.records]),
        _budget(records),
    ]
    return " ".join(part for part in parts if part)


def controls(groups: Sequence[Group], reference: str) -> str:
    """What each control changes, from its records; empty where there is none."""
    told = [f"{group.name}: {_changed(group, reference)}" for group in groups if group.changes]
    if not told:
        return ""
    anchor = row_of(groups, reference)
    which = f"{'tuned ' if anchor and anchor.tuned else ''}{reference}"
    return f"Each is {which}, or the base model, but for one thing. {'. '.join(told)}."


def plain(value: Any) -> str:
    """A setting as people write it."""
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _changed(group: Group, reference: str) -> str:
    record, changes = group.records[0], group.changes
    words = [f"{key} = {plain(value)}" for key, value in changes.items()]
    if changes.get(_REWARD):
        return "trained on coin flips in place of verdicts"
    if group.sampling_differs:
        at = plain(changes[_TEMPERATURE]) if _TEMPERATURE in changes else ", ".join(changes.get(_PROFILE, ()))
        where = f"sampled at T = {at}" if _TEMPERATURE in changes else f"sampled by {at}"
        return f"{where}, chosen on validation"
    if changes.get(_WEIGHTS) == "best":
        return _stopped(group)
    if list(changes) == [_LR]:
        chosen = (record.tuning_choice or {}).get(_LR)
        return words[0] + (f" where tuning chose {plain(chosen)}" if chosen is not None else "")
    return ", ".join(words)


def _stopped(group: Group) -> str:
    """Which checkpoints were chosen, and what that leaves untouched."""
    text = "the weights of the best checkpoint on validation"
    chosen = [record.evaluated_step for record in group.records]
    if None not in chosen:
        ends = [record.budget.steps for record in group.records]
        last = sum(a == b for a, b in zip(chosen, ends, strict=True))
        text += f" (steps {', '.join(map(str, chosen))}; the last one in {last} of {len(chosen)} seeds)"
    return text + "; its entropy, tokens and updates are those of the whole training"


def _sampling(records: Sequence[Record], sets: Sequence[str]) -> str:
    """By how many samples, and how drawn, the sets are measured."""
    own: list[str] = []
    profiles: list[str] = []
    for record in records:
        for name in sets:
            entry = record.evals.get(name)
            if not entry:
                continue
            if entry.profile is not None:
                profiles.append(entry.profile)
                continue
            temperature = record.settings.eval.get("temperature")
            at = f" at T = {plain(temperature)}" if temperature is not None else ""
            own.append(f"{entry.n} samples a problem{at}")
    told = [*_unique(own), *(f"profile {name}" for name in _unique(profiles))]
    return f"Test: {' and '.join(told)}." if told else ""


def _problems(records: Sequence[Record], sets: Sequence[str]) -> str:
    counts = {
        name: max((len(r.evals[name].correct) for r in records if name in r.evals), default=0)
        for name in sets
    }  # fmt: skip
    told = [f"{number} of {name}" for name, number in counts.items() if number]
    return f"Problems: {', '.join(told)}." if told else ""


def _validation(records: Sequence[Record]) -> str:
    """Problems and samples of the checkpoints, and how many checkpoints a run has."""
    points = [[p for p in record.frontier if p.correct] for record in records]
    known = [own for own in points if own]
    if not known:
        return ""
    problems = _span(len(p.correct) for own in known for p in own)
    samples = _span(p.n for own in known for p in own)
    return (
        f"Validation, which also chose the hyper-parameters: {problems} problems × {samples} samples at each "
        f"of {_span(map(len, known))} checkpoints of a run."
    )


def _budget(records: Sequence[Record]) -> str:
    budgets = _unique(b for r in records if (b := r.train.get("token_budget")))
    return f"A run stops at {count(float(budgets[0]))} generated tokens." if len(budgets) == 1 else ""


def _span(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
