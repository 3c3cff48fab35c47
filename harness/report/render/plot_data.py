"""The report as plain data: ``leaderboard.json``, and what the page draws its plots and details from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from struct import error as struct_error
from struct import pack
from typing import Any

import numpy as np

from harness.report.analysis.checkpoints import frontier_curves, frontier_k
from harness.report.analysis.entropy import Law
from harness.report.analysis.model import Line, Report, Table
from harness.report.analysis.scores import FloatArray, entropy_curve
from harness.report.data.grid import setting_of
from harness.report.data.groups import Group
from harness.report.data.provenance import run_facts, used
from harness.report.render.style import BASE, Style, styles
from harness.report.tables.columns import interval_text
from harness.statistics.rounding import Rounded, all_to_digits, rounded_at_once, significant
from harness.util.batches import kind_by_kind
from harness.util.collector import collector_paused

FORMAT = 1
_EMPTY: FloatArray = np.zeros(0)


@collector_paused(freeze=True)
def report_data(report: Report, pages: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Everything the tables and plots show, with the runs behind each row; scores are shares.

    What is computed has six significant digits: the last ones differ from processor to processor. What a
    record says stands as it does there.

    Args:
        pages: method name -> address of its page.
    """
    looks = looks_of(report)
    records = [record for group in report.groups for record in group.records]
    model, training_set = setting_of(records[0]) if records else ("", "")
    k = frontier_k(report.groups)
    with rounded_at_once() as rounded:
        rows = _rows(report, looks, k, pages or {}, rounded)
        tables = [_table(table, rounded) for table in report.tables]
    return {
        "format": FORMAT,
        "title": report.title,
        "subtitle": report.subtitle,
        "model": model,
        "training_set": training_set,
        "reference": report.reference,
        "notes": [list(note) for note in report.notes],
        "frontier_k": k,
        "equal": report.equal
        and {
            "pass@1": significant(report.equal.level),
            "k": report.equal.k,
            "detectable": significant(report.equal.detectable),
        },
        "rows": rows,
        "reported": [
            {
                **asdict(pair.reported),
                "row": pair.method,
                "ours": significant(pair.ours),
                "profile": pair.profile,
            }
            for pair in report.beside
            if pair.ours is not None
        ],
        "tables": tables,
    }


def looks_of(report: Report) -> dict[str, Style]:
    """Key of a row -> how it is drawn."""
    controls = {g.label for g in report.groups if g.role == "control"}
    found = styles((g.label for g in report.groups if g.role != "base"), report.reference, controls)
    return {g.key: _base(g) if g.role == "base" else found[g.label] for g in report.groups}


def _base(group: Group) -> Style:
    return BASE if group.method == "base" else replace(BASE, marker="P", dashes=(4, 1.5, 1, 1.5))


def _rows(
    report: Report, looks: Mapping[str, Style], k: int | None, pages: Mapping[str, str], rounded: Rounded
) -> list[dict[str, Any]]:
    """A row's curves, traces and law in one go with those of all others: a call for each takes far longer."""
    groups = report.groups
    curves = [_curves(group, report.curves.get(group.key), k) for group in groups]
    known = [own_ST for own in curves for _, own_ST in own if own_ST is not None]
    bands = iter(kind_by_kind(known, np.shape, _bands))
    told = [[_told(steps, own_ST, bands, rounded) for steps, own_ST in own] for own in curves]
    return [
        _row(group, report, looks[group.key], k, pages, own, trace, rounded)
        for group, own, trace in zip(groups, told, _traces(groups), strict=True)
    ]


def _row(
    group: Group, report: Report, look: Style, k: int | None, pages: Mapping[str, str],
    told: Sequence[dict[str, Any] | None], trace: dict[str, list[Any]] | None, rounded: Rounded,
) -> dict[str, Any]:  # fmt: skip
    first = group.records[0]
    paper = group.card.paper or ""
    return {
        "id": group.key,
        "label": group.name,
        "method": group.method,
        "role": group.role,
        "track": group.track if group.role == "method" else None,
        "title": group.card.title,
        "paper": paper or None,
        "link": paper_link(group.card.arxiv, paper),
        "page": pages.get(group.method) if group.role == "method" else None,
        "fidelity": group.card.fidelity,
        "reconstruction": group.reconstruction,
        "tuned": group.tuned,
        "tuning_choice": first.tuning_choice,
        "changes": first.changes or None,
        "used": used(first),
        "hyperparameters": first.hyperparameters,
        "look": {
            "colour": look.colour, "dark": look.dark, "marker": look.marker, "dashes": list(look.dashes),
            "width": look.width,
        },
        "entropy_curve": told[0],
        "frontier": told[2] and {"pass@1": told[2], f"pass@{k}": told[3]},
        "passk": told[1],
        "trace": trace,
        "law": _law(report.discipline[group.key].law, rounded),
        "runs": [run_facts(record) for record in group.records],
    }  # fmt: skip


def _law(law: Law | None, rounded: Rounded) -> dict[str, Any] | None:
    """The fit, and per seed ``[entropy, pass@1, residual]`` of each checkpoint."""
    if law is None:
        return None
    parts = {"a": law.a, "b": law.b, "ceiling": law.ceiling}
    return {
        **{key: _each_significant(part.value, part.low, part.high) for key, part in parts.items()},
        "rmse": significant(law.rmse),
        "r2": significant(law.r2) if np.isfinite(law.r2) else None,
        "points": [[rounded(list(point)) for point in own] for own in law.points],
        "applies": law.applies,
        "why_not": law.why_not or None,
    }


def _curves(
    group: Group, passk_SK: FloatArray | None, k: int | None
) -> list[tuple[list[int] | None, FloatArray | None]]:
    """Steps and values by seed of entropy, pass@k and the two curves of the frontier."""
    entropy, frontier = entropy_curve(group), frontier_curves(group, k) if k else None
    passk = (None, None if passk_SK is None or not passk_SK.shape[1] else passk_SK)
    steps, *others = (
        (None, None) if curve is None else (curve.steps_T.tolist(), curve.values_ST)
        for curve in (entropy, *(frontier or (None, None)))
    )
    return [steps, passk, *others]


def _told(
    steps: list[int] | None, values_ST: FloatArray | None, bands: Iterator[FloatArray], rounded: Rounded
) -> dict[str, Any] | None:
    if values_ST is None:
        return None
    mean, low, high = map(rounded, next(bands).tolist())
    return ({} if steps is None else {"step": steps}) | {"mean": mean, "low": low, "high": high}


def _bands(_: tuple[int, ...], curves: Sequence[FloatArray]) -> FloatArray:
    """[G, 3, T] mean over the seeds, and the smallest and largest seed, of curves of one shape."""
    all_GST = np.array(curves)
    return np.stack([all_GST.mean(axis=1), all_GST.min(axis=1), all_GST.max(axis=1)], axis=1)


def _each_significant(*values: float | None) -> list[float | None]:
    return [significant(value) for value in values]


def _traces(groups: Sequence[Group]) -> list[dict[str, list[Any]] | None]:
    """The recorded course of each row's runs, averaged over the seeds; nothing unless all have it."""
    named = [_named_traces(group) for group in groups]
    means = [_mean_traces(own) for _, own in named if own]
    flat = all_to_digits(np.concatenate([own.ravel() for own in means]), 5) if means else _EMPTY
    ends = np.cumsum([own.size for own in means])
    parts = (part.reshape(own.shape) for part, own in zip(np.split(flat, ends[:-1]), means, strict=True))
    return [_named(names, next(parts)) if own else None for names, own in named]


def _named(names: Sequence[str], mean_NT: FloatArray) -> dict[str, list[Any]]:
    gaps_N = np.asarray(np.isnan(mean_NT).any(axis=1)).tolist()
    return {
        name: [None if mean != mean else mean for mean in own] if has_gap else own
        for name, own, has_gap in zip(names, mean_NT.tolist(), gaps_N, strict=True)
    }


def _named_traces(group: Group) -> tuple[list[str], list[list[list[float | None]]]]:
    """Names and ``[seed][name][window]``; empty unless all seeds have a course.

    Seeds that a token budget ended earlier have fewer windows: those that all have are told.
    """
    traces = [record.trace for record in group.records]
    if not all(trace.get("step") for trace in traces):
        return [], []
    names = sorted(set.intersection(*(set(trace) for trace in traces)))
    windows = min(len(trace["step"]) for trace in traces)
    return names, [[trace[name][:windows] for name in names] for trace in traces]


def _mean_traces(traces: Sequence[Sequence[Sequence[float | None]]]) -> FloatArray:
    """[N, T] mean over the seeds, nan where one has none; ``traces[seed][name][window]``."""
    flat = [*chain.from_iterable(chain.from_iterable(traces))]
    try:  # a third of the time that numpy takes for it
        each_SNT = np.frombuffer(pack(f"{len(flat)}d", *flat)).reshape(len(traces), len(traces[0]), -1)
    except struct_error:  # one is None
        each_SNT = np.array(traces, dtype=np.float64)
    return np.asarray(each_SNT.sum(axis=0) / len(traces))


def _table(table: Table, rounded: Rounded) -> dict[str, Any]:
    return {
        "name": table.name,
        "pass_ks": list(table.ks),
        "detectable": significant(table.detectable),
        "comparisons": table.comparisons,
        "delta_k": table.top_k,
        "detectable_k": significant(table.detectable_k),
        "equal_spread_p": significant(table.spread_p),
        "equal_spread_k_p": significant(table.spread_k_p),
        "lines": [_line(line, rounded) for line in table.lines],
    }


def _line(line: Line, rounded: Rounded) -> dict[str, Any]:
    interval, ends = line.interval, line.delta_interval or (None, None)
    told = {
        "row": line.group.key,
        "block": line.block,
        "marks": list(line.marks),
        "rank": list(line.rank) if line.rank else None,
        "pass_at": rounded({str(k): value for k, value in line.pass_at.items()}),
        "interval": None
        if interval is None
        else rounded(
            {
                "kind": interval.kind, "low": interval.low, "high": interval.high,
                "text": interval_text(line),
            },
            ("low", "high"),
        ),
        "delta": line.delta,
        "delta_low": ends[0],
        "delta_high": ends[1],
        "p_holm": line.p,
        "entropy_nats": rounded(list(line.entropy)) if line.entropy else None,
        "seeds": list(line.group.seeds),
        "seeds_expected": line.expected,
        "numbers": rounded({key: value for key, value in line.numbers.items() if value is not None}),
    }  # fmt: skip
    return rounded(told, ("delta", "delta_low", "delta_high", "p_holm"))


def paper_link(arxiv: Any, paper: str) -> str | None:
    """A link only to arXiv or to a plain https address, whatever a card says."""
    for text in (str(arxiv or ""), paper):
        found = re.search(r"\b(\d{4}\.\d{4,5})(v\d+)?\b", text)
        if found and not text.startswith("https://"):
            return f"https://arxiv.org/abs/{found.group(1)}"
    return paper if paper.startswith("https://") and not re.search(r"[\s\"'<>]", paper) else None
