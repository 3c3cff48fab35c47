"""The scores of one evaluation as lines of text: one model, one profile, a column per set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.evaluation.profiles import ks_of
from harness.evaluation.scores import estimates

Score = Mapping[str, float | None]


def scored(entry: Mapping[str, Any], ks: Sequence[int] = ()) -> dict[str, Any]:
    """Every estimate of a set: ``{"pass@1": {"value", "low", "high"}, "pass@8": …, "maj@8": …}``.

    pass@1 and maj@k come from the first sampling, pass@k from the one named ``pass`` where there is one.
    """
    first = first_draws(entry)
    passes = entry["draws"].get("pass", first)
    more = [k for k in ks_of(passes["n"], ks) if k > 1]
    votes = [k for k in ks_of(first["n"], ks) if k > 1 and 2 * k <= first["n"]]
    return estimates(first, passes=[1], majorities=votes) | estimates(passes, passes=more, majorities=())


def first_draws(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sampling behind pass@1, maj@k and the rates."""
    draws: Mapping[str, Any] = entry["draws"]
    first: Mapping[str, Any] = draws["avg"] if "avg" in draws else next(iter(draws.values()))
    return first


def lines(record: Mapping[str, Any], ks: Sequence[int] = ()) -> list[str]:
    """Heading, notes and table."""
    profile, engine = record["profile"], record.get("engine") or {}
    template, used = (
        profile["template"]["name"],
        f"{engine.get('engine', '–')} {engine.get('dtype', '')}".strip(),
    )
    told = [
        f"{record['model']['label']}, profile {profile['label']} "
        f"(template {template}, grader {profile['grader']}), engine {used}"
    ]
    if profile["changes"]:
        said = ", ".join(f"{k}={v}" for k, v in sorted(profile["changes"].items()))
        told.append(f"not profile {profile['name']} as it is: {said}")
    entries = {name: record["benchmarks"][name] for name in _order(record)}
    entries = {name: entry for name, entry in entries.items() if entry.get("draws")}
    for name, entry in entries.items():
        told += [
            f"{name}: {body['shortened']} prompts leave less than {body['max_tokens']} tokens for a response"
            for body in list(entry["draws"].values())[:1]
            if body.get("shortened")
        ]
    return [*told, *_table(entries, ks)] if entries else told


def _order(record: Mapping[str, Any]) -> list[str]:
    """Sets in the order they were asked for (a file on disk has its keys sorted)."""
    words = dict(word.partition("=")[::2] for word in record.get("request", ()))
    asked = [name.strip() for name in words.get("benchmark", "").split(",")]
    return [
        *dict.fromkeys(name for name in asked if name in record["benchmarks"]),
        *(name for name in record["benchmarks"] if name not in asked),
    ]


def _table(entries: Mapping[str, Mapping[str, Any]], ks: Sequence[int]) -> list[str]:
    estimates_of = {name: scored(entry, ks) for name, entry in entries.items()}
    first = {name: first_draws(entry) for name, entry in entries.items()}
    measures = sorted(
        {measure for found in estimates_of.values() for measure in found},
        key=lambda m: (m.startswith("maj"), int(m.partition("@")[2])),
    )
    rows = [["", *entries], ["problems", *(str(len(f["problem_ids"])) for f in first.values())]]
    rows.append(["samples each", *(str(f["n"]) for f in first.values())])
    for measure in measures:
        found = [e.get(measure) for e in estimates_of.values()]
        rows.append([measure, *("" if s is None else f"{s['value']:.3f}" for s in found)])
        intervals = ["" if s is None else _interval(s) for s in found]
        rows += [["  95 %", *intervals]] if any(intervals) else []
    for label, key in (("cut off", "truncated"), ("unparsed", "unparsed"), ("timeout", "timeout")):
        rows.append([label, *(f"{f[key]:.1%}" for f in first.values())])
    rows.append(["tokens", *(f"{f['mean_length']:.0f}" for f in first.values())])
    rows.append(
        ["distinct answers", *(f"{sum(f['distinct']) / len(f['distinct']):.1f}" for f in first.values())]
    )
    rows.append(["2nd grader agrees", *(_share(f["agreement"]) for f in first.values())])
    rows.append(["  its pass@1", *(_share(f["second_accuracy"]) for f in first.values())])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join([r[0].ljust(widths[0]), *map(str.rjust, r[1:], widths[1:])]).rstrip() for r in rows]


def _interval(score: Score) -> str:
    low, high = score["low"], score["high"]
    return "" if low is None or high is None else f"{low:.3f}–{high:.3f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
