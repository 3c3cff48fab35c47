"""Write the report as Markdown and CSV."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import isfinite
from operator import is_
from typing import Any

from harness.report.analysis.collapse import COLLAPSE
from harness.report.analysis.entropy import ENTROPY, Law
from harness.report.analysis.equal import EQUAL
from harness.report.analysis.lines import BUDGET
from harness.report.analysis.model import CONTROLS, Line, Report, Table
from harness.report.analysis.robustness import ROBUST
from harness.report.data.groups import Group, canonical
from harness.report.render.figures.draw import captions
from harness.report.tables.columns import Column, headline_columns
from harness.report.tables.printed import HEADERS, HEADING, printed_lead, printed_rows
from harness.report.tables.sections import sections_of

_QUOTED = re.compile(r'[",\n\r]')
_QUOTED_ALSO = re.compile(r'["\n\r]')
_MARKUP = re.compile(r"[\\|<>*_`\[\]\n]")


def escaped(text: str) -> str:
    """Escape what would end a Markdown cell or start markup."""
    if not _MARKUP.search(text):  # nearly always, and much faster than to replace nothing
        return text
    return _MARKUP.sub(lambda found: " " if found[0] == "\n" else f"\\{found[0]}", text)


def _rows(columns: Sequence[Column], blocks: Sequence[tuple[str, Sequence[Line]]]) -> list[str]:
    """A Markdown table; a block begins with its name in bold."""
    out = ["| " + " | ".join(escaped(column.header) for column in columns) + " |"]
    out.append("|" + "|".join(":--" if column.key == "method" else "--:" for column in columns) + "|")
    for name, lines in blocks:
        if len(blocks) > 1 or name != CONTROLS:
            cells = [f"**{escaped(name)}**" if column.key == "method" else "" for column in columns]
            out.append("| " + " | ".join(cells) + " |")
        for line in lines:
            texts = [column.text(line) for column in columns]
            if _MARKUP.search("".join(texts)):
                texts = [*map(escaped, texts)]
            out.append("| " + " | ".join(texts) + " |")
    return out


def markdown_text(report: Report, figures: Sequence[str]) -> str:
    """The leaderboard for a repository page."""
    out = [f"# {report.title}", ""]
    if report.subtitle:
        out += [report.subtitle, ""]
    out += [f"- **{label}.** {text}" for label, text in report.notes] + [""]
    for section in sections_of(report):
        columns, blocks = section.columns, section.blocks
        out += [f"## {section.heading}", ""]
        out += [section.lead, ""] if section.lead else []
        out += [*_rows(columns, blocks), ""]
        if section.legend:
            out += ["; ".join(f"*{escaped(name)}*: {help}" for name, help in section.legend) + ".", ""]
    if report.beside:
        out += [f"## {HEADING}", "", printed_lead(report), ""]
        rows = printed_rows(report)
        if rows:
            out += ["| " + " | ".join(HEADERS) + " |", "|" + ":--|" * len(HEADERS)]
            out += ["| " + " | ".join(map(escaped, row)) + " |" for row in rows] + [""]
    told = captions(report)
    for name in figures:
        out += [f"![{told[name]}]({name})", ""]
    return "\n".join(out)


#: Columns of the table on a project's front page.
_SHORT = ("rank", "method", "pass@1", "interval", "delta", "entropy", "activity")


def short_table(report: Report) -> str:
    """The headline table with its main columns, in Markdown."""
    table = report.tables[0]
    wanted = (*_SHORT, f"pass@{max(table.ks, default=1)}")
    columns = [column for column in headline_columns(table) if column.key in wanted]
    return "\n".join(_rows(columns, table.blocks))


def legend_of(report: Report) -> str:
    """What the short table's columns and signs mean, in a few words."""
    ranked = (
        "*rank*: the places that the comparisons leave open, all pairs, Holm-corrected; "
        if report.ranked
        else ""
    )
    return (
        f"{ranked}*± 95 %*: interval over seeds and problems (†: problems only, for it was not trained); "
        f"*Δ*: points of pass@1 to {report.reference}, p Holm-corrected over the table; *entropy*: nats per "
        "token, before → after training; *activity*: share of tokens whose gradient differs from that of "
        f"{report.reference} on the same rollouts, “inactive here” below 1 %."
    )


_CSV_FACTS = (
    *("set", "block", "rank", "rank_last", "method", "role", "track", "title", "fidelity", "reconstruction"),
    *("tuned", "marks", "seeds", "seeds_expected", "interval_kind", "interval_low", "interval_high"),
    *("delta", "delta_low", "delta_high", "p_holm", "entropy_first_nats", "entropy_last_nats"),
    *("equal_pass@1", "equal_k", "delta_k", "law_applies", "law_r2"),
    *(f"law_{part}_{end}" for part in ("a", "b", "ceiling") for end in ("low", "high")),
    *("tuning_choice", "changes", "run_ids", "config_hashes", "method_hash"),
)
#: The last of them are of the row's runs, equal in all tables.
_CSV_RUNS = _CSV_FACTS[_CSV_FACTS.index("law_applies") :]
_CSV_OWN = _CSV_FACTS[: -len(_CSV_RUNS)]
_CSV_SIGNALS = ("activity", "target_tracking_error", *ENTROPY)
_CSV_MANY = ("delta_pass_k", "delta_pass_k_low", "delta_pass_k_high", "p_pass_k_holm")
_CSV_TRAINING = ("lr", "lr_at_grid_edge", *EQUAL, *COLLAPSE, *ROBUST, *BUDGET)


def csv_text(report: Report) -> str:
    """Every number behind the tables, one line per row and table, shares in [0, 1], empty when missing."""
    ks = sorted({k for table in report.tables for k in table.ks})
    votes = {key: None for table in report.tables for key in table.votes}
    own = (
        *sorted(votes, key=lambda key: int(key[4:])),
        *("distinct", "distinct_correct", "mean_length", "truncated", "unparsed"),
    )
    header = [*_CSV_FACTS, *(f"pass@{k}" for k in ks), *own, *_CSV_SIGNALS, *_CSV_MANY, *_CSV_TRAINING]
    told = {g.key: _csv_group(g) | _csv_law(report.discipline[g.key].law) for g in report.groups}
    out = [",".join(header)]
    signals, trainings, groups = _CsvAlike(_CSV_SIGNALS), _CsvAlike(_CSV_TRAINING), _CsvAlike(_CSV_RUNS)
    for table in report.tables:
        for line in table.lines:
            key, numbers = line.group.key, line.numbers
            facts = told[key] | _csv_facts(report, table, line)
            measured = (*map(line.pass_at.get, ks), *map(numbers.get, own))
            parts = (
                _csv_texts([*map(facts.get, _CSV_OWN)]),
                groups.text(key, facts),
                _csv_texts(measured) if measured else None,
                signals.text(key, numbers),
                _csv_texts([*map(numbers.get, _CSV_MANY)]),
                trainings.text(key, numbers),
            )
            out.append(",".join([part for part in parts if part is not None]))
    return "\n".join([*out, ""])


def _csv_facts(report: Report, table: Table, line: Line) -> dict[str, Any]:
    interval = line.interval
    facts: dict[str, Any] = {
        "set": table.name,
        "block": line.block,
        "rank": line.rank[0] if line.rank else None,
        "rank_last": line.rank[1] if line.rank else None,
        "marks": "; ".join(line.marks),
        "seeds_expected": line.expected,
        "delta": line.delta,
        "delta_low": line.delta_interval and line.delta_interval[0],
        "delta_high": line.delta_interval and line.delta_interval[1],
        "p_holm": line.p,
    }
    if report.equal and line.numbers.get("equal_seeds") is not None:
        facts |= {"equal_pass@1": report.equal.level, "equal_k": report.equal.k}
    if line.numbers.get("delta_pass_k") is not None:
        facts["delta_k"] = table.top_k
    if interval is not None:
        facts |= {
            "interval_kind": interval.kind,
            "interval_low": interval.low,
            "interval_high": interval.high,
        }
    if line.entropy is not None:
        facts |= {"entropy_first_nats": line.entropy[0], "entropy_last_nats": line.entropy[1]}
    return facts


def _csv_law(law: Law | None) -> dict[str, Any]:
    if law is None:
        return {}
    facts: dict[str, Any] = {"law_applies": law.verdict, "law_r2": law.r2 if isfinite(law.r2) else None}
    for name, part in (("a", law.a), ("b", law.b), ("ceiling", law.ceiling)):
        facts |= {f"law_{name}_low": part.low, f"law_{name}_high": part.high}
    return facts


def _csv_group(group: Group) -> dict[str, Any]:
    """What the row is, and what leads to its runs; lists in the order of the seeds, settings as JSON."""
    first = group.records[0]

    def of_seeds(key: str) -> str:
        return "; ".join(str(getattr(record, key) or "") for record in group.records)

    settings = {"tuning_choice": first.tuning_choice, "changes": first.changes}
    return {
        "method": group.method,
        "role": group.role,
        "track": group.track,
        "title": group.card.title,
        "fidelity": group.card.fidelity,
        "reconstruction": _csv_value(group.reconstruction),
        "tuned": _csv_value(group.tuned),
        "seeds": len(group.seeds),
        **{key: canonical(value) if value else None for key, value in settings.items()},
        "run_ids": of_seeds("run_id"),
        "config_hashes": of_seeds("config_hash"),
        "method_hash": first.method_hash,
    }


def _csv_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if not -1e6 < value < 1e6 and value == value else f"{value:.6g}"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def _csv_texts(values: Sequence[Any]) -> str:
    """Cells with commas between them."""
    form = _csv_form(tuple(map(type, values)))
    # large numbers are written otherwise, and some words in quotes
    if form and "e+" not in (text := form % (*values,)) and text.count(",") == len(values) - 1:
        if not _QUOTED_ALSO.search(text):
            return text
    return ",".join(["" if value is None else _csv_value(value) for value in values])


@lru_cache(maxsize=1024)
def _csv_form(types: tuple[type, ...]) -> str:
    """A format of all cells of these types, several times as fast as one by one; empty if none does it."""
    forms = {float: "%.6g", int: "%d", str: "%s", type(None): "%.0s"}
    return ",".join(map(forms.__getitem__, types)) if forms.keys() >= set(types) else ""


class _CsvAlike:
    """The text of what a row has alike in every table, made once."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        self._known: dict[str, tuple[list[Any], str]] = {}

    def text(self, row: str, values: Mapping[str, Any]) -> str:
        own = [*map(values.get, self._keys)]
        known = self._known.get(row)
        if known is None or not all(map(is_, own, known[0])):
            self._known[row] = known = own, _csv_texts(own)
        return known[1]
