"""The measures of ``docs/performance.md``: where each is stored, what is wanted, and when it became worse."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.util.errors import unknown
from harness.util.files import read_json
from tests.performance.about import FOLDER

#: How much further than its spread a measure may go before it counts as worse.
TOLERATED = 0.15
#: Share of the machine's limit from which a kernel is at it, and share of the time from which a row is.
NEAR, ENOUGH = 0.85, 0.80


@dataclass(frozen=True)
class Ratio:
    """Ours over the peer's: median and middle half of the pairs (the range of fewer than four)."""

    median: float
    low: float
    high: float
    pairs: int

    def inverse(self) -> Ratio:
        """The peer's over ours: of seconds a token, that is how many times as many tokens a second."""
        return Ratio(1 / self.median, 1 / self.high, 1 / self.low, self.pairs)

    def text(self) -> str:
        """``0.45 (0.44-0.47)``; without a spread where there is one pair."""
        if self.pairs == 1:
            return f"{self.median:.2f}"
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


class Missing(Exception):
    """A measure that its file does not hold; the message says why."""


def of_summary(summary: Mapping[str, Any]) -> Ratio:
    """From :meth:`tests.performance.timing.Comparison.summary`; older files tell the range only."""
    return Ratio(
        summary["ratio_median"], summary.get("ratio_low", summary["ratio_min"]),
        summary.get("ratio_high", summary["ratio_max"]), summary["pairs"],
    )  # fmt: skip


def alone(value: float) -> Ratio:
    """A ratio that was measured once."""
    return Ratio(value, value, value, 1)


@dataclass(frozen=True)
class Measure:
    """A row of the table.

    Attributes:
        key: what ``ROW=`` names it.
        what: what is measured, in words.
        against: the peer.
        file: result file, in the folder of results.
        read: the ratio in that file's content; raises :class:`Missing` or ``KeyError`` where it is not.
        command: module and arguments that measure it anew; ``--out FILE`` is added.
        wanted: the aim: at most this, or at least this where ``more`` is set.
        more: whether more is better, as of tokens a second.
        limit: what :func:`tests.performance.limit.share_at_limit` found, in that file's content; empty
            without.
        problems: which problems were taken, in that file's content; empty where none are.
    """

    key: str
    what: str
    against: str
    file: str
    read: Callable[[Any], Ratio]
    command: tuple[str, ...]
    wanted: float
    more: bool = False
    limit: Callable[[Any], Mapping[str, Any]] = lambda content: {}
    problems: Callable[[Any], str] = lambda content: ""

    def aim(self) -> str:
        return f"{'at least' if self.more else 'at most'} {self.wanted:g}"

    def reached(self, ratio: Ratio) -> bool:
        return ratio.median >= self.wanted if self.more else ratio.median <= self.wanted

    def verdict(self, ratio: Ratio, content: Any) -> str:
        """``yes``, ``no``, or ``at the limit``, with the share of the time at the limit where it is known."""
        reached, share = self.reached(ratio), self.limit(content).get("share")
        if share is None:
            return "yes" if reached else "no"
        if not reached and share >= ENOUGH:
            return f"at the limit: {share:.0%} of the time"
        return f"{'yes' if reached else 'no'}; {share:.0%} of the time at the limit"

    def stored(self, folder: Path = FOLDER) -> tuple[Ratio, Mapping[str, Any]]:
        """The ratio in ``folder``, and the file's content.

        Raises:
            Missing: no file, no such row in it, or a row that says why it is missing.
        """
        path = folder / self.file
        if not path.exists():
            raise Missing("not measured yet")
        content = read_json(path)
        try:
            return self.read(content), content
        except KeyError as error:
            raise Missing(f"not in {self.file}: {error.args[0]}") from error

    def limit_of(self, folder: Path = FOLDER) -> Mapping[str, Any]:
        """:attr:`limit` of what is stored; empty where nothing is."""
        try:
            return self.limit(self.stored(folder)[1])
        except Missing:
            return {}

    def worse(self, stored: Ratio, fresh: Ratio) -> bool:
        """Whether ``fresh`` lies more than :data:`TOLERATED` beyond the worse end of the stored spread."""
        if self.more:
            return fresh.median * (1 + TOLERATED) < stored.low
        return fresh.median > stored.high * (1 + TOLERATED)


def _time(name: str) -> Callable[[Any], Ratio]:
    return lambda content: of_summary(content["time"][name])


def _sampler(row: str) -> Callable[[Any], Ratio]:
    def read(content: Any) -> Ratio:
        found = content[row]
        if "missing" in found:
            raise Missing(found["missing"])
        return of_summary(found).inverse()

    return read


def _on_gsm8k(read: Callable[[Any], Ratio]) -> Callable[[Any], Ratio]:
    """Of a row that says GSM8K: one that was measured with other problems is none."""

    def checked(content: Any) -> Ratio:
        if (taken := content["settings"]["problems"]) != "gsm8k":
            raise Missing(f"measured with {taken}, not GSM8K: set ENTROBENCH_DATA")
        return read(content)

    return checked


def _grading(content: Any) -> Ratio:
    """Both graders in as many workers as the machine has cores, fast paths on."""
    name = next((k for k in content["throughput"] if k.startswith("pool") and k.endswith("both graders")), "")
    row = content["throughput"][name]
    low, high = row["speed_against_plain_min"], row["speed_against_plain_max"]
    return Ratio(row["speed_against_plain_median"], low, high, content["rounds"])


def _vcpo(shape: str) -> Callable[[Any], Ratio]:
    return lambda content: of_summary(content[shape]["vcpo@paper"]["update"])


def _sampler_measure(shape: str, dtype: str, peer: str, wanted: float) -> Measure:
    prompts, n = shape.split("x")
    short = {"float32": "fp32", "bfloat16": "bf16"}[dtype]
    return Measure(
        key=f"sampler-{shape}-{short}-{peer}",
        what=f"built-in sampler, SmolLM2-135M, {short}, {prompts} prompts x {n} responses x 64 tokens, one "
        "thread: tokens a second",
        against={"vllm": "vLLM 0.32 on the CPU", "transformers": "`generate` of transformers"}[peer],
        file="sampler.json", read=_sampler(f"{shape} {dtype} {peer}"),
        command=("bench_sampler", "--shape", shape, "--dtype", dtype, "--against", peer),
        wanted=wanted, more=True,
        limit=lambda content: content.get(f"{shape} {dtype} transformers", {}).get("at_limit", {}),
        problems=lambda content: content[f"{shape} {dtype} {peer}"].get("problems", ""),
    )  # fmt: skip


_REAL = ("bench_trl", "--model", "smollm2-135m")
_VCPO = ("bench_methods", "--methods", "vcpo@paper", "--shape")
MEASURES = (
    Measure(
        "step-micro", "whole step, micro testbed (128 rollouts, 8 updates), one thread", "TRL 1.16",
        "trl.json", _time("whole step"), ("bench_trl",), 0.30,
    ),
    Measure(
        "step-real", "whole step, SmolLM2-135M on GSM8K, 4 prompts x 4 responses x 48 tokens, 2 minibatches, "
        "fp32, one thread", "TRL 1.16", "trl-smollm2-135m.json", _on_gsm8k(_time("whole step")), _REAL, 0.40,
    ),
    Measure(
        "memory-real", "peak memory of the same, whole process", "TRL 1.16", "trl-smollm2-135m.json",
        _on_gsm8k(lambda content: alone(content["memory"]["ratio_peak"])), _REAL, 0.50,
    ),
    *(_sampler_measure(s, "float32", "vllm", 1.1) for s in ("4x16", "64x1")),
    *(_sampler_measure(s, "bfloat16", "vllm", 1.0) for s in ("4x16", "64x1")),
    *(_sampler_measure(s, "float32", "transformers", 4.0) for s in ("4x16", "64x1")),
    Measure(
        "logprob-time", "log-prob and entropy over 151,936 tokens, forward and backward, fp32, one thread",
        "TRL's chunked operator", "logprob.json", lambda content: of_summary(content["time"]),
        ("bench_logprob",), 0.70,
    ),
    Measure(
        "logprob-memory", "most that tensors hold in the same, beyond the gradients that both return",
        "TRL's chunked operator", "logprob.json",
        lambda content: alone(content["memory"]["ratio_beyond_gradients"]), ("bench_logprob",), 0.50,
    ),
    Measure(
        "grading", "grading, two workers, both graders: answers a second", "a plain math-verify loop",
        "grading.json", _grading, ("bench_grading", "--rounds", "4", "--per-set", "10"), 6.0, more=True,
    ),
    Measure(
        "report", "10,000 records, every text written", "reading their JSON with the standard library",
        "report.json", lambda content: of_summary(content["ratio"]), ("bench_report", "--times", "3"), 0.9,
    ),
    Measure(
        "vcpo-micro", "VCPO's update, micro testbed", "GRPO's update", "methods.json", _vcpo("micro"),
        (*_VCPO, "micro"), 2.5,
    ),
    Measure(
        "vcpo-152k", "VCPO's update, vocabulary of 151,936", "GRPO's update", "methods.json",
        _vcpo("vocab-152k"), (*_VCPO, "vocab-152k"), 2.5,
    ),
)  # fmt: skip


def chosen(keys: Sequence[str]) -> list[Measure]:
    """The measures that ``keys`` name; all where there is none.

    Raises:
        UserError: an unknown name.
    """
    by_key = {measure.key: measure for measure in MEASURES}
    for key in keys:
        if key not in by_key:
            raise unknown("row", key, list(by_key))
    return [by_key[key] for key in keys] if keys else list(MEASURES)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of log cost over log size by least squares: 1 where cost grows as size does.

    Raises:
        ValueError: fewer than two sizes, or one that is not above 0.
    """
    if len(sizes) != len(costs) or len(sizes) < 2 or min(*sizes, *costs) <= 0:
        raise ValueError("an exponent needs two sizes and more with a cost each, all above 0")
    x, y = [math.log(v) for v in sizes], [math.log(v) for v in costs]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
