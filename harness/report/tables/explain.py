"""The notes above the table: what the numbers mean and what the reader must not conclude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.report.analysis.levels import ALPHA, LEVEL, POWER
from harness.report.analysis.model import Table
from harness.report.data.groups import Group, row_of
from harness.report.tables.columns import p_text
from harness.report.tables.protocol import controls, plain, protocol
from harness.util.words import counted

Notes = tuple[tuple[str, str], ...]

SET_TITLES = {
    "average": "Average over the test sets",
    "test_id": "In distribution (test_id)",
    "test_hard": "Harder (test_hard)",
    "test_ood": "Out of distribution (test_ood)",
}


def set_title(name: str) -> str:
    """Heading of a test set's table."""
    return SET_TITLES.get(name, name)


def explain(
    groups: Sequence[Group],
    headline: Table,
    sets: Sequence[str],
    missing: Mapping[str, int],
    reference: str,
    *,
    fitted: bool = False,
) -> Notes:
    """``(label, sentence)`` pairs for the header, most important first; ``fitted``: some row has a fit."""
    notes: list[tuple[str, str]] = []
    records = [record for group in groups for record in group.records]
    if any(record.benchmark.split("@")[0] == "micro" for record in records):
        notes.append(
            (
                "Scope",
                "The micro testbed is a small model on small problems. It checks mechanisms: whether a "
                "method does what it says. It is not evidence about large models.",
            )
        )
    notes.append(("Ranks", _ranks(groups, headline, sets)))
    notes.append(
        (
            "Scores",
            f"In percent, averaged over {_list(sets) or 'no test set'} and over seeds. pass@k is the "
            "unbiased estimator, shown only where every problem has n ≥ 2k samples. A dash means no data.",
        )
    )
    if text := protocol(groups, sets):
        notes.append(("Protocol", text))
    notes.append(
        (
            "Intervals",
            f"± is a {100 * LEVEL:.0f} % interval for the expected pass@1 on fresh training seeds and fresh "
            f"problems of the same kind: the seed variance is pooled over the trainings{_spread(headline)}, "
            "and what drawing the problems again would change is added to it; samples within a problem are "
            "never drawn again. Where it is lopsided its ends stand there (4.5 to 9.1). Fewer than three "
            "seeds give [min, max], a range and not an interval. † marks an untrained model: problems only, "
            "by bootstrap.",
        )
    )
    notes.append(("Differences", _differences(groups, headline, reference)))
    notes.append(
        (
            "Signals",
            "Entropy is the probe entropy in nats per token (fresh rollouts on fixed held-out prompts, "
            "T = 1, full softmax), before → after training. Activity is the share of tokens whose gradient "
            "differs from that of GRPO with a clip range of 0.2 on the same rollouts, mean over all steps; "
            "below 1 % the row says “inactive here”: it is GRPO, then, with the row's other settings "
            f"(learning rate, reduction). {reference} and the controls have none (a dash): they are GRPO, "
            "with their own.",
        )
    )
    if fitted:
        notes.append(
            (
                "Law",
                "R = −a exp(H) + b is fitted to each seed's checkpoints by least squares. a, b and the "
                f"ceiling are means over the seeds with a {100 * LEVEL:.0f} % Student t interval over the "
                "seeds: what a fresh seed would change, not how far single checkpoints lie off (that is the "
                "residual). Fewer than three seeds give no interval.",
            )
        )
    if missing:
        notes.append(("Missing", _missing(missing)))
    if text := controls(groups, reference):
        notes.append(("Controls", text))
    if records:
        notes.append(("Provenance", _provenance(groups)))
    return tuple(notes)


def facts_of(groups: Sequence[Group], headline: Table, reference: str) -> tuple[tuple[str, str], ...]:
    """The outcome in a few numbers: ``(number, what it counts)``."""
    ranked = [line for line in headline.lines if line.rank is not None]
    methods = [group for group in groups if group.role == "method"]
    facts = [
        (str(len(ranked)), f"of {len(methods)} methods ranked: tuned, all seeds, every test set"),
    ]
    tested = [line for line in ranked if line.p is not None]
    if tested:
        apart = [line for line in tested if line.p is not None and line.p < ALPHA]
        better = sum((line.delta or 0.0) > 0 for line in apart)
        facts += [
            (
                f"{better} · {len(apart) - better}",
                f"better · worse than tuned {reference} beyond chance",
            ),
            (str(len(tested) - len(apart)), f"cannot be told apart from tuned {reference}"),
        ]
    if headline.detectable is not None:
        points = f"{100 * headline.detectable:.1f} points"
        facts.append(
            (points, f"of pass@1: a true difference this large is found with {100 * POWER:.0f} % probability")
        )
    facts.append((str(trainings(groups)), f"trainings{_again(groups)}; every run is one click away"))
    return tuple(facts)


def _spread(headline: Table) -> str:
    if headline.spread_p is None:
        return " (Student t)"
    many = "" if headline.spread_k_p is None else f", in pass@{headline.top_k} {p_text(headline.spread_k_p)}"
    apart = min(headline.spread_p, 1.0 if headline.spread_k_p is None else headline.spread_k_p) < ALPHA
    wrong = "; where that is small, rows that vary little are judged too carefully and others too lightly"
    return (
        f" (Student t; taken to be the same for all, Bartlett's {p_text(headline.spread_p)}{many}"
        f"{wrong if apart else ''})"
    )


def trainings(groups: Sequence[Group]) -> int:
    """How many runs trained a policy of their own: no base model, none that took a training over."""
    return sum(group.trainings for group in groups)


def _again(groups: Sequence[Group]) -> str:
    count = sum(len(group.records) - group.trainings for group in groups if group.role != "base")
    return f", and {count} further evaluations of their weights" if count else ""


def _missing(missing: Mapping[str, int]) -> str:
    """The rows without a run, those with as many planned seeds together."""
    parts = []
    for count in sorted(set(missing.values()), reverse=True):
        names = [name for name, own in missing.items() if own == count]
        parts.append(f"{_list(names)} (0 of {count} seeds{' each' if len(names) > 1 else ''})")
    return f"{counted(len(missing), 'row')} planned but without any finished run: {'; '.join(parts)}."


def _ranks(groups: Sequence[Group], headline: Table, sets: Sequence[str]) -> str:
    methods = [group for group in groups if group.role == "method"]
    if methods and not any(group.tuned for group in methods):
        return "No row is tuned: rows are sorted by score and nothing is ranked."
    if all(line.rank is None for line in headline.lines):
        return (
            "Nothing is ranked: a rank needs a tuned method, all planned seeds (at least three) and every "
            "test set."
        )
    return (
        "By pass@1, within a track. What cannot be told apart shares ranks: 2–4 among nine means that one "
        "method is better beyond chance, five are worse, and the place in between is open (all pairs, "
        f"Holm-corrected, p < {ALPHA:g}). Rows that are untuned, incomplete or have fewer than three seeds, "
        "reconstructions and controls are never ranked."
    )


def _differences(groups: Sequence[Group], headline: Table, reference: str) -> str:
    anchor = row_of(groups, reference)
    if anchor is None:
        return f"No run of {reference} is here, so differences to it are missing."
    text = (
        f"Δ is the difference in pass@1 to {_which(anchor)}, in points, over the seeds both have and problem "
        "by problem; p is two-sided and Holm-corrected over each table by itself"
        + (f", and for Δ pass@{headline.top_k} apart" if headline.top_k else "")
        + ". The untrained model has an interval of Δ and no p: it is no training. The intervals of Δ "
        f"(picture, JSON, CSV) are each row's own {100 * LEVEL:.0f} % and not corrected: among many rows "
        "some leave out a true 0, so what differs is for p to say."
    )
    if headline.detectable is None:
        return text + " No p-value: fewer than three seeds in common."
    many = ""
    if headline.detectable_k is not None:
        many = f", one of {100 * headline.detectable_k:.1f} points in pass@{headline.top_k}"
    return text + (
        f" A true difference of {100 * headline.detectable:.1f} points in pass@1{many}, is found with "
        f"{100 * POWER:.0f} % probability in the median row (α = {ALPHA:g} over "
        f"{counted(headline.comparisons, 'comparison')}); a smaller one may be found, too."
    )


def _which(reference: Group) -> str:
    """The row that the others are compared with, and what tuning chose for it."""
    if not reference.tuned:
        return f"{reference.method} (untuned here)"
    chosen = reference.records[0].tuning_choice
    if not chosen:
        return f"tuned {reference.method}"
    settings = ", ".join(f"{key} = {plain(value)}" for key, value in chosen.items())
    return f"tuned {reference.method} ({settings})"


def _provenance(groups: Sequence[Group]) -> str:
    records = [record for group in groups for record in group.records]

    def values(key: str) -> list[str]:
        return sorted({str(value) for record in records if (value := getattr(record, key)) is not None})

    facts = [f"{len(records)} runs, {len(groups)} rows"]
    for key, label in [
        ("sweep", "sweep"),
        ("benchmark", "benchmark"),
        ("model", "model"),
        ("numerics_version", "numerics version"),
        ("determinism", "determinism"),
        ("hardware", "hardware"),
    ]:
        found = values(key)
        if found:
            facts.append(
                f"{label} {_list(found[:4])}" + (f" and {len(found) - 4} more" if len(found) > 4 else "")
            )
    commits = values("commit")
    if len(commits) == 1:
        facts.append(f"commit {commits[0][:12]}")
    elif commits:
        facts.append(f"{len(commits)} commits of the same numerics version")
    return "; ".join(facts) + "."


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
