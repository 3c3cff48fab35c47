"""``results/reported.csv``: the numbers that papers print, one value a line, read strictly.

They are the papers' own and prove nothing about this code: a report sets them beside ours where model,
benchmark and metric agree, and says where they do not. Columns:

    paper      slug of the method whose paper prints the number
    method     slug of the method that was measured, or the paper's own name for it where it is none of
               the slugs (then with a capital letter, e.g. LUFFY); ``base`` is the model before training
    baseline   of what the paper compares it with, named likewise; empty for a baseline
    setting    what else tells two lines apart: training set, variant, context length
    model, benchmark, metric, value, unit
    arxiv      id of the paper, or ``none``
    source     where the number stands in it
    certain    no: read in a secondary source, from memory, or with a label that is not sure
    note       which sets an average is over; why a value is uncertain
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.registry import methods
from harness.util.errors import UserError, unknown

COLUMNS = (
    "paper", "method", "baseline", "setting", "model", "benchmark", "metric", "value", "unit", "arxiv",
    "source", "certain", "note",
)  # fmt: skip
#: ``points`` is a difference to ``baseline``; ``fraction`` lies in [0, 1].
UNITS = ("percent", "points", "fraction", "tokens", "nats", "rating", "hours")
#: Further metrics are ``pass@k``, ``avg@k`` (mean over k samples a problem) and ``maj@k`` (majority of k).
#: ``greedy`` is the share of right answers at temperature 0, ``accuracy`` one whose sampling differs between
#: the sets of an average or is not known, ``success`` that of tasks which an agent completes.
METRICS = ("accuracy", "greedy", "success", "tokens", "entropy", "rating", "auc", "gpu_hours")
BASE = "base"
AVERAGE = "average"
_AT_K = re.compile(r"(pass|avg|maj)@[1-9]\d*")
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(@[a-z0-9-]+)?")
_ARXIV = re.compile(r"\d{4}\.\d{4,5}")


@dataclass(frozen=True)
class Reported:
    """One printed number; see the module's text for the columns. ``line`` is its place in the file."""

    paper: str
    method: str
    baseline: str
    setting: str
    model: str
    benchmark: str
    metric: str
    value: float
    unit: str
    arxiv: str
    source: str
    certain: bool
    note: str
    line: int

    @property
    def estimates(self) -> str:
        """What of ours the metric is to be set beside: one answer a problem, however drawn, is pass@1."""
        single = self.metric.startswith("avg@") or self.metric in ("accuracy", "greedy")
        return "pass@1" if single else self.metric

    @property
    def slug(self) -> str:
        """The method without its variant; empty where it is none of the slugs."""
        return self.method.partition("@")[0] if is_slug(self.method) else ""

    @property
    def key(self) -> tuple[str, ...]:
        """What no two lines share."""
        return self.paper, self.method, self.setting, self.model, self.benchmark, self.metric, self.unit


@dataclass(frozen=True)
class Beside:
    """One printed number.

    Attributes:
        ours: our value in the unit of the printed one; None where there is none.
        method: our row, e.g. ``bapo@released`` for a paper's ``bapo``.
        profile: how ours was evaluated.
        why_not: what keeps ours from standing here; empty where it does.
    """

    reported: Reported
    ours: float | None
    method: str
    profile: str
    why_not: str


def is_slug(method: str) -> bool:
    """Whether ``method`` is meant as a slug, and not as a paper's own name or the untrained model."""
    return method != BASE and _SLUG.fullmatch(method) is not None


def load_reported(path: Path, slugs: Container[str] | None = None) -> list[Reported]:
    """The lines of ``path``, in order.

    Args:
        slugs: methods that exist besides those whose papers the file has; by default the registered ones.

    Raises:
        UserError: a column is missing, a value cannot be meant, or two lines say the same; with the line.
    """
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            table = list(csv.reader(handle, strict=True))
    except (OSError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not table or tuple(table[0]) != COLUMNS:
        raise UserError(f"{path}: the first line must be {','.join(COLUMNS)}")
    rows = [_row(cells, f"{path}:{number}", number) for number, cells in enumerate(table[1:], 2)]
    if slugs is None:
        slugs = {entry.slug for entry in methods.entries().values()}
    _check_together(rows, path, slugs)
    return rows


def baseline_of(row: Reported, rows: Sequence[Reported]) -> Reported | None:
    """The baseline's value under the same conditions, where the paper prints it.

    The conditions of a setting stand between commas; a baseline has those of its row that apply to it.
    """
    wanted = (row.paper, row.baseline, row.model, row.benchmark, row.metric, row.unit)
    same = [r for r in rows if (r.paper, r.method, r.model, r.benchmark, r.metric, r.unit) == wanted]
    shared = [r for r in same if _conditions(r) <= _conditions(row)] or same
    most = max((len(_conditions(r)) for r in shared), default=0)
    best = [r for r in shared if len(_conditions(r)) == most]
    return best[0] if len(best) == 1 else None


def _conditions(row: Reported) -> set[str]:
    return set(row.setting.split(", ")) if row.setting else set()


def _row(cells: Sequence[str], where: str, number: int) -> Reported:
    if len(cells) != len(COLUMNS):
        raise UserError(f"{where}: {len(cells)} values for {len(COLUMNS)} columns; quote commas")
    text = dict(zip(COLUMNS, cells, strict=True))
    stray = [column for column, cell in text.items() if cell != cell.strip()]
    if stray:
        raise UserError(f"{where}: spaces around '{stray[0]}'; remove them")
    for column in ("paper", "method", "model", "benchmark", "metric", "value", "unit", "arxiv", "source"):
        if not text[column]:
            raise UserError(f"{where}: '{column}' is empty")
    if not is_slug(text["paper"]):
        raise UserError(f"{where}: paper '{text['paper']}' is no slug such as clip-cov")
    for column in ("method", "baseline"):
        name = text[column]
        if name and name != BASE and not is_slug(name) and not any(c.isupper() for c in name):
            raise UserError(f"{where}: {column} '{name}' is neither a slug nor a name with a capital letter")
    if text["metric"] not in METRICS and not _AT_K.fullmatch(text["metric"]):
        raise unknown("metric", text["metric"], METRICS, f"or pass@k, avg@k, maj@k ({where})")
    if text["unit"] not in UNITS:
        raise unknown("unit", text["unit"], UNITS, f"({where})")
    if text["arxiv"] != "none" and not _ARXIV.fullmatch(text["arxiv"]):
        raise UserError(f"{where}: arxiv '{text['arxiv']}' is no id such as 2503.14476; write none for none")
    if text["certain"] not in ("yes", "no"):
        raise UserError(f"{where}: certain is '{text['certain']}'; write yes or no")
    for missing, reason in (
        (text["certain"] == "no", "a value that is not certain"),
        (text["benchmark"] == AVERAGE, "an average"),
    ):
        if missing and not text["note"]:
            raise UserError(f"{where}: {reason} needs a note")
    if text["unit"] == "points" and not text["baseline"]:
        raise UserError(f"{where}: points are a difference to a baseline; name it")
    plain = {k: v for k, v in text.items() if k not in ("value", "certain")}
    value = _value(text["value"], text["unit"], where)
    return Reported(**plain, value=value, certain=text["certain"] == "yes", line=number)


def _value(text: str, unit: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{where}: value '{text}' is not a number") from None
    top = {"percent": 100.0, "fraction": 1.0}.get(unit, math.inf)
    low = -100.0 if unit == "points" else 0.0
    if not math.isfinite(value) or not low <= value <= top:
        raise UserError(f"{where}: {text} cannot be a value in {unit}")
    return value


def _check_together(rows: Sequence[Reported], path: Path, slugs: Container[str]) -> None:
    papers = {row.paper for row in rows}
    seen: dict[tuple[str, ...], int] = {}
    for row in rows:
        if row.key in seen:
            raise UserError(
                f"{path}:{row.line} says the same as line {seen[row.key]}; tell them apart by setting"
            )
        seen[row.key] = row.line
        for name in (row.method, row.baseline):
            slug = name.partition("@")[0]
            if is_slug(name) and slug not in papers and slug not in slugs:
                raise unknown("method", name, papers, f"({path}:{row.line}; others are named as printed)")
    measured = {(row.paper, row.method) for row in rows}
    for row in rows:
        if row.baseline and row.unit != "points" and (row.paper, row.baseline) not in measured:
            raise UserError(
                f"{path}:{row.line}: baseline '{row.baseline}' has no line of this paper; leave it empty"
            )
