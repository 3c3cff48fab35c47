"""How long a report over many records takes, beside reading their JSON alone.

    python -m tests.performance.bench_report [--records N]

Seconds of processor time, so that other work on the machine counts little; the ratios carry over to others.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.report.build import build_report
from harness.report.load import load_records
from tests.unit.test_report import make_record

METHODS, PROBLEMS = 60, 100


def records_text(count: int) -> str:
    """``count`` records of 60 methods, three sets of 100 problems each; counts are drawn at random."""
    template = make_record("x", 1, 0.0, problems=PROBLEMS)
    rng = np.random.default_rng(0)
    lines = []
    for index in range(count):
        method, seed = f"m{index % METHODS}", index // METHODS
        evals = {
            name: {**entry, "correct": rng.integers(0, 65, PROBLEMS).tolist()}
            for name, entry in template["evals"].items()
        }
        own = {"method": method, "seed": seed, "run_id": f"{method}-s{seed}", "evals": evals}
        lines.append(json.dumps(template | own))
    return "\n".join(lines) + "\n"


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=10_000)
    count = parser.parse_args().records
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        path.write_text(records_text(count))
        size = path.stat().st_size
        _, parsed = _timed(lambda: [json.loads(line) for line in path.read_text().splitlines()])
        loaded, reading = _timed(lambda: load_records(path))
        _, building = _timed(
            lambda: build_report(loaded.records, title="t", subtitle="", expected_seeds=None, reference="m0")
        )
    print(f"{count} records, {size / 1e6:.0f} MB")
    for name, seconds in (("JSON alone", parsed), ("read and checked", reading), ("tables built", building)):
        print(f"{name:18} {seconds:6.2f} s  {seconds / parsed:5.1f} x JSON alone")
    print(f"{'together':18} {reading + building:6.2f} s")


if __name__ == "__main__":
    main()
