"""The tables in LaTeX: a document that compiles by itself; its ``tabular`` blocks can stand in a paper."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.analysis.model import Line, Report
from harness.report.tables.columns import Column
from harness.report.tables.printed import HEADERS, HEADING, printed_lead, printed_rows
from harness.report.tables.sections import Section, sections_of

_CHARACTERS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "\n": " ", "\u2009": r"\,", "\u00a0": "~", "…": r"\dots{}",
    "–": "--", "−": "$-$", "±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$", "→": r"$\to$",
    "Δ": r"$\Delta$", "α": r"$\alpha$", "×": r"$\times$", "·": r"$\cdot$", "≥": r"$\ge$", "≤": r"$\le$",
    "≈": r"$\approx$", "∫": r"$\int$", "²": "$^2$", "“": "``", "”": "''", "’": "'",
}  # fmt: skip
# The page takes the size of the largest table, so that nothing is cut off however many rows there are.
_HEAD = r"""%% Made by entrobench from result records; copy a tabular from here into a paper (needs booktabs).
\documentclass[10pt]{article}
\usepackage[utf8]{inputenc}
\usepackage{booktabs}
\usepackage[paperwidth=%dcm,paperheight=%dcm,margin=1.5cm]{geometry}
\setlength{\parindent}{0pt}
\pagestyle{empty}
\begin{document}
"""


def latex_text(report: Report) -> str:
    """``leaderboard.tex``: a page with the notes and one for each table."""
    sections = sections_of(report)
    tall = max(sum(len(lines) + 1 for _, lines in section.blocks) for section in sections)
    width = max(_width_cm(section) for section in sections)
    out = [_HEAD % (max(21, width + 3), max(24, round(0.45 * tall) + 8))]
    out.append(rf"\section*{{{escape(report.title)}}}")
    if report.subtitle:
        out.append(escape(report.subtitle) + "\n")
    out.append(r"\begin{itemize}")
    out += [rf"\item \textbf{{{escape(label)}.}} {escape(text)}" for label, text in report.notes]
    out += [r"\end{itemize}", ""]
    for section in sections:
        out += [r"\newpage", rf"\subsection*{{{escape(section.heading)}}}"]
        out += [escape(section.lead) + "\n"] if section.lead else []
        out += [tabular(section.columns, section.blocks), ""]
        if section.legend:
            words = "; ".join(rf"\emph{{{escape(name)}}}: {escape(help)}" for name, help in section.legend)
            out += [r"\medskip", words + ".\n"]
    if report.beside:
        out += [r"\newpage", rf"\subsection*{{{escape(HEADING)}}}", escape(printed_lead(report)) + "\n"]
    if rows := printed_rows(report):
        out += [rf"\begin{{tabular}}{{@{{}}{'l' * len(HEADERS)}@{{}}}}", r"\toprule"]
        out += [" & ".join(map(escape, HEADERS)) + r" \\", r"\midrule"]
        out += [" & ".join(map(escape, row)) + r" \\" for row in rows] + [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*out, r"\end{document}", ""])


def tabular(columns: Sequence[Column], blocks: Sequence[tuple[str, Sequence[Line]]]) -> str:
    """One booktabs table; blocks are parted by rules and headed by their names."""
    out = [rf"\begin{{tabular}}{{@{{}}{''.join('l' if c.key == 'method' else 'r' for c in columns)}@{{}}}}"]
    out += [r"\toprule", " & ".join(escape(column.header) for column in columns) + r" \\"]
    for name, lines in blocks:
        out += [r"\midrule", rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{\emph{{{escape(name)}}}}} \\"]
        out += [" & ".join(escape(column.text(line)) for column in columns) + r" \\" for line in lines]
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}"])


def escape(text: str) -> str:
    """Plain text as LaTeX that any engine sets; what has no spelling here becomes a question mark."""
    return "".join(_CHARACTERS.get(c, c if c.isascii() or 0xC0 <= ord(c) <= 0x17F else "?") for c in text)


def _width_cm(section: Section) -> int:
    """The room that the widest text of every column needs, about."""
    lines = [line for _, block in section.blocks for line in block]
    letters = sum(
        max([len(column.header), *(len(column.text(line)) for line in lines)]) + 2
        for column in section.columns
    )
    return round(0.19 * letters)
