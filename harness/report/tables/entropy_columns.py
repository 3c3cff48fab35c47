"""The columns of entropy control as a discipline of its own, and of the law that ties scores to entropy."""

from __future__ import annotations

from collections.abc import Callable

from harness.report.analysis.entropy import COLLAPSED, Discipline, Law
from harness.report.analysis.model import Line, Report
from harness.report.tables.columns import (
    ACTIVITY,
    DASH,
    NAME,
    Column,
    entropy_text,
    number_column,
    p_text,
    percent,
    points,
    three,
    two,
)
from harness.statistics.law import Estimate


def entropy_columns(report: Report) -> list[Column]:
    """What each row's entropy did: the columns that any row has something for."""
    columns = [
        Column(
            "entropy",
            "probe entropy",
            "nats per token, before → after training",
            entropy_text,
            lambda line: line.entropy[1] if line.entropy else None,
        ),
        number_column("entropy_area", "area", "probe entropy, mean over the generated tokens, nats", three),
        Column(
            "collapse_step",
            "collapse",
            f"first step from which probe entropy stays below {100 * COLLAPSED:.0f} % of its start, and in "
            "how many seeds; none where it never does",
            lambda line: _collapse_text(line, _of(report, line)),
            lambda line: line.numbers.get("collapse_step"),
        ),
        number_column("entropy_right", "right", "entropy of right rollouts, last quarter of training", three),
        number_column("entropy_wrong", "wrong", "entropy of wrong rollouts, last quarter of training", three),
        Column(
            "overtaken_at",
            "base overtakes",
            "smallest k at which the untrained model's pass@k reaches the row's",
            _overtaken_text,
            lambda line: line.numbers.get("overtaken_at"),
        ),
        number_column(
            "target_tracking_error",
            "target error",
            "mean distance of the entropy to the method's own target, nats; dash: it has none",
            three,
        ),
        ACTIVITY,
    ]
    lines = report.tables[0].lines
    shown = [
        c for c in columns if c.key == "collapse_step" or any(c.value(line) is not None for line in lines)
    ]
    return [NAME, *shown] if any(line.entropy for line in lines) else []


def equal_columns(report: Report) -> list[Column]:
    """Diversity at one common pass@1; empty where there is no such level."""
    if report.equal is None:
        return []
    score = f"pass@{report.equal.k}"
    columns = [
        Column(
            "equal_pass_k",
            score,
            "in %, where the row first reaches the level; mean and [smallest, largest] seed",
            lambda line: _spread_text(line, "equal_pass_k", percent),
            lambda line: line.numbers.get("equal_pass_k"),
        ),
        Column(
            "equal_delta",
            f"Δ {score}",
            "difference to the reference at the level in points, with Holm-corrected p",
            _equal_delta_text,
            lambda line: line.numbers.get("equal_delta"),
        ),
        Column(
            "equal_entropy",
            "probe entropy",
            "nats per token, at the same step; mean and [smallest, largest] seed",
            lambda line: _spread_text(line, "equal_entropy", two),
            lambda line: line.numbers.get("equal_entropy"),
        ),
        number_column("equal_step", "step", "when the row first reaches the level, mean over seeds", _whole),
        Column(
            "equal_seeds",
            "seeds there",
            "seeds that reach the level at a checkpoint, of the finished ones",
            lambda line: f"{line.numbers.get('equal_seeds') or 0:.0f} of {len(line.group.seeds)}",
            lambda line: line.numbers.get("equal_seeds"),
        ),
    ]
    return [NAME, *columns]


def _spread_text(line: Line, key: str, text: Callable[[float | None], str]) -> str:
    mean, low, high = (line.numbers.get(key + end) for end in ("", "_low", "_high"))
    return text(mean) if mean is None or low == high else f"{text(mean)} [{text(low)}, {text(high)}]"


def _equal_delta_text(line: Line) -> str:
    p = line.numbers.get("equal_p_holm")
    text = points(line.numbers.get("equal_delta"))
    return text if p is None else f"{text} ({p_text(p)})"


def _whole(number: float | None) -> str:
    return DASH if number is None else f"{number:.0f}"


def law_columns(report: Report) -> list[Column]:
    """The fit of R = -a exp(H) + b; empty where no row has one."""
    if not any(found.law for found in report.discipline.values()):
        return []

    def estimate(key: str, header: str, help: str, of: Callable[[Law], Estimate]) -> Column:
        return Column(
            key,
            header,
            help,
            lambda line: _estimate_text(of(law)) if (law := _of(report, line).law) else DASH,
            lambda line: line.numbers.get(key),
        )

    def law_number(key: str, header: str, help: str, of: Callable[[Law], float]) -> Column:
        return Column(
            key,
            header,
            help,
            lambda line: three(of(law)) if (law := _of(report, line).law) else DASH,
            lambda line: of(law) if (law := _of(report, line).law) else None,
        )

    return [
        NAME,
        estimate(
            "law_a", "a", "how much score an exp(nat) buys, with its 95 % interval over seeds", lambda w: w.a
        ),
        estimate("law_b", "b", "with its 95 % interval over seeds", lambda w: w.b),
        estimate(
            "law_ceiling",
            "ceiling b − a",
            "pass@1 where the entropy is spent, by the fit",
            lambda w: w.ceiling,
        ),
        law_number("law_rmse", "residual", "root mean square of pass@1 minus fit, a share", lambda w: w.rmse),
        law_number(
            "law_r2",
            "R²",
            "share of the variance about each seed's mean that the fits explain",
            lambda w: w.r2,
        ),
        Column(
            "law_applies",
            "does the law apply?",
            "it is about plain training on verdicts whose entropy nothing holds up",
            lambda line: _applies_text(_of(report, line).law),
            lambda line: _applies_text(_of(report, line).law) if _of(report, line).law else None,
        ),
    ]


def _of(report: Report, line: Line) -> Discipline:
    return report.discipline[line.group.key]


def _collapse_text(line: Line, found: Discipline) -> str:
    if found.collapsed is None:
        return DASH
    if not found.collapsed:
        return "none"
    seeds = len(line.group.seeds)
    return f"step {found.collapse_step:.0f} ({round(found.collapsed * seeds)} of {seeds})"


def _overtaken_text(line: Line) -> str:
    k = line.numbers.get("overtaken_at")
    return DASH if k is None else f"k = {k:.0f}"


def _estimate_text(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.3f}".replace("-", "−")
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]".replace("-", "−")


def _applies_text(law: Law | None) -> str:
    return DASH if law is None else law.verdict
