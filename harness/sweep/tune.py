"""Equal tuning: every method gets the same trials on the validation set; the choice is written down.

Rule: the trial with the highest mean of the metrics (default validation pass@1 and pass@8) wins; equal
scores go to the smaller learning rate, then to the earlier knob setting. Where the winner has the smallest or
the largest rate, the grid of that method grows by a factor of two on that side, ``tuning: extend`` times at
most; a row that still ends on an edge says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig
from harness.records.record import RunResult
from harness.statistics import printable_ks
from harness.sweep.axes import Overrides, Setting
from harness.sweep.jobs import Backend, Job
from harness.sweep.plan import job, table_name
from harness.sweep.sections import GROWTH, Tuning
from harness.sweep.spec import settings_of
from harness.sweep.sweep import Sweep
from harness.sweep.text import read_yaml
from harness.util.errors import UserError, unknown
from harness.util.files import write_text
from harness.util.plain_yaml import dump_yaml

RULE = (
    "highest mean of {metric} on the validation split; "
    "ties: smaller learning rate, then the earlier knob setting"
)


@dataclass(frozen=True)
class Trial:
    """One setting of one method."""

    method: str
    lr: float
    knob: int
    settings: Overrides
    job: Job


def trials(sweep: Sweep, backend: Backend) -> list[Trial]:
    """The trials of every method of the sweep; those of a grown grid, too, as far as results ask for them.

    Raises:
        UserError: no tuning section, or methods with different numbers of trials.
    """
    tuning = tuning_of(sweep)
    written = _written_scores(sweep)

    def scored(trial: Trial) -> float | None:
        if trial.job.run_id in written:
            return written[trial.job.run_id]
        there = (trial.job.folder / "result.json").exists()
        return score(backend.result(trial.job.folder), tuning.metric) if there else None

    found = []
    for setting in sweep.tuning_grid:
        for name in tuning.tunes(sweep.methods):
            own = [t for lr in tuning.lrs for t in _at_rate(sweep, setting, name, lr, backend)]
            while (lr := next_rate(tuning, [(trial, scored(trial)) for trial in own])) is not None:
                own += _at_rate(sweep, setting, name, lr, backend)
            found += own
    return found


def _at_rate(sweep: Sweep, setting: Setting, name: str, lr: float, backend: Backend) -> list[Trial]:
    """The trials of a method at one learning rate: one for each setting of its knob."""
    tuning, label, found = tuning_of(sweep), table_name(name), []
    for index, knob in enumerate(tuning.knobs[name]):
        settings = {"train.lr": lr, **knob}
        run = backend.compose(
            settings_of(sweep, setting, name, tuning.settings, settings, {"seed": tuning.seed})
        )
        _check_metric(sweep, run)
        shown = f"{label} " + " ".join(f"{k.rpartition('.')[2]}={v}" for k, v in settings.items())
        key = f"trial/{label}/{setting.name}/{lr!r}/{index}"
        item = job(run, key, "trial", shown, setting, backend, evaluate=False)
        found.append(Trial(label, lr, index, settings, item))
    return found


def next_rate(tuning: Tuning, scored: Sequence[tuple[Trial, float | None]]) -> float | None:
    """The learning rate by which a method's grid has to grow; None where it is wide enough, or unfinished.

    Args:
        scored: its trials so far, with their scores; None for one that is not done.
    """
    done = [(trial, value) for trial, value in scored if value is not None]
    if len(done) < len(scored) or not done:
        return None
    rates, best = {trial.lr for trial, _ in done}, choose(done).lr
    if best == max(rates) and sum(rate > max(tuning.lrs) for rate in rates) < tuning.extend:
        return float(f"{best * GROWTH:.6g}")
    if best == min(rates) and sum(rate < min(tuning.lrs) for rate in rates) < tuning.extend:
        return float(f"{best / GROWTH:.6g}")
    return None


def _check_metric(sweep: Sweep, run: RunConfig) -> None:
    """Refuse a metric that the trial will not have, before hours are spent on it."""
    known = [f"pass@{k}" for k in printable_ks(run.eval.frontier_n)]
    for name in tuning_of(sweep).metric:
        if name not in known:
            raise unknown(
                f"metric in {sweep.path}: tuning:", name, known,
                f"(eval.frontier_n={run.eval.frontier_n} samples allow k <= {run.eval.frontier_n // 2})",
            )  # fmt: skip


def untried(sweep: Sweep, found: Sequence[Trial]) -> list[Trial]:
    """The trials whose outcome the tuned file does not hold yet: of a method and setting all, or none."""
    old = _read_written(sweep)
    left = []
    for setting, method in dict.fromkeys((trial.job.setting, trial.method) for trial in found):
        own = [t for t in found if (t.job.setting, t.method) == (setting, method)]
        section = (old.get("places") or {}).get(setting) or {} if "places" in old else old
        rows = [row["run_id"] for row in section.get("trials") or [] if row["method"] == method]
        chosen = method in (section.get("choices") or {})
        if not chosen or sorted(rows) != sorted(trial.job.run_id for trial in own):
            left += own
    return left


def _read_written(sweep: Sweep) -> Mapping[str, Any]:
    """The tuned file, if it chose by today's rule; else nothing."""
    path = _written(sweep)
    old = read_yaml(path) if path.exists() else {}
    return old if old.get("rule") == _rule(tuning_of(sweep)) else {}


def _written_scores(sweep: Sweep) -> dict[str, float]:
    """The score of every trial that the tuned file holds, by the run's name."""
    old = _read_written(sweep)
    sections = [old, *(old.get("places") or {}).values()]
    rows = [row for section in sections for row in section.get("trials") or []]
    return {row["run_id"]: float(row["score"]) for row in rows}


def _rule(tuning: Tuning) -> str:
    return RULE.format(metric=" and ".join(tuning.metric))


def tuning_of(sweep: Sweep) -> Tuning:
    tuning = sweep.tuning
    if tuning is None:
        raise UserError(f"{sweep.path} has no 'tuning' section; give lrs, knobs and seed")
    if not sweep.tuning_grid:
        raise UserError(
            f"{sweep.path}: tuning: at names a model or training set that is left out; do not narrow it away"
        )
    tuned = tuning.tunes(sweep.methods)
    lacking = [m for m in tuned if m not in tuning.knobs]
    if lacking:
        raise UserError(
            f"{sweep.path}: tuning: knobs lack {', '.join(lacking)}; every method gets the same trials"
        )
    sizes = {m: len(tuning.knobs[m]) for m in tuned}
    if len(set(sizes.values())) > 1:
        most, least = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
        raise UserError(
            f"{sweep.path}: tuning: {most} has {sizes[most]} knob settings and {least} {sizes[least]}; "
            "equal tuning needs equally many"
        )
    return tuning


def score(result: RunResult, metric: Sequence[str]) -> float:
    """The mean of the validation scores named by ``metric``.

    Raises:
        UserError: the result lacks one; the message names those it has.
    """
    return sum(_validated(result, name) for name in metric) / len(metric)


def _validated(result: RunResult, name: str) -> float:
    value = result.validation.get(name)
    if value is None:
        known = ", ".join(result.validation)
        raise UserError(f"validation has no {name}; it has {known} (raise eval.frontier_n)")
    return value


def choose(scored: Sequence[tuple[Trial, float]]) -> Trial:
    """The winner among the trials of one method, by the stated rule."""
    return min(scored, key=lambda pair: (-pair[1], pair[0].lr, pair[0].knob))[0]


def write_choice(sweep: Sweep, found: Sequence[Trial], backend: Backend) -> Path:
    """Choose for every method and write the tuned file beside the sweep, whole or not at all."""
    tuning = tuning_of(sweep)
    path = _written(sweep)
    old = read_yaml(path) if path.exists() else {}
    body = {
        "schema": 1,
        "sweep": sweep.name,
        "rule": _rule(tuning),
        "seed": tuning.seed,
    }
    if not (sweep.models or sweep.training_sets):
        body |= _chosen(old, found, tuning, backend)
    else:
        grid = dict(old.get("places") or {})
        for setting in dict.fromkeys(trial.job.setting for trial in found):
            own = [trial for trial in found if trial.job.setting == setting]
            grid[setting] = _chosen(grid.get(setting) or {}, own, tuning, backend)
        body["places"] = grid
    write_tuned(path, body)
    return path


def _written(sweep: Sweep) -> Path:
    return sweep.path.with_name(f"{sweep.path.stem}.tuned.yaml")


def write_tuned(path: Path, body: Mapping[str, Any]) -> None:
    """Write a tuned file, whole or not at all."""
    head = "# Written by `entrobench sweep tune`; commit it, do not edit it.\n"
    write_text(path, head + dump_yaml(body))


def _chosen(
    old: Mapping[str, Any], found: Sequence[Trial], tuning: Tuning, backend: Backend
) -> dict[str, Any]:
    """Choices and trials of one setting; those of methods not tuned this time (``methods=…``) stay."""
    tuned_now = {trial.method for trial in found}
    choices = {k: v for k, v in (old.get("choices") or {}).items() if k not in tuned_now}
    rows = [row for row in old.get("trials") or [] if row["method"] not in tuned_now]
    for method in dict.fromkeys(trial.method for trial in found):
        own = [trial for trial in found if trial.method == method]
        results = [backend.result(trial.job.folder) for trial in own]
        scores = [score(result, tuning.metric) for result in results]
        winner = choose(list(zip(own, scores, strict=True)))
        choices[method] = {
            "settings": dict(winner.settings),
            "score": round(scores[own.index(winner)], 6),
            "run_id": winner.job.run_id,
            "method_hash": results[own.index(winner)].method_hash or "",
            "numerics_version": results[own.index(winner)].numerics_version,
            # the best rate may lie outside the grid: readers of the table must be able to see it
            "lr_at_grid_edge": winner.lr in (min(t.lr for t in own), max(t.lr for t in own)),
        }
        rows += [
            {
                "method": method,
                "settings": dict(trial.settings),
                **{name: round(_validated(result, name), 6) for name in tuning.metric},
                "score": round(value, 6),
                "chosen": trial is winner,
                "run_id": trial.job.run_id,
                "token_budget": trial.job.config["train"]["token_budget"],
            }
            for trial, result, value in zip(own, results, scores, strict=True)
        ]
    kept = {"temperatures": old["temperatures"]} if "temperatures" in old else {}
    return {"choices": choices, **kept, "trials": rows}
