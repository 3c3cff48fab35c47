"""Two sweeps beside each other, row by row: what changed, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.records.record import Record
from harness.report.analysis.compared import Scored, join_groups, pooled_noise, seed_matrix
from harness.report.analysis.scores import common_problems, score_sets
from harness.report.data.groups import Group, canonical, evaluation_sets, group_records
from harness.statistics import holm, paired_differences

#: What two rows of one name may differ in, and how it is said.
_FACTS = {
    "benchmark": "problems", "model": "model", "numerics_version": "numerics", "method_hash": "method's code",
    "hyperparameters": "hyper-parameters", "tuned": "tuning", "tuning_choice": "tuning",
    "changes": "what the control changes",
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One row in both sweeps.

    Attributes:
        first, second: pass@1 averaged over the common sets; None where a run lacks one.
        difference: second minus first, over the seeds both have where there are any.
        p: Holm-corrected over the pairs; None without three common seeds on the same problems.
        same_runs: the two rows are the very same runs.
        differs: what is not the same between the rows besides the scores.
    """

    role: str
    method: str
    first: float | None
    second: float | None
    difference: float | None
    p: float | None
    seeds: tuple[int, ...]
    same_runs: bool
    differs: tuple[str, ...]


@dataclass(frozen=True)
class Versus:
    """``sets`` are the common test sets with the same problems; ``remarks`` say what is not compared."""

    sets: tuple[str, ...]
    pairs: tuple[Pair, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    remarks: tuple[str, ...]


def compare_sweeps(first: Sequence[Record], second: Sequence[Record]) -> Versus:
    """Compare the rows that both sweeps have, on the sets that both have, problem by problem.

    Raises:
        ValueError: the records of one side cannot stand in one table.
    """
    sides = [group_records(first), group_records(second)]
    by_key = [{g.key: g for g in groups} for groups in sides]
    keys = [key for key in by_key[0] if key in by_key[1]]
    common = [name for name in evaluation_sets(sides[0]) if name in evaluation_sets(sides[1])]
    sets = [name for name in common if _same_set(sides, name)]
    remarks = [
        f"{name}: other problems or another profile, so not compared" for name in common if name not in sets
    ]
    rows = [[by_key[side][key] for key in keys] for side in (0, 1)]
    scored = [_scored(groups, sides, sets) for groups in rows]
    p = _p_values(scored) if sets else [None] * len(keys)
    pairs = tuple(_pair(a, b, value) for a, b, value in zip(*scored, p, strict=True))
    alone = [tuple(g.label for g in groups if g.key not in keys) for groups in sides]
    return Versus(tuple(sets), pairs, alone[0], alone[1], tuple(remarks))


def _same_set(sides: Sequence[Sequence[Group]], name: str) -> bool:
    ids = [common_problems(groups, name) for groups in sides]
    profiles = {
        record.evals[name].profile_hash
        for groups in sides for group in groups if not group.sampling_differs
        for record in group.records if name in record.evals
    }  # fmt: skip
    versions = {record.benchmark for groups in sides for g in groups for record in g.records}
    every = [record for groups in sides for group in groups for record in group.records]
    own = all(name not in record.evals or record.evals[name].profile is None for record in every)
    # a split of the training problems is the same set only in one version of them
    return ids[0] == ids[1] and len(profiles) == 1 and (not own or len(versions) == 1)


def _scored(groups: Sequence[Group], sides: Sequence[Sequence[Group]], sets: Sequence[str]) -> list[Scored]:
    per_set = [score_sets(groups, name, common_problems(sides[0], name)) for name in sets]
    return join_groups(groups, per_set)


def _p_values(scored: Sequence[Sequence[Scored]]) -> list[float | None]:
    """Holm-corrected p of each pair; the seed noise is pooled over the trained rows of both sweeps."""
    count = len(scored[0])
    pairs = list(zip(*scored, strict=True))
    usable = [
        i for i, (a, b) in enumerate(pairs) if a.trained and b.trained and not _same_runs(a.group, b.group)
    ]
    if not usable:
        return [None] * count
    every = [side[i] for side in scored for i in usable]
    matrix = seed_matrix(every)
    noise = pooled_noise(every)
    raw = np.full(count, np.nan)
    for setting, i in enumerate(usable):
        both = [setting, setting + len(usable)]
        means = [np.stack(c) for c in zip(*(every[j].problem_means for j in both), strict=True)]
        raw[i] = paired_differences(matrix[both], means, noise, against=[0]).p[1, 0]
    return [float(value) if np.isfinite(value) else None for value in holm(raw)]


def _pair(a: Scored, b: Scored, p: float | None) -> Pair:
    seeds = tuple(sorted(set(a.group.seeds) & set(b.group.seeds)))
    scores = [{s: float(v) for s, v in zip(row.group.seeds, row.curve_SK[:, 0], strict=True)} if row.parts
              else {} for row in (a, b)]  # fmt: skip
    means = [float(np.mean(list(own.values()))) if own else None for own in scores]
    difference = None
    if all(scores):
        shared = [scores[1][s] - scores[0][s] for s in seeds]
        difference = float(np.mean(shared)) if shared else float(means[1] or 0.0) - float(means[0] or 0.0)
    return Pair(
        a.group.role,
        a.group.method,
        means[0],
        means[1],
        difference,
        p,
        seeds,
        _same_runs(a.group, b.group),
        _differs(a.group, b.group),
    )


def _same_runs(a: Group, b: Group) -> bool:
    return [record.run_id for record in a.records] == [record.run_id for record in b.records]


def _differs(a: Group, b: Group) -> tuple[str, ...]:
    first, second = a.records[0], b.records[0]
    found = [
        words
        for key, words in _FACTS.items()
        if canonical(getattr(first, key)) != canonical(getattr(second, key))
    ]
    if first.train.get("token_budget") != second.train.get("token_budget"):
        found.append("budget")
    return tuple(dict.fromkeys(found))
