"""Chooses the regimes `long` and `stale` by the criterion of ``docs/regimes.md``, from GRPO's records alone.

    python -m tests.testbed.regimes long            # what the records say, and what is to be run next
    python -m tests.testbed.regimes stale --write   # freeze what was chosen, in benchmarks/micro/regimes.json

Nothing is run here: it prints the sweep commands. The criterion was written down before any run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from benchmarks.micro.testbed import REGIMES_FILE
from harness.records.load import load_records
from harness.records.record import Record
from harness.report.analysis.collapse import collapses
from harness.report.data.groups import Group, probes
from harness.statistics import mean_pass_at_ks
from harness.sweep.regimes import digest
from harness.util.files import write_json

RESULTS = Path("results") / "regimes"
#: Chooses the rate; and those that then say what happens there.
TUNING_SEED, SEEDS = 111, (11, 12, 13)
HORIZONS = (420_000, 840_000, 1_400_000)
STALE_TOKENS, LAGS = 420_000, (2, 4, 8)
#: Share of tokens that have to meet a bound in `stale`.
BOUNDED = 0.02


@dataclass(frozen=True)
class Decision:
    """``lines``: what was found. ``settings``: of the regime; None where it is not chosen, yet or at all.

    ``missing``: training sets of the sweep whose seeds are to be run next.
    """

    lines: list[str]
    settings: dict[str, Any] | None = None
    missing: tuple[str, ...] = ()


def upto(record: Record, tokens: float) -> Record:
    """The record as if the run had ended at so many generated tokens: GRPO's steps know no end."""
    at = [(generated, step) for step, generated, _ in probes(record)]
    generated, steps = zip(*at, strict=True)
    end = max(float(np.interp(tokens, generated, steps)), 1.0)
    return replace(record, frontier=[point for point in record.frontier if point.step <= end + 1e-9])


def tuned(records: Sequence[Record], tokens: float) -> Record | None:
    """The tuning seed's run with the best mean of pass@1 and pass@8 at the end; None where it was not run."""
    own = [upto(record, tokens) for record in records if record.seed == TUNING_SEED]
    return max(own, key=lambda r: (score(r), -rate(r))) if own else None


def score(record: Record) -> float:
    """Validation score of the last checkpoint, as tuning takes it."""
    last = max(record.frontier, key=lambda point: point.step)
    return float(mean_pass_at_ks(last.n, last.correct, (1, 8)).mean())


def rate(record: Record) -> float:
    return float(record.train["lr"])


def place(record: Record) -> str:
    """The sweep's name of where the run belongs."""
    return str(record.training_set)


def decide_long(records: Sequence[Record]) -> Decision:
    """The smallest horizon at which tuned GRPO has lost pass@32 beyond chance; else the widest, by rates."""
    lines, escaped = [], []
    for tokens in HORIZONS:
        best = tuned(records, tokens)
        if best is None:
            return _all_missing(lines, records)
        own = _seeds(records, place(best))
        if len(own) < len(SEEDS):
            lines.append(f"{tokens:,} tokens: {place(best)} is GRPO's best rate; its seeds are missing")
            return Decision(lines, missing=(place(best),))
        told, falls = _loss(own, tokens)
        lines.append(f"{tokens:,} tokens: {place(best)} is GRPO's best rate; pass@k lost there {told}")
        if falls:
            lines.append(f"chosen: {tokens:,} tokens, tuned as ever")
            return Decision(lines, long_settings(tokens))
        escaped.append(best)
    lines.append("the tuned rate escapes every collapse: `long` has a table for each rate, and says so")
    above = sorted((r for r in _one_each(records) if rate(r) > rate(escaped[-1])), key=rate)
    for other in above:
        own = _seeds(records, place(other))
        if len(own) < len(SEEDS):
            return Decision([*lines, f"{place(other)}: its seeds are missing"], missing=(place(other),))
        told, falls = _loss(own, HORIZONS[-1])
        lines.append(f"{place(other)}: pass@k lost {told}")
        if falls:
            lines.append(f"chosen: {HORIZONS[-1]:,} tokens, with a table for each rate")
            return Decision(lines, long_settings(HORIZONS[-1]))
    return Decision([*lines, "no rate of the grid loses anything: no such regime within this budget"])


def decide_stale(records: Sequence[Record]) -> Decision:
    """The smallest lag at which a tuned GRPO that learns has 2 % of its tokens at a bound, in every seed."""
    lines: list[str] = []
    for lag in LAGS:
        there = [record for record in records if record.settings.rollout.get("lag") == lag]
        best = tuned(there, STALE_TOKENS)
        if best is None:
            return _all_missing(lines, records)
        own = _seeds(there, place(best))
        if len(own) < len(SEEDS):
            lines.append(f"lag {lag}: {place(best)} is GRPO's best rate; its seeds are missing")
            return Decision(lines, missing=(place(best),))
        shares = [bounded(record) for record in own]
        learns = all(gain(record) > 0 for record in own)
        told = ", ".join(f"{100 * share:.1f} %" for share in shares)
        also = "it learns" if learns else "it does not learn"
        lines.append(f"lag {lag}: {place(best)}; tokens at a bound {told}; {also}")
        if min(shares) >= BOUNDED and learns:
            lines.append(f"chosen: lag {lag}")
            return Decision(lines, stale_settings(lag))
    return Decision([*lines, f"no lag up to {LAGS[-1]} fulfils the criterion: there is no such regime here"])


def gain(record: Record) -> float:
    """pass@1 on validation at the end minus that of the untrained model."""
    points = sorted(record.frontier, key=lambda point: point.step)
    first, last = (sum(p.correct) / len(p.correct) / p.n for p in (points[0], points[-1]))
    return last - first


def bounded(record: Record) -> float:
    """Share of tokens that a lower or an upper bound clips, mean over the training."""
    windows = zip(record.trace["clip_low"], record.trace["clip_high"], strict=True)
    return float(np.mean([float(low or 0.0) + float(high or 0.0) for low, high in windows]))


def random_gains(records: Sequence[Record], which: str) -> str:
    """Why the regime may not be: with a coin for a verdict something is gained; empty where nothing is."""
    own = [record for record in records if record.training_set == which and record.role == "method"]
    if not own:
        return "random reward was not run there; submit and collect sweeps/regimes/random-choice.yaml"
    gains = [gain(record) for record in own]
    return f"random reward gains {100 * max(gains):.1f} points of pass@1" if max(gains) > 0 else ""


def long_settings(tokens: int) -> dict[str, Any]:
    return _settings(tokens, lag=0, frontier_every=50, probe_every=20)


def stale_settings(lag: int) -> dict[str, Any]:
    return _settings(STALE_TOKENS, lag=lag, frontier_every=25, probe_every=20)


def _settings(tokens: int, *, lag: int, frontier_every: int, probe_every: int) -> dict[str, Any]:
    return {
        "train.steps": ceil(tokens / 350), "train.token_budget": tokens, "train.minibatches": 4,
        "train.epochs": 2, "rollout.prompts_per_step": 16, "rollout.group_size": 8, "rollout.lag": lag,
        "probe.every": probe_every, "eval.n": 64, "eval.frontier_every": frontier_every,
        "eval.frontier_n": 64,
    }  # fmt: skip


def freeze(name: str, settings: dict[str, Any], file: Path = REGIMES_FILE) -> None:
    """Add a regime; one that is there is never replaced.

    Raises:
        SystemExit: it is there with other settings.
    """
    known = json.loads(file.read_text())
    entry = {"settings": settings, "digest": digest(settings)}
    if known.setdefault(name, entry) != entry:
        raise SystemExit(f"{name} is frozen with other settings; give yours a new version")
    write_json(file, known)


def _loss(records: Sequence[Record], tokens: float) -> tuple[str, bool]:
    """What the seeds have lost of pass@k at so many tokens, in words, and whether it is beyond chance."""
    group = Group("grpo", "method", tuple(upto(record, tokens) for record in records))
    numbers = collapses([group]).get(group.key, {})
    lost, low, high = (numbers.get(f"lost_pass_k{end}") for end in ("", "_low", "_high"))
    if lost is None or low is None or high is None:
        return "cannot be told", False
    return f"{100 * lost:.1f} [{100 * low:.1f}, {100 * high:.1f}] points", low > 0


def _seeds(records: Sequence[Record], where: str) -> list[Record]:
    own = {record.seed: record for record in records if place(record) == where and record.seed in SEEDS}
    return [own[seed] for seed in SEEDS if seed in own]


def _one_each(records: Sequence[Record]) -> list[Record]:
    return list({place(record): record for record in records if record.seed == TUNING_SEED}.values())


def _all_missing(lines: list[str], records: Sequence[Record]) -> Decision:
    return Decision(
        [*lines, f"the runs of seed {TUNING_SEED} are missing ({len(records)} records are there)"]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.testbed.regimes")
    parser.add_argument("regime", choices=("long", "stale"))
    parser.add_argument("--write", action="store_true", help="freeze what was chosen, as version 1")
    given = parser.parse_args(arguments)
    decide: Callable[[Sequence[Record]], Decision] = decide_long if given.regime == "long" else decide_stale
    sweep = f"sweeps/regimes/{given.regime}-choice.yaml"
    found = load_records(RESULTS / f"{given.regime}-choice" / "records.jsonl").records
    decision = decide([record for record in found if record.role == "method"])
    print("\n".join(decision.lines))
    if decision.settings is None:
        if decision.missing or not any(record.seed == TUNING_SEED for record in found):
            where = f" training_sets=[{','.join(decision.missing)}]" if decision.missing else ""
            seeds = ",".join(map(str, SEEDS)) if decision.missing else str(TUNING_SEED)
            for verb in ("plan", "submit", "collect"):
                print(f"    entrobench sweep {verb} {sweep}{where} seeds=[{seeds}]")
        return 1
    coins = load_records(RESULTS / "random-choice" / "records.jsonl").records
    if why := random_gains(coins, given.regime):
        print(f"not frozen: {why}")
        return 1
    if given.write:
        freeze(f"{given.regime}@1", decision.settings)
        print(f"frozen: {given.regime}@1 in {REGIMES_FILE.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
