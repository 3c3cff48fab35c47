"""Answers graded per second: the pool, with and without its fast paths, against a plain math-verify loop.

    python -m tests.performance.bench_grading --rounds 5

The responses are realistic, not hostile, or the plain loop would stand still: the standard conformance
cases, and the golds of the benchmark files in ``ENTROBENCH_DATA`` (where it is set) behind a page of
reasoning with endings in many words, ``--samples`` of them for each, three in ten with another problem's
answer. All sides grade the same responses in every round, in rotating order, and remember nothing of the
round before; the ratios are of the same round, so a busy machine slows both. Beside the clock stands the
processor time of all processes, which other work on the machine hardly changes. ``repeated`` is the share of
pairs of reference and answer that stood there before: a pool without memory grades those again.

The plain loop is ``verify(parse(gold), parse(response))`` with its defaults, in this process, on one core;
every pool stands beside its number of workers. Golds go to the plain loop in dollars, which it needs to read
LaTeX. The untimed round before warms its parser and those of the pools alike.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.grading import conformance
from harness.grading.grader import Grade, Grader
from harness.grading.graders import GRADERS, kind, prepare
from harness.util.files import write_json
from tests.performance.timing import table

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "results" / "performance" / "grading.json"
SETS = ("math500", "minerva_math", "olympiadbench", "aime24", "aime25", "amc23", "gsm8k_test")
ENDINGS = (
    "Therefore, the final answer is $\\boxed{{{}}}$.",
    "So we conclude that the answer is \\boxed{{{}}}",
    "\\[\n\\boxed{{{}}}\n\\]",
    "Putting everything together, \\(x = {0}\\). The answer is \\(\\boxed{{{0}}}\\).<|im_end|>",
    "Hence the value we were asked for is $$\\boxed{{{}}}.$$ Checking it once more, everything fits.",
)
REASONING = (
    "Let us write $a_{n+1} = 2a_n + 1$ and look at small cases first. ",
    "Substituting gives $\\frac{x^2 - 1}{x - 1} = x + 1$, so the expression simplifies. ",
    "Now we count: there are $\\binom{6}{2} = 15$ pairs, of which 3 do not fit. ",
    "By symmetry the same holds for the other side, and $3 \\cdot 4 = 12$. ",
    "Wait, the case $n = 0$ has to be looked at on its own. ",
)


def responses(per_set: int, samples: int = 1) -> list[tuple[str, str, bool | None]]:
    """(gold, response, whether it is right or None where the cases leave that open), always the same ones."""
    cases = conformance.load(ROOT / "tests" / "golden" / "grading" / "conformance.jsonl")
    found = [(c.gold, c.response, c.expected) for c in cases if c.kind == "standard"]
    folder = os.environ.get("ENTROBENCH_DATA")
    draw = random.Random(1)
    for name in SETS if folder else ():
        with gzip.open(Path(str(folder)) / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            golds = [json.loads(line)["answer"] for line in lines]
        for gold in draw.sample(golds, min(per_set, len(golds))) * samples:
            right = draw.random() < 0.7
            answer = gold if right else draw.choice(golds)
            text = "".join(draw.choices(REASONING, k=draw.randint(10, 40)))
            found.append((gold, text + draw.choice(ENDINGS).format(answer), None if answer != gold else True))
    draw.shuffle(found)
    return found


def plain(work: Sequence[tuple[str, str, bool | None]]) -> list[bool]:
    """math-verify as its documentation calls it."""
    from math_verify import parse, verify

    wrapped = [(gold if "$" in gold or "\\boxed" in gold else f"${gold}$", text) for gold, text, _ in work]
    return [bool(verify(parse(gold), parse(text))) for gold, text in wrapped]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--per-set", type=int, default=100)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)
    work = responses(options.per_set, options.samples)
    pairs = [(gold, text) for gold, text, _ in work]
    several = options.workers
    with (
        Grader(workers=several, remember=0) as fast,
        Grader(workers=several, fast=False) as slow,
        Grader(workers=1, fast=False, second=False) as single,
    ):
        graders = dict(
            zip(
                (
                    f"pool, {several} workers, both graders",
                    f"pool, {several} workers, both graders, no fast paths",
                    "pool, 1 worker, first grader, no fast paths",
                    f"pool, {several} workers, both graders, each pair once",
                ),
                (fast, slow, single, fast),
                strict=True,
            )
        )
        sides: dict[str, Callable[[], Any]] = {"plain math-verify loop": lambda: plain(work)}
        for name, grader in graders.items():
            chosen = _once(pairs) if name.endswith("once") else pairs
            sides[name] = lambda grader=grader, chosen=chosen: grader.grade_all(chosen)
        outcomes: dict[str, Any] = {name: side() for name, side in sides.items()}  # untimed: start, warm up
        seconds, cpu = _rounds(sides, options.rounds, graders)
    summary = _summary(work, seconds, cpu, outcomes)
    write_json(options.out, summary)
    _print(summary)
    print(f"written to {options.out}")


Times = dict[str, list[float]]


def _once(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The responses without those that say the same answer to the same reference again."""
    said = {
        (p.gold, p.pred): (g, t) for g, t in pairs for p in [prepare(kind("math-verify"), gold=g, pred=t)]
    }
    return list(said.values())


def _rounds(
    sides: dict[str, Callable[[], Any]], rounds: int, graders: dict[str, Grader]
) -> tuple[Times, Times]:
    """Seconds by the clock and of all processors, by side."""
    names = list(sides)
    seconds: Times = {name: [] for name in names}
    cpu: Times = {name: [] for name in names}
    for i in range(rounds):
        shift = i % len(names)
        for name in names[shift:] + names[:shift]:
            before, start = _cpu_s(graders.get(name)), time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - start)
            cpu[name].append(_cpu_s(graders.get(name)) - before)
    return seconds, cpu


def _cpu_s(grader: Grader | None) -> float:
    """Processor seconds of this process, of the pool's forker, and of its workers, living or replaced."""
    spent = time.process_time()
    if grader is not None:
        forker = grader._pool.forker_pid()
        spent += _ticks(forker, 4) if forker else 0.0
        spent += sum(_ticks(pid, 2) for pid in grader.worker_pids())
    return spent


def _ticks(pid: int, fields: int) -> float:
    """Seconds of a process (two fields), with those of its children that were waited for (four)."""
    stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(field) for field in stat[11 : 11 + fields]) / os.sysconf("SC_CLK_TCK")


def _summary(
    work: Sequence[tuple[str, str, bool | None]], seconds: Times, cpu: Times, outcomes: dict[str, Any]
) -> dict[str, Any]:
    names = list(seconds)
    base = seconds[names[0]]
    answers = [(p.gold, p.pred) for p in (prepare(kind("math-verify"), gold=g, pred=t) for g, t, _ in work)]
    throughput = {}
    for name, times in seconds.items():
        count = len(outcomes[name])
        # Of answers a second, as one side grades every pair once.
        faster = [count / len(work) * b / t for b, t in zip(base, times, strict=True)]
        leaner = [count / len(work) * b / t for b, t in zip(cpu[names[0]], cpu[name], strict=True)]
        throughput[name] = {
            "answers": count,
            "answers_per_s_median": round(count / statistics.median(times), 1),
            "speed_against_plain_median": round(statistics.median(faster), 2),
            "speed_against_plain_min": round(min(faster), 2),
            "speed_against_plain_max": round(max(faster), 2),
            "cpu_ms_per_answer_median": round(1000 * statistics.median(cpu[name]) / count, 3),
            "cpu_against_plain_median": round(statistics.median(leaner), 2),
        }
    grades: list[Grade] = outcomes[names[1]]
    known = [i for i, (_, _, expected) in enumerate(work) if expected is not None]
    right = {
        "plain math-verify loop": sum(outcomes[names[0]][i] == work[i][2] for i in known),
        "first grader": sum(grades[i].verdict.correct == work[i][2] for i in known),
        "second grader": sum((grades[i].second == "right") == work[i][2] for i in known),
    }
    agree = sum(g.verdict.correct == (g.second == "right") for g in grades)
    return {
        "command": "python -m tests.performance.bench_grading",
        "grader": GRADERS["math-verify"].version,
        "answers": len(work),
        "repeated": round(1 - len(set(answers)) / len(answers), 4),
        "benchmark_files": bool(os.environ.get("ENTROBENCH_DATA")),
        "rounds": len(base),
        "throughput": throughput,
        "without_a_worker": round(sum(g.wall_s == 0 for g in grades) / len(grades), 4),
        "verdicts_known": len(known),
        "right_share": {name: round(n / len(known), 4) for name, n in right.items()},
        "first_and_second_agree": round(agree / len(grades), 4),
        "fast_paths_change_a_verdict": sum(
            a.verdict.status != b.verdict.status for a, b in zip(grades, outcomes[names[2]], strict=True)
        ),
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load_average_1_min": round(os.getloadavg()[0], 1),
        },
    }


def _print(summary: dict[str, Any]) -> None:
    rows = [
        [
            name,
            f"{row['answers_per_s_median']:.0f}",
            f"{row['speed_against_plain_median']:.2f} "
            f"({row['speed_against_plain_min']:.2f}-{row['speed_against_plain_max']:.2f})",
            f"{row['cpu_against_plain_median']:.2f}",
        ]
        for name, row in summary["throughput"].items()
    ]
    print(table(["", "answers/s", "times the plain loop", "in processor time"], rows))
    for key in (
        "repeated",
        "without_a_worker",
        "right_share",
        "first_and_second_agree",
        "fast_paths_change_a_verdict",
    ):
        print(f"{key}: {summary[key]}")


if __name__ == "__main__":
    main()
