"""Writes ``docs/real-models.md`` from ``results/real/``, with the published figures beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.evaluation.scores import estimates
from harness.util.files import read_json, write_text
from tests.testbed.real_engines import LEAST
from tests.testbed.real_models import ENGINES, LARGE, ROOT, SIZES, SMALL, TASKS, Task, records

PAGE = ROOT / "docs" / "real-models.md"
TITLES = {SMALL: "SmolLM2-135M-Instruct (Q4_1)", LARGE: "Qwen2.5-Coder-1.5B-Instruct (Q4_K_M)"}
KINDS = {
    "greedy": "greedy, 1,024 tokens",
    "sampled": "T 0.6, top-p 1, 8 samples a problem, 768 tokens",
    "chat": "greedy, 1,024 tokens, template `chat-boxed` instead of `qwen-math`",
}


@dataclass(frozen=True)
class Published:
    """Somebody's figure of the unquantised model (or of its base), in percent."""

    model: str
    set: str
    value: float
    protocol: str
    source: str


PUBLISHED = (
    Published(
        SMALL, "gsm8k", 1.4, "5-shot, lighteval",
        "[model card](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)",
    ),
    Published(
        SMALL, "gsm8k", 0.38, "0-shot, lm-evaluation-harness, flexible extraction",
        "[baseline of a third party](https://huggingface.co/lldois/SmolLM2-135M-Reasoning-SLERP-Champion)",
    ),
)  # fmt: skip

HEAD = """\
# Real models on the leaderboard's benchmarks

Written by `python -m tests.testbed.real_models page` from the records in `results/real/`. Do not edit it by
hand.

The two instructed [packaged models](models.md), with dequantised weights, by vLLM on a CPU in float32:
template and grader of the profile `qwen-math` (a system turn that asks for a boxed answer, then the
question), no examples. Problems of GSM8K and MATH-500 are drawn by `limit=N@1`; of AMC23, AIME24 and AIME25
all are taken. Intervals are 95 % over problems: bootstrap, and for one greedy answer a problem the exact
binomial one. Samples are named by the hashes in the records.
"""
AGAIN = """\
## Make them again

    entrobench prefetch-model smollm2-135m && entrobench prefetch-model qwen2.5-coder-1.5b
    make .venv-vllm
    .venv-vllm/bin/python -m tests.testbed.real_models plan      # tokens a second here, hours of each task
    .venv-vllm/bin/python -m tests.testbed.real_models run       # goes on where it was killed
    .venv-vllm/bin/python -m tests.testbed.real_models engines
    .venv/bin/python -m tests.testbed.real_models page
"""


def write_page() -> int:
    write_text(PAGE, page(records(), read_json(ENGINES) if ENGINES.exists() else None))
    return 0


def page(found: Mapping[str, Mapping[str, Any]], engines: Mapping[str, Any] | None) -> str:
    """The page for ``found``, the records by task, and the comparison of engines if there is one."""
    parts = [HEAD]
    for kind, about in KINDS.items():
        tasks = [task for task in TASKS if task.kind == kind]
        parts.append(f"## {about[0].upper()}{about[1:]}\n\n{_table(_rows(tasks, found))}\n")
        missing = [f"`{task.name}`" for task in tasks if task.name not in found]
        if missing:
            parts.append(f"Not finished yet: {', '.join(missing)}.\n")
    parts += [_published(found), _engines(engines), AGAIN]
    return "\n".join(parts)


def _rows(tasks: Sequence[Task], found: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    sampled = any(task.kind == "sampled" for task in tasks)
    more = ["pass@2", "pass@4"] if sampled else []
    yield ["model", "set", "problems", "pass@1, %", *more, "cut off, %", "unparsed, %", "tokens"]
    for task in tasks:
        for name in task.sets if task.name in found else ():
            entry = found[task.name]["benchmarks"][name]
            body = entry["draws"]["avg"]
            scores = estimates(body, passes=[1, 2, 4] if sampled else [1], majorities=())
            first = with_interval(body, scores["pass@1"])
            yield [
                TITLES[task.model], name, f"{len(body['correct'])} of {SIZES[name]}", first,
                *(_percent(scores[k]) for k in more), f"{100 * body['truncated']:.1f}",
                f"{100 * body['unparsed']:.1f}", f"{body['mean_length']:.0f}",
            ]  # fmt: skip


def with_interval(body: Mapping[str, Any], score: Mapping[str, float | None]) -> str:
    """pass@1 in percent with its interval."""
    if body["n"] > 1:
        return _percent(score)
    low, high = exact(sum(body["correct"]), len(body["correct"]))
    return f"{100 * float(score['value'] or 0.0):.1f} ({100 * low:.1f}-{100 * high:.1f})"


def exact(right: int, of: int) -> tuple[float, float]:
    """The exact 95 % interval of a share (Clopper and Pearson)."""
    from scipy.stats import binomtest

    found = binomtest(right, of).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


def _percent(score: Mapping[str, float | None]) -> str:
    value, low, high = (score[k] for k in ("value", "low", "high"))
    told = f"{100 * float(value or 0.0):.1f}"
    return told if low is None or high is None else f"{told} ({100 * low:.1f}-{100 * high:.1f})"


def _table(rows: Iterator[list[str]]) -> str:
    head, *body = rows
    line = "|".join(["", *("---" if i < 2 else "--:" for i in range(len(head))), ""])
    return "\n".join(["| " + " | ".join(head) + " |", line, *("| " + " | ".join(r) + " |" for r in body)])


def _published(found: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [["model", "set", "published, %", "protocol", "source", "ours, greedy, %", "inside our interval"]]
    for other in PUBLISHED:
        ours, inside = "not run yet", ""
        task = next(t for t in TASKS if (t.model, t.kind) == (other.model, "greedy") and other.set in t.sets)
        if task.name in found:
            body = found[task.name]["benchmarks"][other.set]["draws"]["avg"]
            right, of = sum(body["correct"]), len(body["correct"])
            low, high = exact(right, of)
            ours = f"{100 * right / of:.1f} ({100 * low:.1f}-{100 * high:.1f})"
            inside = "yes" if low <= other.value / 100 <= high else "**no**"
        rows.append(
            [TITLES[other.model], other.set, f"{other.value:g}", other.protocol, other.source, ours, inside]
        )
    return (
        f"## Beside published figures\n\n{_table(iter(rows))}\n\n"
        "Theirs are of unquantised weights, most with examples in the prompt, and of other graders. For\n"
        "AMC23, AIME24 and AIME25 no published figure of these two models was found. Where a figure is\n"
        "outside, the template is the factor that was changed and measured (the table of `chat-boxed`\n"
        "above). Quantisation was not varied: no package has the unquantised weights.\n"
    )


def _engines(found: Mapping[str, Any] | None) -> str:
    head = "## The two engines\n\n"
    if found is None:
        return f"{head}Not compared yet.\n"
    told = (
        f"{head}Greedy responses of up to {found['tokens']} tokens to {found['problems']} problems of GSM8K, "
        f"{TITLES[found['model']]}, float32: {found['equal']} of {found['problems']} are equal token for "
        f"token between `hf` and `vllm` (at least {LEAST:.0%} are asked for).\n"
    )
    if not found["parted"]:
        return told
    rows = [["problem", "first differing token", "gap between the two logits there"]]
    rows += [[r["problem"], str(r["at"]), f"{r['gap']:.1e}"] for r in found["parted"]]
    return f"{told}\n{_table(iter(rows))}\n"
