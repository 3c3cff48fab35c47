"""Build the report: score every run, compare the methods, order the lines, give out ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median

import numpy as np

from harness.report.entropy import Discipline, discipline
from harness.report.equal import Equal, at_equal_score
from harness.report.explain import explain, facts_of
from harness.report.lines import Training, block_of, line_order, marks_of, rankable, set_numbers, training_of
from harness.report.model import ALPHA, LEVEL, POWER, Line, Report, Table
from harness.report.records import Group, Record, evaluation_sets, group_records
from harness.report.scores import FloatArray, SetScores, common_problems, score_set
from harness.statistics import (
    Interval,
    bootstrap_interval,
    difference_intervals,
    holm,
    paired_differences,
    printable_ks,
    score_interval,
    seed_noise,
    shared_ranks,
    smallest_detectable_difference,
)


@dataclass(frozen=True)
class Scored:
    """A group with its scores on the sets of one table; ``parts`` is empty unless it has all of them."""

    group: Group
    parts: tuple[SetScores, ...]

    @property
    def trained(self) -> bool:
        return bool(self.parts) and self.group.role != "base"

    @property
    def problem_means(self) -> list[FloatArray]:
        return [part.problem_P for part in self.parts]

    def curve_SK(self) -> FloatArray:
        """pass@1..K per seed, averaged over the sets up to the K they all allow."""
        return self._curve_SK

    @cached_property
    def _curve_SK(self) -> FloatArray:
        width = min(part.curve_SK.shape[1] for part in self.parts)
        return np.asarray(np.mean([part.curve_SK[:, :width] for part in self.parts], axis=0))


@dataclass(frozen=True)
class Delta:
    """Difference in pass@1 to the reference, its corrected p, and its uncorrected interval."""

    value: float
    p: float | None = None
    interval: tuple[float, float] | None = None


@dataclass
class _Comparison:
    """Per method name of the trained rows: interval, difference to the reference, corrected p."""

    intervals: dict[str, Interval | None] = field(default_factory=dict)
    deltas: dict[str, Delta] = field(default_factory=dict)
    detectable: float | None = None
    comparisons: int = 0


def build_report(
    records: Sequence[Record],
    *,
    title: str,
    subtitle: str,
    expected_seeds: Mapping[str, int] | None,
    reference: str,
) -> Report:
    """Check, group, score, compare and order; see :func:`harness.report.write_report` for the arguments."""
    groups = group_records(records)
    expected = dict(expected_seeds or {})
    sets = evaluation_sets(groups)
    per_set = {name: _score_groups(groups, name) for name in sets}
    everything = join_groups(groups, list(per_set.values()))
    scored = {name: join_groups(groups, [per_set[name]]) for name in sets}
    if len(sets) != 1:  # with one set the average would repeat it
        scored = {"average": everything, **scored}
    trainings = {_key(group): training_of(group, reference) for group in groups}
    tables = [_table(name, rows, expected, reference, trainings) for name, rows in scored.items()]
    tables[0] = _with_ranks(tables[0], everything)
    present = {group.method for group in groups}
    missing = {name: count for name, count in sorted(expected.items()) if name not in present}
    curves = {(s.group.role, s.group.method): s.curve_SK() for s in everything if s.parts}
    entropy = _entropy(groups, curves, reference)
    fitted = any(found.law for found in entropy.values())
    notes = explain(groups, tables[0], sets, missing, reference, fitted=fitted)
    equal = at_equal_score(groups, reference)
    tables = [_with_numbers(table, entropy, equal) for table in tables]
    return Report(
        title, subtitle, reference, notes, tuple(groups), tuple(tables), curves,
        facts=facts_of(groups, tables[0], reference), discipline=entropy, equal=equal,
    )  # fmt: skip


def _entropy(
    groups: Sequence[Group], curves: Mapping[tuple[str, str], FloatArray], reference: str
) -> dict[tuple[str, str], Discipline]:
    anchor = next((g for g in groups if g.role == "method" and g.method == reference), None)
    base = curves.get(("base", "base"))
    keys = [(group.role, group.method) for group in groups]
    return {
        key: discipline(group, anchor, curves.get(key), base) for key, group in zip(keys, groups, strict=True)
    }


def _with_numbers(table: Table, entropy: Mapping[tuple[str, str], Discipline], equal: Equal | None) -> Table:
    lines = []
    for line in table.lines:
        key = line.group.role, line.group.method
        at_level = equal.rows[key].numbers if equal and key in equal.rows else {}
        lines.append(replace(line, numbers={**line.numbers, **entropy[key].numbers, **at_level}))
    return replace(table, lines=tuple(lines))


def _score_groups(groups: Sequence[Group], name: str) -> list[SetScores | None]:
    ids = common_problems(groups, name)
    return [score_set(group, name, ids) for group in groups]


def join_groups(groups: Sequence[Group], per_set: Sequence[Sequence[SetScores | None]]) -> list[Scored]:
    """Each group with its scores on all sets, ``per_set[set][group]``."""
    joined = []
    for index, group in enumerate(groups):
        parts = [scores[index] for scores in per_set]
        known = tuple(part for part in parts if part is not None)
        joined.append(Scored(group, known if len(known) == len(parts) else ()))
    return joined


def seed_matrix(scored: Sequence[Scored]) -> FloatArray:
    """[M, S] pass@1 of every run, nan where a method has no such seed."""
    seeds = sorted({seed for row in scored for seed in row.group.seeds})
    column = {seed: index for index, seed in enumerate(seeds)}
    matrix = np.full((len(scored), len(seeds)), np.nan)
    for index, row in enumerate(scored):
        matrix[index, [column[seed] for seed in row.group.seeds]] = row.curve_SK()[:, 0]
    return matrix


def _key(group: Group) -> str:
    return f"{group.role}/{group.method}"


def _compare(scored: Sequence[Scored], reference: str) -> _Comparison:
    result = _Comparison()
    trained = [row for row in scored if row.trained]
    if not trained:
        return result
    matrix = seed_matrix(trained)
    noise = seed_noise(matrix)
    for row, seeds in zip(trained, matrix, strict=True):
        known = seeds[np.isfinite(seeds)]
        interval = score_interval(known, row.problem_means, noise.variance, noise.df, level=LEVEL)
        result.intervals[_key(row.group)] = interval
    names = [_key(row.group) for row in trained]
    if f"method/{reference}" not in names:
        return result
    anchor = names.index(f"method/{reference}")
    test = paired_differences(matrix, _stacked(trained), noise, against=[anchor])
    p = test.p[:, 0].copy()
    p[anchor] = np.nan
    low, high = (bound[:, 0] for bound in difference_intervals(test, level=LEVEL))
    for index, (name, corrected) in enumerate(zip(names, holm(p), strict=True)):
        if index != anchor and np.isfinite(test.difference[index, 0]):
            known = np.isfinite(corrected)
            result.deltas[name] = Delta(
                float(test.difference[index, 0]),
                float(corrected) if known else None,
                (float(low[index]), float(high[index])) if known else None,
            )
    tested = np.flatnonzero(np.isfinite(p))
    result.comparisons = len(tested)
    if len(tested):
        result.detectable = smallest_detectable_difference(
            median(test.standard_error[tested, 0].tolist()),
            median(test.df[tested, 0].tolist()),
            alpha=ALPHA / len(tested),
            power=POWER,
        )
    return result


def _stacked(scored: Sequence[Scored]) -> list[FloatArray]:
    """Per test set [M, P]: the problem means of all rows under each other."""
    return [np.stack(column) for column in zip(*(row.problem_means for row in scored), strict=True)]


def _table(
    name: str,
    scored: Sequence[Scored],
    expected: Mapping[str, int],
    reference: str,
    trainings: Mapping[str, Training],
) -> Table:
    compared = _compare(scored, reference)
    # A column stands as soon as one row has the samples for it (n >= 2 k); the others show a dash there.
    fewest = [min(part.n for part in row.parts) for row in scored if row.parts]
    ks = sorted({k for n in fewest for k in printable_ks(n) or (1,)})
    anchor = next((r for r in scored if r.group.method == reference and r.group.role == "method"), None)
    tokens = trainings[_key(anchor.group)].tokens if anchor else None
    lines = []
    for row in scored:
        group, training = row.group, trainings[_key(row.group)]
        pass_1K = row.curve_SK().mean(axis=0) if row.parts else np.zeros(0)
        interval = compared.intervals.get(_key(group))
        delta = compared.deltas.get(_key(group))
        if row.parts and not row.trained:  # the base model has no training seeds, only problems
            interval = bootstrap_interval(row.problem_means, level=LEVEL)
            if anchor is not None and anchor.parts:
                delta = Delta(float(pass_1K[0] - anchor.curve_SK()[:, 0].mean()))
        wanted = expected.get(group.method) if group.role != "base" else None
        lines.append(
            Line(
                group=group,
                block=block_of(group),
                expected=wanted,
                marks=marks_of(group, wanted, bool(row.parts), training.tokens, tokens),
                pass_at={k: float(pass_1K[k - 1]) for k in ks if k <= len(pass_1K)},
                interval=interval,
                delta=delta.value if delta else None,
                delta_interval=delta.interval if delta else None,
                p=delta.p if delta else None,
                entropy=training.entropy,
                numbers={**training.numbers, **set_numbers(group, name)},
            )
        )
    lines.sort(key=line_order)
    return Table(name, tuple(ks), tuple(lines), compared.detectable, compared.comparisons)


def _with_ranks(table: Table, scored: Sequence[Scored]) -> Table:
    """Ranks of the headline table, track by track: Holm over all pairs of a track's ranked methods.

    The noise is pooled over every trained row, as it is for the intervals.
    """
    trained = [row for row in scored if row.trained]
    if not trained:
        return table
    noise = seed_noise(seed_matrix(trained))
    by_key = {_key(row.group): row for row in trained}
    ranks: dict[str, tuple[int, int]] = {}
    for _, block in table.blocks:
        lines = [line for line in block if rankable(line)]
        if not lines:
            continue
        members = [by_key[_key(line.group)] for line in lines]
        p = paired_differences(seed_matrix(members), _stacked(members), noise).p
        pairs = np.triu_indices(len(members), 1)
        corrected = np.full(p.shape, np.nan)
        corrected[pairs] = holm(p[pairs])
        corrected.T[pairs] = corrected[pairs]
        found = shared_ranks([float(line.score or 0.0) for line in lines], corrected, alpha=ALPHA)
        ranks |= {_key(line.group): (int(a), int(b)) for line, (a, b) in zip(lines, found, strict=True)}
    lines = sorted((replace(line, rank=ranks.get(_key(line.group))) for line in table.lines), key=line_order)
    return replace(table, lines=tuple(lines))
