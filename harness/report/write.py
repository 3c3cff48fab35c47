"""Write the report as Markdown, CSV and one self-contained HTML page."""

from __future__ import annotations

import csv
import io
import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.columns import Column, cost_columns, headline_columns, p_text, points, set_columns
from harness.report.explain import set_title
from harness.report.lines import BUDGET
from harness.report.model import CONTROLS, Line, Report, Table
from harness.report.records import Group
from harness.report.style import BASE, styles

FIGURES = {
    "entropy.png": "Probe entropy over training steps; the band spans the seeds from smallest to largest.",
    "passk.png": "pass@k for growing k, with the base model's curve.",
    "frontier.png": "pass@1 against pass@k over checkpoints: diversity at equal accuracy.",
}


def _sections(report: Report) -> list[tuple[str, str, list[Column], list[tuple[str, list[Line]]]]]:
    """``(id, heading, columns, blocks)`` of every table that is printed."""
    first, *others = report.tables
    found = [("average", set_title(first.name), headline_columns(first), first.blocks)]
    found += [(table.name, set_title(table.name), set_columns(table), table.blocks) for table in others]
    trained = [(name, [line for line in lines if line.group.role != "base"]) for name, lines in first.blocks]
    found.append(
        ("cost", "What it cost", cost_columns(), [(name, lines) for name, lines in trained if lines])
    )
    return found


def _cell(text: str) -> str:
    """Escape what would end a Markdown cell or start markup."""
    return re.sub(r"([\\|<>*_`\[\]])", r"\\\1", text).replace("\n", " ")


def markdown_text(report: Report, figures: Sequence[str]) -> str:
    """The leaderboard for a repository page."""
    out = [f"# {report.title}", ""]
    if report.subtitle:
        out += [report.subtitle, ""]
    out += [f"- **{label}.** {text}" for label, text in report.notes] + [""]
    for _, heading, columns, blocks in _sections(report):
        out += [f"## {heading}", ""]
        out.append("| " + " | ".join(_cell(column.header) for column in columns) + " |")
        out.append("|" + "|".join(":--" if column.key == "method" else "--:" for column in columns) + "|")
        for name, lines in blocks:
            if len(blocks) > 1 or name != CONTROLS:
                cells = [f"**{_cell(name)}**" if column.key == "method" else "" for column in columns]
                out.append("| " + " | ".join(cells) + " |")
            for line in lines:
                out.append("| " + " | ".join(_cell(column.text(line)) for column in columns) + " |")
        out.append("")
    for name in figures:
        out += [f"![{FIGURES[name]}]({name})", ""]
    return "\n".join(out)


_CSV_FACTS = (
    *("set", "block", "rank", "rank_last", "method", "role", "track", "title", "fidelity", "reconstruction"),
    *("tuned", "marks", "seeds", "seeds_expected", "interval_kind", "interval_low", "interval_high"),
    *("delta", "p_holm", "entropy_first_nats", "entropy_last_nats"),
)


def csv_text(report: Report) -> str:
    """Every number behind the tables, one line per row and table, shares in [0, 1], empty when missing."""
    ks = sorted({k for table in report.tables for k in table.ks})
    votes = sorted(
        {
            key
            for table in report.tables
            for line in table.lines
            for key in line.numbers
            if key.startswith("maj@")
        },
        key=lambda key: int(key[4:]),
    )
    numbers = (
        *votes,
        "distinct",
        "mean_length",
        "truncated",
        "unparsed",
        "activity",
        "target_tracking_error",
    )
    header = [*_CSV_FACTS, *(f"pass@{k}" for k in ks), *numbers, *BUDGET]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for table in report.tables:
        for line in table.lines:
            facts = _csv_facts(table, line)
            facts |= {f"pass@{k}": line.pass_at.get(k) for k in ks}
            facts |= {key: line.numbers.get(key) for key in (*numbers, *BUDGET)}
            writer.writerow([_csv_value(facts.get(key)) for key in header])
    return buffer.getvalue()


def _csv_facts(table: Table, line: Line) -> dict[str, Any]:
    group, interval = line.group, line.interval
    facts = {
        "set": table.name,
        "block": line.block,
        "rank": line.rank[0] if line.rank else None,
        "rank_last": line.rank[1] if line.rank else None,
        "method": group.method,
        "role": group.role,
        "track": group.track,
        "title": group.card.get("title"),
        "fidelity": group.card.get("fidelity"),
        "reconstruction": group.reconstruction,
        "tuned": group.tuned,
        "marks": "; ".join(line.marks),
        "seeds": len(group.seeds),
        "seeds_expected": line.expected,
        "delta": line.delta,
        "p_holm": line.p,
    }
    if interval is not None:
        facts |= {
            "interval_kind": interval.kind,
            "interval_low": interval.low,
            "interval_high": interval.high,
        }
    if line.entropy is not None:
        facts |= {"entropy_first_nats": line.entropy[0], "entropy_last_nats": line.entropy[1]}
    return facts


def _csv_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1e6 else f"{value:.6g}"
    return str(value)


def html_text(report: Report, figures: Mapping[str, bytes]) -> str:
    """One page with everything inside: no font, script or picture is loaded from anywhere."""
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("harness.report").joinpath("leaderboard.html.j2").read_text(encoding="utf-8")
    looks = styles((g.label for g in report.groups if g.role != "base"), report.reference)
    colours = {g.label: BASE.colour if g.role == "base" else looks[g.label].colour for g in report.groups}
    pictures = [
        (FIGURES[name], "data:image/png;base64," + b64encode(content).decode())
        for name, content in sorted(figures.items(), key=lambda item: list(FIGURES).index(item[0]))
    ]
    return environment.from_string(source).render(
        report=report,
        sections=_sections(report),
        colours=colours,
        pictures=pictures,
        cards=[_card(group) for group in report.groups],
        delta_text=points,
        p_text=p_text,
    )


def _card(group: Group) -> dict[str, Any]:
    """Method note: what it is, how faithful, with which hyper-parameters."""
    record = group.records[0]
    facts = {
        "track": group.track if group.role == "method" else None,
        "fidelity": group.card.get("fidelity"),
        "tuned": ("yes" if group.tuned else "no") if group.role == "method" else None,
        "tuning choice": _flat(record.get("tuning_choice")),
        "hyper-parameters": _flat(record.get("hyperparameters")),
        "seeds": ", ".join(str(seed) for seed in group.seeds) if group.role != "base" else None,
        "method file": record.get("method_hash"),
    }
    paper = str(group.card.get("paper") or "")
    return {
        "label": group.label,
        "title": group.card.get("title") or group.label,
        "role": group.role,
        "reconstruction": group.reconstruction,
        "paper": paper,
        "link": _link(paper),
        "facts": [(key, value) for key, value in facts.items() if value],
    }


def _flat(values: Any) -> str:
    if not isinstance(values, Mapping):
        return "" if values is None else str(values)
    return ", ".join(f"{key} = {json.dumps(values[key], ensure_ascii=False)}" for key in sorted(values))


def _link(paper: str) -> str | None:
    """A link only to arXiv or to a plain https address, whatever a card says."""
    found = re.search(r"\b(\d{4}\.\d{4,5})(v\d+)?\b", paper)
    if paper.startswith("https://") and not re.search(r"[\s\"'<>]", paper):
        return paper
    return f"https://arxiv.org/abs/{found.group(1)}" if found else None
