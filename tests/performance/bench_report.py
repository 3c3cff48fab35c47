"""How long reports over many records take, beside reading their JSON alone.

    python -m tests.performance.bench_report [--records N] [--seeds S] [--times T] [--profile FILE]

The records are copies of a committed one of the testbed (over 20 KB: three sets, frontier, probes, course
of the training) with counts and measurements drawn again: 60 methods with S seeds each, and as many models
as that takes, a report for each. Seconds of processor time, so that other work on the machine counts
little; the ratios carry over to others. Writes ``results/performance/report.json``.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.records.load import load_records, read_record
from harness.records.write import plain
from harness.report.analysis.model import Report
from harness.report.data.grid import by_setting
from harness.report.render.plain_json import json_text
from harness.report.render.plot_data import report_data
from harness.report.render.text import csv_text, markdown_text
from harness.report.tables.build import build_report
from tests.performance.about import FOLDER, about, keep
from tests.performance.timing import Comparison

METHODS = 60
COMMITTED = Path(__file__).parents[2] / "results" / "micro" / "records.jsonl"


def records_text(count: int, seeds: int) -> str:
    """``count`` records, a line each: for every model 60 methods with ``seeds`` seeds."""
    rng = np.random.default_rng(0)
    lines = COMMITTED.read_text(encoding="utf-8").splitlines()
    template = next(plain(r) for r in map(read_record, lines) if r.role == "method" and r.trace)
    text = []
    for index in range(count):
        seed, method = index % seeds, f"m{index // seeds % METHODS}"
        own = {
            "method": method, "seed": seed, "run_id": f"{method}-s{seed}-{index:012x}",
            "model_name": f"model-{index // seeds // METHODS}", "training_set": "train",
        }  # fmt: skip
        measured = {key: _drawn_again(template[key], rng) for key in ("evals", "frontier", "probe", "trace")}
        text.append(json.dumps(template | own | measured, sort_keys=True, ensure_ascii=False))
    return "\n".join(text) + "\n"


def _drawn_again(value: Any, rng: np.random.Generator, key: str = "") -> Any:
    """Other counts between 0 and n, other measurements; steps, numbers of samples and names stay."""
    if isinstance(value, dict):
        top = int(value.get("n", 0))
        return {
            k: rng.integers(0, top + 1, len(v)).tolist() if k == "correct" else _drawn_again(v, rng, k)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [_drawn_again(part, rng, key) for part in value]
    return value * float(rng.uniform(0.9, 1.1)) if isinstance(value, float) else value


def _reports(records: Any) -> list[Report]:
    return [
        build_report(setting.records, title="t", subtitle="", expected_seeds=None, reference="m0")
        for setting in by_setting(records)
    ]


def _written(reports: list[Report]) -> int:
    """Length of all tables and plot data as text."""
    texts = [text for r in reports for text in (markdown_text(r, ()), csv_text(r), json_text(report_data(r)))]
    return sum(map(len, texts))


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    gc.collect()
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


def measure(records: int, seeds: int, profile: Path | None = None) -> dict[str, float]:
    """Processor seconds of the parts, of one run over ``records`` made records."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        path.write_text(records_text(records, seeds), encoding="utf-8")
        size = path.stat().st_size
        _, parsed = _timed(lambda: len([json.loads(line) for line in path.read_text("utf-8").splitlines()]))
        watch = cProfile.Profile(time.process_time)
        if profile:
            watch.enable()
        loaded, reading = _timed(lambda: load_records(path))
        reports, building = _timed(lambda: _reports(loaded.records))
        length, writing = _timed(lambda: _written(reports))
        if profile:
            watch.disable()
            watch.dump_stats(profile)
    print(f"{records} records, {size / 1e6:.0f} MB; {len(reports)} reports, {length / 1e6:.0f} MB")
    return {
        "JSON alone": parsed, "read and checked": reading, "tables built": building,
        "texts written": writing, "read and built": reading + building,
        "together": reading + building + writing,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--times", type=int, default=1, help="runs, for a spread of the ratio")
    parser.add_argument("--profile", type=Path, help="write a profile of our part here; times then mean less")
    parser.add_argument("--out", type=Path, default=FOLDER / "report.json", help="result file")
    chosen = parser.parse_args()
    found = [measure(chosen.records, chosen.seeds, chosen.profile) for _ in range(chosen.times)]
    for name, seconds in found[-1].items():
        print(f"{name:18} {seconds:6.2f} s  {seconds / found[-1]['JSON alone']:5.2f} x JSON alone")
    if chosen.profile:
        return
    base = [run["JSON alone"] for run in found]
    ratio = Comparison("report", [run["together"] for run in found], base).summary()
    keep(chosen.out, {"ratio": ratio, "records": chosen.records, "seeds": chosen.seeds, **about("msgspec")})


if __name__ == "__main__":
    main()
