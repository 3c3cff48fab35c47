"""The columns of what collapse looks like: the maximum on the validation set, and what is lost after it."""

from __future__ import annotations

from harness.report.analysis.checkpoints import frontier_k
from harness.report.analysis.model import Line, Report
from harness.report.tables.columns import DASH, MINUS, NAME, Column, number_column, percent, two

LEAD = (
    "Along training, on the validation set, which also chose the hyper-parameters. The best of several noisy "
    "checkpoints looks better than it is; so what a seed has lost is taken from the checkpoint where the "
    "other seeds have their maximum to its own end, and a row that loses nothing is around 0. [ ] is a 95 % "
    "interval over fresh seeds and problems, seeds pooled over the rows; rows with fewer than three seeds "
    "have none, and a single seed has its own maximum, which makes it lose something by chance. Below "
    "untrained: the step from which on pass@k stays below the untrained model's, and in how many seeds."
)


def collapse_columns(report: Report) -> list[Column]:
    """Columns that any row has something for; empty where no row has checkpoints."""
    lines = report.tables[0].lines
    k = frontier_k(report.groups)
    if k is None or not any(line.numbers.get("rise_step") is not None for line in lines):
        return []
    top = f"pass@{k}"
    columns = [
        number_column("rise_step", "max pass@1", "step of the highest mean over seeds", _whole),
        _lost("lost_pass_1", "pass@1 lost", "points from the maximum to the end"),
        number_column("rise_k_step", f"max {top}", "step of the highest mean over seeds", _whole),
        _lost("lost_pass_k", f"{top} lost", "points from the maximum to the end"),
        Column(
            "below_step",
            "below untrained",
            f"step from which on {top} stays below the untrained model's, and the seeds where it does",
            _below_text,
            lambda line: line.numbers.get("below_step"),
        ),
        number_column(
            "entropy_at_rise", "entropy at max", f"probe entropy, nats, at the maximum of {top}", two
        ),
        number_column("entropy_at_below", "entropy below", "probe entropy, nats, where it falls below", two),
        number_column(
            "equal_groups",
            "equal groups %",
            "prompts whose responses are all right or all wrong, last quarter of the training",
            percent,
        ),
        Column(
            "distinct_right_end",
            "distinct right",
            f"different right answers of a validation problem, at the maximum of {top} → at the end",
            _distinct_text,
            lambda line: line.numbers.get("distinct_right_end"),
        ),
        number_column(
            "above_target",
            "above target %",
            "steps in which the entropy lay above the row's own target",
            percent,
        ),
    ]
    present = [c for c in columns if any(c.text(line) != DASH for line in lines)]
    return [NAME, *present]


def _lost(key: str, header: str, help: str) -> Column:
    def text(line: Line) -> str:
        value, low, high = (line.numbers.get(key + end) for end in ("", "_low", "_high"))
        if low is None or high is None:
            return _points(value)
        return f"{_points(value)} [{_points(low)}, {_points(high)}]"

    return Column(key, header, help, text, lambda line: line.numbers.get(key))


def _points(share: float | None) -> str:
    return percent(share).replace("-", MINUS)


def _below_text(line: Line) -> str:
    share, step = line.numbers.get("below_share"), line.numbers.get("below_step")
    if share is None:
        return DASH
    seeds = len(line.group.seeds)
    return "never" if step is None else f"step {step:.0f} ({round(share * seeds)} of {seeds})"


def _distinct_text(line: Line) -> str:
    first, last = (line.numbers.get(f"distinct_right_{end}") for end in ("rise", "end"))
    return DASH if first is None or last is None else f"{first:.1f} → {last:.1f}"


def _whole(number: float | None) -> str:
    return DASH if number is None else f"{number:.0f}"
