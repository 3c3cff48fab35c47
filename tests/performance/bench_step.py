"""Where our training step's time goes: medians per stage for one method on the micro testbed.

python -m tests.performance.bench_step method=steer --steps 20
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.config.schema import slug
from harness.run.set_up import open_run
from harness.train.trainer import Trainer
from harness.util.errors import UserError
from tests.helpers.settings import composed
from tests.performance.timing import table, timed

FOLDER = Path(__file__).parents[2] / "results" / "performance"


def measure(overrides: Sequence[str], steps: int, warm_up: int = 2) -> dict[str, Any]:
    """Seconds of every stage over ``steps`` training steps of the run that ``overrides`` describe."""
    run = composed(*overrides, f"train.steps={steps + warm_up}")
    policy, benchmark = open_run(run)
    trainer = Trainer(run, policy, benchmark, run.method.stages())
    seconds: dict[str, list[float]] = {"whole step": []}
    tokens: list[int] = []
    for step in range(warm_up + steps):
        before = trainer.counters.generated_tokens
        whole = timed(trainer.step)
        if step < warm_up:
            continue
        tokens.append(trainer.counters.generated_tokens - before)
        seconds["whole step"].append(whole)
        for stage, value in trainer.clock.seconds.items():
            seconds.setdefault(stage, []).append(value)
        seconds.setdefault("rest", []).append(whole - sum(trainer.clock.seconds.values()))
    whole_s = statistics.median(seconds["whole step"])
    return {
        "method": run.method_name,
        "overrides": list(overrides),
        "steps": steps,
        "tokens_per_step": statistics.mean(tokens),
        "stages": {
            name: {
                "median_s": statistics.median(values),
                "min_s": min(values),
                "max_s": max(values),
                "share_of_step": statistics.median(values) / whole_s,
            }
            for name, values in seconds.items()
        },
    }


def report(result: dict[str, Any]) -> str:
    """The result as a markdown table."""
    rows = [
        [name, f"{s['median_s']:.4f}", f"{s['min_s']:.4f} - {s['max_s']:.4f}", f"{s['share_of_step']:.1%}"]
        for name, s in result["stages"].items()
    ]
    title = f"{result['method']}: {result['steps']} steps, {result['tokens_per_step']:.0f} tokens a step"
    return title + "\n\n" + table(["stage", "median s", "min - max", "share"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench_step", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="as for entrobench train: method=steer train.lr=2e-4 …")
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    parser.add_argument("--out", type=Path, default=None, help="result file")
    args = parser.parse_args(argv)
    try:
        result = measure(args.overrides, args.steps)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    out = args.out or FOLDER / f"step-{slug(result['method'])}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(report(result))


if __name__ == "__main__":
    main()
