"""Group result records into rows, checked together: one row is one method (or control) with its seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, wraps
from math import isfinite
from typing import Any, TypeVar

import msgspec

from harness.records.record import MethodCard, Record
from harness.records.write import record_line

# What must agree over all records of one report, and what to do where it does not.
_SAME_EVERYWHERE = {
    "benchmark": "write one report per benchmark version",
    "numerics_version": "report each apart: entrobench report FOLDER --numerics N",
    "model": "write one report per model",
    "regime": "write one report per regime and version: collect each sweep into a folder of its own",
    "train.token_budget": "runs of another budget cannot be compared: run them again, or report them apart",
}
# What must agree over the seeds of one row.
_SAME_IN_ROW = {
    "method_hash": "the method's code changed between these runs: run the older seeds again",
    "hyperparameters": "give the variants different method names, or report them apart",
    "tuned": "collect either the tuned or the untuned runs",
    "tuning_choice": "collect the runs of one tuning outcome",
}


#: Step, generated tokens and nats per token of an entropy probe.
Probed = tuple[int, float, float]
_Of = TypeVar("_Of", bound=Callable[..., Any])


@dataclass(frozen=True)
class Group:
    """All runs of one method in one role, ordered by seed."""

    method: str
    role: str
    records: tuple[Record, ...]
    kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def key(self) -> str:
        """``role/method``: what a row is known by within a report."""
        return f"{self.role}/{self.method}"

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(record.seed for record in self.records)

    @cached_property
    def probes(self) -> tuple[list[Probed], ...]:
        """The entropy probes of every run, by step: several tables and pictures ask for them."""
        return tuple(map(probes, self.records))

    @property
    def label(self) -> str:
        """The method's name, marked where the row is a control: unique over all rows of a report."""
        return f"{self.method} (control)" if self.role == "control" else self.method

    @property
    def name(self) -> str:
        """The row as every format calls it: the untrained model is not a method."""
        if self.role != "base":
            return self.label
        return {"base": "base model", "base-best-temperature": "base at its best temperature"}.get(
            self.method, f"base model {self.method.removeprefix('base').strip(' -')}".strip()
        )

    @property
    def card(self) -> MethodCard:
        return self.records[0].method_card or MethodCard()

    @property
    def tuned(self) -> bool:
        return self.records[0].tuned

    @property
    def reconstruction(self) -> bool:
        return self.card.reconstruction

    @property
    def changes(self) -> Mapping[str, Any]:
        """Of a control, what it changes of the tuned run of its method."""
        return self.records[0].changes or {}

    @property
    def sampling_differs(self) -> bool:
        """Whether the row is a control that is sampled at another temperature, by its own profile."""
        return any(key in self.changes for key in ("eval.temperature", "eval.profile_settings"))

    @property
    def evaluation_only(self) -> bool:
        """Whether the row is a control whose training is that of its method: only the evaluation differs."""
        return bool(self.changes) and all(key.startswith("eval.") for key in self.changes)

    @property
    def trainings(self) -> int:
        """How many of its runs are trainings of its own; the others evaluate the weights of another run."""
        if self.role == "base" or self.evaluation_only:
            return 0
        return sum(not record.trained_by for record in self.records)

    @property
    def track(self) -> str:
        return self.card.track or "main"


def once(of: _Of) -> _Of:
    """What ``of`` finds out about a group is kept with it: tables, pictures and page ask for the same."""

    @wraps(of)
    def kept(group: Group, *more: Any) -> Any:
        key = (of.__module__, of.__qualname__, *more)  # by name: a function that is wrapped cannot be pickled
        if key not in group.kept:
            group.kept[key] = of(group, *more)
        return group.kept[key]

    return kept  # type: ignore[return-value]


def probes(record: Record) -> list[Probed]:
    """The entropy probes of one run, by step; those without a finite entropy are left out."""
    return sorted(
        [
            (p.step, float(p.generated_tokens), p.entropy_nats)
            for p in record.probe
            if p.entropy_nats is not None and isfinite(p.entropy_nats)
        ]
    )


def method_key(method: str) -> str:
    """:attr:`Group.key` of a method's own row, which is no control."""
    return f"method/{method}"


def row_of(groups: Iterable[Group], method: str) -> Group | None:
    """A method's own row, e.g. the reference's."""
    return next((group for group in groups if group.key == method_key(method)), None)


#: Several times as fast as ``_CANONICAL``, to tell values apart.
_SORTED = msgspec.json.Encoder(order="sorted", enc_hook=str)
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str)


def canonical(value: Any) -> str:
    """Text that is equal exactly when two JSON values are."""
    return _CANONICAL.encode(value)


def group_records(records: Iterable[Record]) -> list[Group]:
    """Sorted, checked groups; exact duplicates of a record count once.

    Raises:
        ValueError: see :func:`harness.report.render.files.write_report`.
    """
    cells: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        cells.setdefault((record.role, record.method, record.seed), []).append(record)
    rows = [record for cell in sorted(cells) for record in _distinct(cells[cell])]
    for key, remedy in _SAME_EVERYWHERE.items():
        _check_same(rows, key, f"records of different {key} cannot stand in one table", remedy)
    _check_frontier(rows)
    # a control at its best temperature says so in its row, and is the only one that may
    alike = [record for record in rows if "eval.profile_settings" not in (record.changes or {})]
    for name in sorted({name for record in alike for name in record.evals}):
        _check_profile(alike, name)
    members: dict[tuple[str, str], list[Record]] = {}
    for record in rows:
        members.setdefault((record.role, record.method), []).append(record)
    return [_group(role, method, runs) for (role, method), runs in members.items()]


def _distinct(runs: list[Record]) -> list[Record]:
    """Each record once; the order in which they came does not matter."""
    if len(runs) == 1:  # nearly always, and a record's whole text is long
        return runs
    unique = {record_line(record): record for record in runs}
    return [unique[text] for text in sorted(unique)]


def _check_same(records: Sequence[Record], key: str, problem: str, remedy: str) -> None:
    section, _, inner = key.rpartition(".")
    values = [getattr(record, section).get(inner) if section else getattr(record, key) for record in records]
    if len({*map(_SORTED.encode, values)}) > 1:
        texts = [*map(canonical, values)]
        first = dict(zip(reversed(texts), reversed(records), strict=True))
        found = "; ".join(
            f"{text} in {texts.count(text)} (e.g. {first[text].run_id})" for text in sorted(first)
        )
        raise ValueError(f"{problem}: {found}. Remedy: {remedy}")


def _check_frontier(records: Sequence[Record]) -> None:
    """One choice of validation problems: curves, laws and validation scores of others are other measures."""
    _check_one(
        ((canonical(sorted(r.frontier_problem_ids or ())), r) for r in records if r.frontier),
        lambda record: str(len(record.frontier_problem_ids or ()) or "all"),
        "records with frontiers of different validation problems cannot stand in one table",
        "run all with one eval.frontier_problems, or write one report for each",
    )


def _check_profile(records: Sequence[Record], name: str) -> None:
    """One profile for all who were evaluated on a set: another template or temperature is another measure."""
    _check_one(
        ((str(r.evals[name].profile_hash), r) for r in records if name in r.evals),
        lambda record: record.evals[name].profile or "no profile",
        f"records evaluated on {name} by different profiles cannot stand in one table",
        "evaluate all by one eval.profile, or write one report per profile",
    )


def _check_one(
    keyed: Iterable[tuple[str, Record]], says: Callable[[Record], str], problem: str, remedy: str
) -> None:
    """Refuse records of more than one key; the first of each is named."""
    found: dict[str, Record] = {}
    for key, record in keyed:
        found.setdefault(key, record)
    if len(found) > 1:
        told = "; ".join(f"{says(record)} (e.g. {record.run_id})" for _, record in sorted(found.items()))
        raise ValueError(f"{problem}: {told}. Remedy: {remedy}")


def _group(role: str, method: str, runs: list[Record]) -> Group:
    for key, remedy in _SAME_IN_ROW.items():
        _check_same(runs, key, f"the seeds of {method!r} differ in {key}", remedy)
    seeds = [run.seed for run in runs]
    doubled = (
        sorted({seed for seed in seeds if seeds.count(seed) > 1}) if len(set(seeds)) < len(seeds) else []
    )
    if doubled:
        ids = [run.run_id for run in runs if run.seed == doubled[0]]
        raise ValueError(
            f"{method!r} has {len(ids)} different records for seed {doubled[0]} ({', '.join(ids)}): "
            "keep the one that belongs to the current configuration"
        )
    return Group(method, role, tuple(runs))


def evaluation_sets(groups: Iterable[Group]) -> list[str]:
    """Names of the reported sets: in distribution, harder, out of distribution, then by alphabet.

    Validation sets chose the hyper-parameters and are never reported.
    """
    names = {name for group in groups for record in group.records for name in record.evals}
    first = ["test_id", "test_hard", "test_ood"]
    return sorted(
        (name for name in names if not name.startswith("val")),
        key=lambda name: (first.index(name) if name in first else len(first), name),
    )
