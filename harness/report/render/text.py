"""Write the report as Markdown and CSV."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
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


def csv_text(report: Report) -> str:
    """Every number behind the tables, one line per row and table, shares in [0, 1], empty when missing."""
    ks = sorted({k for table in report.tables for k in table.ks})
    votes = {key: None for table in report.tables for key in table.votes}
    numbers = (
        *sorted(votes, key=lambda key: int(key[4:])),
        "distinct",
        "distinct_correct",
        "mean_length",
        "truncated",
        "unparsed",
        "activity",
        "target_tracking_error",
        *ENTROPY,
        *("delta_pass_k", "delta_pass_k_low", "delta_pass_k_high", "p_pass_k_holm"),
        *("lr", "lr_at_grid_edge"),
        *EQUAL,
        *COLLAPSE,
        *ROBUST,
    )
    measured = (*numbers, *BUDGET)
    header = [*_CSV_FACTS, *(f"pass@{k}" for k in ks), *measured]
    told = {g.key: _csv_group(g) | _csv_law(report.discipline[g.key].law) for g in report.groups}
    out, kept = [",".join(header)], _CsvTexts()
    for table in report.tables:
        for line in table.lines:
            facts = told[line.group.key] | _csv_facts(report, table, line)
            row = (*map(facts.get, _CSV_FACTS), *map(line.pass_at.get, ks), *map(line.numbers.get, measured))
            texts = ["" if v is None else kept[v] if v else _csv_value(v) for v in row]
            out.append(",".join(texts))
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


class _CsvTexts(dict[Any, str]):
    """The tables of a report repeat most of their values; not for zero, which may have a sign.

    Truth values come as text: as a key, True is 1.
    """

    def __missing__(self, value: Any) -> str:
        self[value] = text = _csv_value(value)
        return text
