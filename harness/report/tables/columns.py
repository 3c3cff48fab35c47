"""The columns of every table, once for all output formats: header, explanation, text and sort key."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.report.analysis.levels import INACTIVE
from harness.report.analysis.model import Line, Table

DASH = "–"
#: A share: a score farther than this from the middle of its interval has no ± any more.
_EVEN = 0.001
MINUS = "−"


@dataclass(frozen=True)
class Column:
    """``text`` for people, ``value`` for sorting (``None`` sorts last); ``wide`` columns skip the console."""

    key: str
    header: str
    help: str
    text: Callable[[Line], str]
    value: Callable[[Line], float | str | None]
    wide: bool = False


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as percent without the sign, or a dash."""
    return DASH if share is None else f"{100 * share:.{digits}f}"


def points(share: float | None) -> str:
    """A signed difference of shares in points, with a real minus."""
    return DASH if share is None else f"{100 * share:+.1f}".replace("-", MINUS)


def two(number: float | None) -> str:
    """Two decimals, or a dash."""
    return DASH if number is None else f"{number:.2f}"


def three(number: float | None) -> str:
    """Three decimals, or a dash."""
    return DASH if number is None else f"{number:.3f}"


def p_text(p: float | None) -> str:
    """A p-value as people write it."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def count(number: float | None) -> str:
    """A mean count, short: 950, 12.3 k, 4.56 M."""
    if number is None:
        return DASH
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(number) >= limit:
            return f"{number / limit * (10 if unit == ' k' else 1):.3g}{unit}"
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.1f}"


def interval_text(line: Line) -> str:
    """``± 1.8``, its ends ``4.5 to 9.1`` where lopsided, a range ``[48.0, 51.2]``; ``†`` if untrained.

    The one score of one seed has no range.
    """
    interval = line.interval
    if interval is None:
        return DASH
    if interval.kind == "range":
        if len(line.group.seeds) == 1:
            return "one seed"
        return f"[{percent(interval.low)}, {percent(interval.high)}]"
    score = interval.low + interval.half_width if line.score is None else line.score
    lopsided = abs(interval.low + interval.half_width - score) > _EVEN
    ends = f"{percent(interval.low)} to {percent(interval.high)}"
    text = ends if lopsided else f"± {percent(interval.half_width)}"
    return text + (" †" if interval.kind == "problems" else "")


def delta_text(line: Line) -> str:
    """Difference to the reference with its corrected p-value where there is one."""
    text = points(line.delta)
    return f"{text} ({p_text(line.p)})" if line.p is not None else text


def entropy_text(line: Line) -> str:
    """First and last probe entropy; a single number for a model that was not trained."""
    if line.entropy is None:
        return DASH
    first, last = line.entropy
    return f"{first:.2f}" if line.group.role == "base" else f"{first:.2f} → {last:.2f}"


def activity_text(line: Line) -> str:
    """Share of tokens whose gradient the method changed; under 1 % "inactive here"."""
    activity = line.numbers.get("activity")
    if activity is None:
        return DASH
    return "inactive here" if activity < INACTIVE else f"{percent(activity, 0)} %"


def lr_text(line: Line) -> str:
    """Learning rate of the runs, marked where tuning chose an end of its grid."""
    lr = line.numbers.get("lr")
    if lr is None:
        return DASH
    power = f"{lr:.3g}" if 1e-3 <= lr else re.sub(r"\.?0*e-0?", "e-", f"{lr:.2e}")
    return power + (" (grid's edge)" if line.numbers.get("lr_at_grid_edge") else "")


def rank_text(line: Line) -> str:
    """``2`` or, where methods cannot be told apart, the places they share: ``2–4``."""
    if line.rank is None:
        return DASH
    first, last = line.rank
    return str(first) if first == last else f"{first}–{last}"


def seeds_text(line: Line) -> str:
    """``3 of 3``, or the bare number where the plan is not known."""
    if line.group.role == "base":
        return DASH
    found = len(line.group.seeds)
    return str(found) if line.expected is None else f"{found} of {line.expected}"


def name_text(line: Line) -> str:
    """Name with its warnings."""
    return line.group.name + (f" ({', '.join(line.marks)})" if line.marks else "")


def number_column(key: str, header: str, help: str, text: Callable[[float | None], str] = count) -> Column:
    """A column of ``line.numbers``."""
    return Column(
        key, header, help, lambda line: text(line.numbers.get(key)), lambda line: line.numbers.get(key)
    )


def _score_columns(table: Table) -> list[Column]:
    columns = []
    for k in table.ks:
        columns.append(
            Column(
                f"pass@{k}",
                f"pass@{k}",
                f"chance in % that one of {k} samples is correct"
                if k > 1
                else "share of correct samples in %",
                lambda line, k=k: percent(line.pass_at.get(k)),  # type: ignore[misc]
                lambda line, k=k: line.pass_at.get(k),  # type: ignore[misc]
                wide=k not in (1, max(table.ks)),
            )
        )
    spread = Column(
        "interval",
        "± 95 %",
        "interval of pass@1 over seeds and problems, its ends where it is lopsided; [min, max] of the seeds "
        "when they are fewer than three",
        interval_text,
        lambda line: line.interval.half_width if line.interval else None,
    )
    delta = Column(
        "delta",
        "Δ pass@1",
        "difference in pass@1 to the reference in points, with p Holm-corrected over this table",
        delta_text,
        lambda line: line.delta,
    )
    found = [*columns[:1], spread, *columns[1:], delta]
    if table.top_k:
        many = Column(
            "delta_pass_k",
            f"Δ pass@{table.top_k}",
            f"difference in pass@{table.top_k} to the reference in points, with its own Holm-corrected p",
            _delta_many_text,
            lambda line: line.numbers.get("delta_pass_k"),
            wide=True,
        )
        found.append(many)
    return found


def _delta_many_text(line: Line) -> str:
    p = line.numbers.get("p_pass_k_holm")
    text = points(line.numbers.get("delta_pass_k"))
    return text if p is None else f"{text} ({p_text(p)})"


NAME = Column("method", "method", "method, with warnings", name_text, lambda line: line.group.label)
SEEDS = Column("seeds", "seeds", "finished of planned", seeds_text, lambda line: float(len(line.group.seeds)))
ACTIVITY = Column(
    "activity",
    "activity",
    "share of tokens whose gradient differs from that of GRPO with a clip range of 0.2 on the same rollouts",
    activity_text,
    lambda line: line.numbers.get("activity"),
)
RANK = Column(
    "rank",
    "rank",
    "places in its track that the comparisons leave open",
    rank_text,
    lambda line: None if line.rank is None else line.rank[0] + line.rank[1] / 1e6,
)


def headline_columns(table: Table) -> list[Column]:
    """Columns of the first table: rank, scores, signals, budget."""
    return [
        RANK,
        NAME,
        *_score_columns(table),
        Column(
            "entropy",
            "entropy",
            "probe entropy in nats per token, before → after training",
            entropy_text,
            lambda line: line.entropy[1] if line.entropy else None,
        ),
        ACTIVITY,
        Column(
            "lr",
            "lr",
            "learning rate of the runs; whether tuning chose an end of its grid, beyond which better may lie",
            lr_text,
            lambda line: line.numbers.get("lr"),
            wide=True,
        ),
        number_column("generated_tokens", "gen. tokens", "generated training tokens per run"),
        number_column("updates", "updates", "optimiser steps per run"),
        SEEDS,
    ]


def set_columns(table: Table) -> list[Column]:
    """Columns of one test set: scores and how the answers look. Ranks are given once, for the headline."""
    counts = {
        record.evals[table.name].n
        for line in table.lines
        for record in line.group.records
        if table.name in record.evals
    }
    drawn = f" among the {counts.pop()} samples" if len(counts) == 1 else ""
    return [
        NAME,
        *_score_columns(table),
        *(
            number_column(key, key, f"majority vote of {key[4:]} samples, correct in %", percent)
            for key in table.votes
        ),
        number_column("distinct", "distinct", f"different answers{drawn} of a problem, mean", _plain),
        number_column("distinct_correct", "distinct right", "different right answers of a problem", _plain),
        number_column("mean_length", "length", "mean response length in tokens", _plain),
        number_column("truncated", "cut off %", "responses that the length limit ended", percent),
        number_column("unparsed", "unparsed %", "responses in which no answer could be read", percent),
        SEEDS,
    ]


def _plain(number: float | None) -> str:
    return DASH if number is None else f"{number:.1f}"


def cost_columns() -> list[Column]:
    """What a run cost, means over seeds."""
    return [
        NAME,
        number_column(
            "generated_tokens", "generated tokens", "sampled while training; runs stop at equal numbers"
        ),
        number_column("train_tokens", "trained tokens", "tokens in backward passes"),
        number_column(
            "extra_forward_tokens", "extra forward tokens", "forward passes beyond the base method's"
        ),
        number_column("verifier_calls", "verifier calls", "answers judged"),
        number_column("updates", "updates", "optimiser steps"),
        number_column("steps", "steps", "rollout batches"),
        number_column(
            "wall_s", "wall time, s", "of a run, whatever else the machine did: not to be compared", _whole
        ),
    ]


def _whole(number: float | None) -> str:
    return DASH if number is None else f"{number:,.0f}".replace(",", "\u00a0")
