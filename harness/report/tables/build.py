"""Build the report: score every run, compare the methods, order the lines, give out ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.records.record import Record
from harness.records.trial import TrialRecord
from harness.report.analysis.collapse import collapses
from harness.report.analysis.compared import (
    Delta,
    MethodComparison,
    Scored,
    compare,
    join_groups,
    pooled_noise,
    seed_matrix,
    stacked,
)
from harness.report.analysis.entropy import Discipline, discipline, laws
from harness.report.analysis.equal import Equal, at_equal_score
from harness.report.analysis.levels import ALPHA, LEVEL
from harness.report.analysis.lines import (
    Training,
    block_of,
    line_order,
    marks_of,
    rankable,
    set_numbers,
    training_of,
)
from harness.report.analysis.model import Line, Report, Table
from harness.report.analysis.robustness import Surface, of_trials
from harness.report.analysis.scores import FloatArray, SetScores, common_problems, mean_of_rows, score_sets
from harness.report.data.groups import Group, evaluation_sets, group_records, method_key, row_of
from harness.report.tables.explain import explain, facts_of
from harness.statistics import bootstrap_interval, holm, paired_differences, printable_ks, shared_ranks
from harness.util.collector import collector_paused


@collector_paused(freeze=True)
def build_report(
    records: Sequence[Record],
    *,
    title: str,
    subtitle: str,
    expected_seeds: Mapping[str, int] | None,
    reference: str,
    trials: Sequence[TrialRecord] = (),
) -> Report:
    """Check, group, score, compare and order; arguments as of ``write_report`` in ``render/files.py``.

    Args:
        trials: of the same model and training set; only those of the records' numerics version are used.
    """
    groups = group_records(records)
    expected = dict(expected_seeds or {})
    sets = evaluation_sets(groups)
    per_set = {name: _score_groups(groups, name) for name in sets}
    everything = join_groups(groups, list(per_set.values()))
    scored = {name: join_groups(groups, [per_set[name]]) for name in sets}
    if len(sets) != 1:  # with one set the average would repeat it
        scored = {"average": everything, **scored}
    trainings = {group.key: training_of(group, reference) for group in groups}
    curves = {s.group.key: s.curve_SK for s in everything if s.parts}
    entropy = _entropy(groups, curves, reference)
    equal = at_equal_score(groups, reference)
    robust = of_trials(trials, groups[0].records[0].numerics_version) if groups and trials else None
    numbers = _numbers(groups, entropy, equal, collapses(groups), robust)
    tables = [_table(name, rows, expected, reference, trainings, numbers) for name, rows in scored.items()]
    tables[0] = _with_ranks(tables[0], everything)
    present = {group.method for group in groups}
    missing = {name: count for name, count in sorted(expected.items()) if name not in present}
    fitted = any(found.law for found in entropy.values())
    notes = explain(groups, tables[0], sets, missing, reference, fitted=fitted)
    return Report(
        title, subtitle, reference, notes, tuple(groups), tuple(tables), curves,
        facts=facts_of(groups, tables[0], reference), discipline=entropy, equal=equal, robustness=robust,
    )  # fmt: skip


def _entropy(
    groups: Sequence[Group], curves: Mapping[str, FloatArray], reference: str
) -> dict[str, Discipline]:
    anchor, base = row_of(groups, reference), curves.get("base/base")
    law = laws(groups, anchor)
    return {g.key: discipline(g, curves.get(g.key), base, law[g.key]) for g in groups}


def _numbers(
    groups: Sequence[Group],
    entropy: Mapping[str, Discipline],
    equal: Equal | None,
    fallen: Mapping[str, Mapping[str, float | None]],
    robust: Surface | None,
) -> dict[str, dict[str, float | None]]:
    """Numbers of each row's training, which all its lines have alike, by :attr:`Group.key`."""
    found = {}
    for group in groups:
        key = group.key
        at_level = equal.rows[key].numbers if equal and key in equal.rows else {}
        numbers = {**entropy[key].numbers, **at_level, **fallen.get(key, {})}
        own = robust.rows.get(group.method) if robust and group.role == "method" else None
        if own is not None:
            numbers |= own.numbers | {f"robust_at_{rate:g}": score for rate, score in own.scores.items()}
        found[key] = numbers
    return found


def _score_groups(groups: Sequence[Group], name: str) -> list[SetScores | None]:
    return score_sets(groups, name, common_problems(groups, name))


def _table(
    name: str,
    scored: Sequence[Scored],
    expected: Mapping[str, int],
    reference: str,
    trainings: Mapping[str, Training],
    numbers: Mapping[str, Mapping[str, float | None]],
) -> Table:
    # A column stands as soon as one row has the samples for it (n >= 2 k); the others show a dash there.
    fewest = [min(part.n for part in row.parts) for row in scored if row.parts]
    ks = sorted({k for n in fewest for k in printable_ks(n) or (1,)})
    top_k = ks[-1] if ks and ks[-1] > 1 else None
    compared = compare(scored, reference)
    many = compare(scored, reference, top_k) if top_k else MethodComparison()
    anchor = next((r for r in scored if r.group.key == method_key(reference)), None)
    tokens = trainings[anchor.group.key].tokens if anchor else None
    lines = []
    for row in scored:
        group, training = row.group, trainings[row.group.key]
        pass_K = mean_of_rows(row.curve_SK).tolist() if row.parts else []
        interval = compared.intervals.get(group.key)
        delta = compared.deltas.get(group.key)
        if row.parts and not row.trained:  # the base model has no training seeds, only problems
            interval = bootstrap_interval(row.problem_means, level=LEVEL)
        wanted = expected.get(group.method) if group.role != "base" else None
        lines.append(
            Line(
                group=group,
                block=block_of(group),
                expected=wanted,
                marks=marks_of(group, wanted, bool(row.parts), training.tokens, tokens),
                pass_at={k: pass_K[k - 1] for k in ks if k <= len(pass_K)},
                interval=interval,
                delta=delta.value if delta else None,
                delta_interval=delta.interval if delta else None,
                p=delta.p if delta else None,
                entropy=training.entropy,
                numbers={
                    **training.numbers,
                    **set_numbers(group, name),
                    **_many_numbers(many.deltas.get(group.key)),
                    **numbers[group.key],
                },
            )
        )
    lines.sort(key=line_order)
    return Table(
        name, tuple(ks), tuple(lines), top_k=top_k, comparisons=compared.comparisons,
        detectable=compared.detectable, detectable_k=many.detectable,
        spread_p=compared.spread_p, spread_k_p=many.spread_p,
    )  # fmt: skip


def _many_numbers(delta: Delta | None) -> dict[str, float | None]:
    """The difference in pass@k at the largest printed k, by the names that tables use."""
    low, high = delta.interval if delta and delta.interval else (None, None)
    return {
        "delta_pass_k": delta.value if delta else None, "delta_pass_k_low": low, "delta_pass_k_high": high,
        "p_pass_k_holm": delta.p if delta else None,
    }  # fmt: skip


def _with_ranks(table: Table, scored: Sequence[Scored]) -> Table:
    """Ranks of the headline table, track by track: Holm over all pairs of a track's ranked methods.

    The noise is pooled over every training, as it is for the intervals.
    """
    trained = [row for row in scored if row.trained]
    if not trained:
        return table
    noise = pooled_noise(trained)
    by_key = {row.group.key: row for row in trained}
    ranks: dict[str, tuple[int, int]] = {}
    for _, block in table.blocks:
        lines = [line for line in block if rankable(line)]
        if not lines:
            continue
        members = [by_key[line.group.key] for line in lines]
        p = paired_differences(seed_matrix(members), stacked(members), noise).p
        pairs = np.triu_indices(len(members), 1)
        corrected = np.full(p.shape, np.nan)
        corrected[pairs] = holm(p[pairs])
        corrected.T[pairs] = corrected[pairs]
        found = shared_ranks([float(line.score or 0.0) for line in lines], corrected, alpha=ALPHA)
        ranks |= {line.group.key: (int(a), int(b)) for line, (a, b) in zip(lines, found, strict=True)}
    ranked = [replace(line, rank=ranks.get(line.group.key)) for line in table.lines]
    return replace(table, lines=tuple(sorted(ranked, key=line_order)))
