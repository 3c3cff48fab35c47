"""The self-contained HTML page: every table, plot and detail in one file that loads nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from harness.report.analysis.model import Line, Report
from harness.report.data.groups import method_key
from harness.report.render.page.cells import Scales, cell, swatch
from harness.report.render.plot_data import looks_of, report_data
from harness.report.tables.columns import Column
from harness.report.tables.printed import HEADERS, HEADING, printed_lead, printed_rows
from harness.report.tables.sections import Section, sections_of

__all__ = ["html_page"]

_SCRIPTS = ("table.js", "details.js", "forest.js", "plots.js")


def html_page(reports: Sequence[Report], *, title: str, subtitle: str, pages: Mapping[str, str]) -> str:
    """One page for one report, or for those of several models and training sets to choose from.

    Args:
        pages: method name -> address of its page, relative to this one; methods without are not linked.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    grid = [_setting(report, pages, number, len(reports)) for number, report in enumerate(reports)]
    scope = next((text for report in reports for label, text in report.notes if label == "Scope"), "")
    sets = {section["set_name"]: section["heading"] for p in grid for section in p["sections"]}
    data = {"places": [setting["data"] for setting in grid]}
    return environment.from_string(_read("page.html.j2")).render(
        title=title,
        subtitle=subtitle,
        scope=scope,
        grid=grid,
        models=_unique(setting["data"]["model"] for setting in grid),
        training_sets=_unique(setting["data"]["training_set"] for setting in grid),
        sets=[(name, heading) for name, heading in sets.items() if name],
        tracks=_unique(r["track"] for setting in grid for r in setting["data"]["rows"] if r["track"]),
        css=_safe(_read("page.css")),
        script=_safe("\n".join(_read(name) for name in _SCRIPTS)),
        json=_safe(_embedded(data)),
    )


def _read(name: str) -> str:
    return files("harness.report.render.page").joinpath(name).read_text(encoding="utf-8")


def _safe(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


def _embedded(data: Any) -> str:
    """JSON that may stand inside a script element, whatever a record says."""
    text = json.dumps(data, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _unique(values: Any) -> list[str]:
    return list(dict.fromkeys(values))


def _setting(report: Report, pages: Mapping[str, str], number: int, count: int) -> dict[str, Any]:
    data = report_data(report, pages)
    looks = looks_of(report)
    sections = [_section(section, report, looks) for section in sections_of(report)]
    return {
        "data": data,
        "anchor": f"place{number}-" if count > 1 else "",
        "facts": report.facts,
        "notes": [note for note in report.notes if note[0] != "Scope"],
        "sections": sections,
        "printed": _printed(report),
        "has_delta": any(line["delta"] is not None for line in data["tables"][0]["lines"]),
        "has_law": any(row["law"] for row in data["rows"]),
        "plots_before": "entropy" if any(section["id"] == "entropy" for section in sections) else "cost",
        "cards": [
            {**row, "swatch": swatch(looks[row["id"]])} for row in data["rows"] if row["role"] != "base"
        ],
    }


def _printed(report: Report) -> dict[str, Any] | None:
    if not report.beside:
        return None
    return {
        "heading": HEADING,
        "lead": printed_lead(report),
        "headers": HEADERS,
        "rows": printed_rows(report),
    }


def _section(section: Section, report: Report, looks: Mapping[str, Any]) -> dict[str, Any]:
    scales = Scales.of(section, report.reference)
    return {
        "id": section.id,
        "heading": section.heading,
        "lead": section.lead,
        "set_name": section.set_name,
        "columns": section.columns,
        "blocks": [
            (
                name,
                [_line(line, section.columns, report, scales, looks[line.group.key]) for line in lines],
            )
            for name, lines in section.blocks
        ],
    }


def _line(line: Line, columns: Sequence[Column], report: Report, scales: Scales, look: Any) -> dict[str, Any]:
    group = line.group
    reference = group.key == method_key(report.reference)
    ranked = report.is_ranked(group)
    css = "reference" if reference else "" if ranked or not report.ranked else "unranked"
    return {
        "id": group.key,
        "track": group.track if group.role == "method" else "",
        "ranked": ranked,
        "css": css,
        "look": look,
        "cells": [cell(line, column, scales, look) for column in columns],
    }
