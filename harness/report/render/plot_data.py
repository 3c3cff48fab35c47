"""The report as plain data: ``leaderboard.json``, and what the page draws its plots and details from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from harness.report.analysis.entropy import Law
from harness.report.analysis.model import Line, Report, Table
from harness.report.analysis.scores import Curve, FloatArray, entropy_curve, frontier_curves, frontier_k
from harness.report.data.grid import setting_of
from harness.report.data.groups import Group
from harness.report.data.provenance import run_facts, used
from harness.report.render.style import BASE, Style, styles
from harness.report.tables.columns import interval_text
from harness.statistics.rounding import all_significant, all_to_digits, significant
from harness.util.collector import collector_paused

FORMAT = 1


@collector_paused()
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
        "rows": [_row(group, report, looks[group.key], k, pages or {}) for group in report.groups],
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
        "tables": [_table(table) for table in report.tables],
    }


def looks_of(report: Report) -> dict[str, Style]:
    """Key of a row -> how it is drawn."""
    controls = {g.label for g in report.groups if g.role == "control"}
    found = styles((g.label for g in report.groups if g.role != "base"), report.reference, controls)
    return {g.key: _base(g) if g.role == "base" else found[g.label] for g in report.groups}


def _base(group: Group) -> Style:
    return BASE if group.method == "base" else replace(BASE, marker="P", dashes=(4, 1.5, 1, 1.5))


def _row(
    group: Group, report: Report, look: Style, k: int | None, pages: Mapping[str, str]
) -> dict[str, Any]:
    first = group.records[0]
    told = _curves(group, report.curves.get(group.key), frontier_curves(group, k) if k else None)
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
        "trace": _traces(group),
        "law": _law(report.discipline[group.key].law),
        "runs": [run_facts(record) for record in group.records],
    }  # fmt: skip


def _law(law: Law | None) -> dict[str, Any] | None:
    """The fit, and per seed ``[entropy, pass@1, residual]`` of each checkpoint."""
    if law is None:
        return None
    parts = {"a": law.a, "b": law.b, "ceiling": law.ceiling}
    told: dict[str, Any] = {
        key: _each_significant(part.value, part.low, part.high) for key, part in parts.items()
    }
    return told | {
        "rmse": significant(law.rmse),
        "r2": significant(law.r2) if np.isfinite(law.r2) else None,
        "points": _rounded([np.array(own) for own in law.points]),
        "applies": law.applies,
        "why_not": law.why_not or None,
    }


def _curves(
    group: Group, passk_SK: FloatArray | None, frontier: tuple[Curve, Curve] | None
) -> list[dict[str, Any] | None]:
    """Entropy, pass@k and the two curves of the frontier: of each mean, smallest and largest seed."""
    entropy = entropy_curve(group)
    curves = [entropy, None, *(frontier or (None, None))]
    values = [curve and curve.values_ST for curve in curves]
    values[1] = None if passk_SK is None or not passk_SK.shape[1] else passk_SK
    # rounded together: a call for each would take most of the time
    bands = iter(_rounded([_band(own_ST) for own_ST in values if own_ST is not None]))
    told: list[dict[str, Any] | None] = []
    for curve, own_ST in zip(curves, values, strict=True):
        if own_ST is None:
            told.append(None)
            continue
        steps = {} if curve is None else {"step": curve.steps_T.tolist()}
        told.append(steps | dict(zip(("mean", "low", "high"), next(bands), strict=True)))
    return told


def _band(values_ST: FloatArray) -> FloatArray:
    """[3, T] mean over the seeds, and the smallest and largest seed."""
    return np.stack([values_ST.mean(axis=0), values_ST.min(axis=0), values_ST.max(axis=0)])


def _rounded(arrays: Sequence[FloatArray]) -> list[Any]:
    """The arrays with significant digits, as lists."""
    if not arrays:
        return []
    flat = all_significant(np.concatenate([array.ravel() for array in arrays]))
    parts = np.split(flat, np.cumsum([array.size for array in arrays])[:-1])
    return [part.reshape(array.shape).tolist() for part, array in zip(parts, arrays, strict=True)]


def _each_significant(*values: float | None) -> list[float | None]:
    return [significant(value) for value in values]


def _traces(group: Group) -> dict[str, list[Any]] | None:
    """The recorded course of the runs, averaged over the seeds window by window; nothing unless all have it.

    Seeds that a token budget ended earlier have fewer windows: those that all have are told.
    """
    traces = [record.trace for record in group.records]
    known = [trace for trace in traces if trace.get("step")]
    if not known or len(known) < len(traces):
        return None
    names = sorted(set.intersection(*(set(trace) for trace in known)))
    windows = min(len(trace["step"]) for trace in known)
    mean_NT = _mean_traces([[trace[name][:windows] for name in names] for trace in known])
    gaps_N = np.asarray(np.isnan(mean_NT).any(axis=1)).tolist()
    return {
        name: [None if mean != mean else mean for mean in own] if has_gap else own
        for name, own, has_gap in zip(names, mean_NT.tolist(), gaps_N, strict=True)
    }


def _mean_traces(traces: Sequence[Sequence[Sequence[float | None]]]) -> FloatArray:
    """[N, T] mean over the seeds with five digits, nan where one has none; ``traces[seed][name][window]``."""
    total_NT = np.array(traces[0], dtype=np.float64)
    for own in traces[1:]:
        total_NT = total_NT + np.array(own, dtype=np.float64)
    return all_to_digits(total_NT / len(traces), 5)


def _table(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "pass_ks": list(table.ks),
        "detectable": significant(table.detectable),
        "comparisons": table.comparisons,
        "delta_k": table.top_k,
        "detectable_k": significant(table.detectable_k),
        "equal_spread_p": significant(table.spread_p),
        "equal_spread_k_p": significant(table.spread_k_p),
        "lines": [_line(line) for line in table.lines],
    }


def _line(line: Line) -> dict[str, Any]:
    interval = line.interval
    return {
        "row": line.group.key,
        "block": line.block,
        "marks": list(line.marks),
        "rank": list(line.rank) if line.rank else None,
        "pass_at": {str(k): significant(value) for k, value in line.pass_at.items()},
        "interval": None
        if interval is None
        else {
            "kind": interval.kind,
            "low": significant(interval.low),
            "high": significant(interval.high),
            "text": interval_text(line),
        },
        "delta": significant(line.delta),
        "delta_low": line.delta_interval and significant(line.delta_interval[0]),
        "delta_high": line.delta_interval and significant(line.delta_interval[1]),
        "p_holm": significant(line.p),
        "entropy_nats": _each_significant(*line.entropy) if line.entropy else None,
        "seeds": list(line.group.seeds),
        "seeds_expected": line.expected,
        "numbers": {
            key: significant(value) for key, value in sorted(line.numbers.items()) if value is not None
        },
    }


def paper_link(arxiv: Any, paper: str) -> str | None:
    """A link only to arXiv or to a plain https address, whatever a card says."""
    for text in (str(arxiv or ""), paper):
        found = re.search(r"\b(\d{4}\.\d{4,5})(v\d+)?\b", text)
        if found and not text.startswith("https://"):
            return f"https://arxiv.org/abs/{found.group(1)}"
    return paper if paper.startswith("https://") and not re.search(r"[\s\"'<>]", paper) else None
