"""Writes ``docs/performance.md`` from what ``results/performance/`` holds.

    python -m tests.performance.table

Ratios with their spread only: seconds are another machine's business. A row without a result says why.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.util.files import read_json, write_text
from tests.performance.about import FOLDER
from tests.performance.measures import ENOUGH, MEASURES, NEAR, TOLERATED, Measure, Missing
from tests.performance.timing import table

PAGE = FOLDER.parents[1] / "docs" / "performance.md"

HEAD = """\
# Performance

Written by `python -m tests.performance.table` from the files in `results/performance/`, which `make bench`
measures and writes anew, this page with them. Do not edit it by hand.

Each figure is ours over the peer's in one run, the two in alternating order: the median of the pairs and, in
brackets, the middle half of them (the range where there are fewer than four pairs, or the file tells no
more). One figure alone was measured once. Times are processor time, so that other work on the machine counts
little, except for grading, which uses several processes and the clock. Before a time is taken, both sides'
numbers are compared.
"""

GROWTH = """\
## How cost grows

Processor time of ours at growing sizes, relative to the smallest, and the exponent of size that it grows with
(least squares over all sizes, and between the last two): 1 is in proportion.
"""

LIMIT = f"""\
## At the machine's limit

The share of our processor time in kernels that run at {NEAR:.0%} of the machine's limit for their shapes, or
above. The limit is measured in the same process: every kernel at hand multiplies the same shapes alone, over
weights that no cache holds, and the fastest counts; for attention it is what its operations or its bytes take
at best. A row that misses its aim is at the limit where that share is {ENOUGH:.0%} or more.
"""

RUN = f"""\
## Measure again

    make bench                        # everything, one after the other, then this page; half an hour and more
    make bench-check                  # measures again and compares with the stored files
    make bench-check ROW=step-micro   # one row, or several: ROW="step-micro vcpo-152k"

`make bench-check` fails where a row's new median is more than {TOLERATED:.0%} beyond the worse end of its
stored spread, or where a row cannot be measured any more. Each bench is a module of `tests/performance/` and
runs alone; its docstring says what it does and takes. The real-model rows need the weights (`entrobench
prefetch-model smollm2-135m`) and read GSM8K as a run does; the rows against vLLM need `make .venv-vllm`.
"""

LOAD = """\
Load is the machine's average over 1, 5 and 15 minutes when a measurement ended; above its number of cores the
figures are to be taken again.
"""


def row_of(measure: Measure, folder: Path) -> list[str]:
    """A row of the main table."""
    head = [f"`{measure.key}`", measure.what, measure.against]
    try:
        ratio, content = measure.stored(folder)
    except Missing as error:
        return [*head, f"missing: {error}", measure.aim(), "", ""]
    return [*head, ratio.text(), measure.aim(), measure.verdict(ratio, content), str(ratio.pairs)]


def limits(folder: Path) -> list[str]:
    """The kernels of rows that tell their share of time at the machine's limit."""
    rows, seen = [], list[Mapping[str, Any]]()
    for measure in MEASURES:
        found = measure.limit_of(folder)
        if found in seen:
            continue
        seen.append(found)
        for kernel in found.get("kernels", ()):
            rows.append(
                [f"`{measure.key}`", kernel["kernel"], f"{kernel['seconds'] / found['total_s']:.1%}",
                 f"{kernel['rate']:.1f}", f"{kernel['limit']:.1f}"]
            )  # fmt: skip
    if not rows:
        return []
    return [LIMIT, table(["row", "kernel", "of the time", "GFLOP/s", "the machine's limit"], rows) + "\n"]


def equality(folder: Path) -> list[list[str]]:
    """What was compared before a time was taken."""
    rows = []
    for file, name in (("trl.json", "micro"), ("trl-smollm2-135m.json", "SmolLM2-135M")):
        for loss, gap in _content(folder, file).get("equality", {}).items():
            rows.append(
                [f"loss and gradient, {name}, `{loss}`, against TRL", f"{gap['loss_gap']:.1e}",
                 f"{gap['gradient_relative_gap']:.1e}"]
            )  # fmt: skip
    for side, gap in _content(folder, "logprob.json").get("gap_to_plain", {}).items():
        name = "ours" if side == "ours" else "TRL's"
        rows.append(
            [f"log-prob, entropy and gradients, {name} against the plain computation", "", f"{gap:.1e}"]
        )
    return rows


def growth(folder: Path) -> list[list[str]]:
    """Cost by size."""
    return [
        [
            case["what"], ", ".join(f"{size:,}" for size in case["sizes"]),
            ", ".join(f"{value:.2f}" for value in case["relative"]),
            f"{case['exponent']:.2f}", f"{case['last_exponent']:.2f}",
        ]
        for case in _content(folder, "growth.json").values()
    ]  # fmt: skip


def origins(folder: Path) -> list[list[str]]:
    """When, where and with what each file was measured."""
    rows = []
    for file in dict.fromkeys([*(m.file for m in MEASURES), "growth.json"]):
        content = _content(folder, file)
        if not content:
            continue
        # files of several rows say it in each
        told = (
            [content]
            if "date" in content
            else [v for v in content.values() if isinstance(v, dict) and "date" in v]
        )
        for said in _different(told) or [{}]:
            versions = said.get("versions", {})
            rows.append(
                [f"[{file}](../results/performance/{file})", str(said.get("date", "not told")),
                 str(said.get("hardware", "not told")),
                 ", ".join(f"{name} {version}" for name, version in versions.items()),
                 " / ".join(map(str, said.get("load", ())))]
            )  # fmt: skip
    return rows


def _different(told: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One of those with equal date, hardware and versions; its load is that of the last."""
    found: dict[str, Mapping[str, Any]] = {}
    for said in told:
        found[f"{said['date']} {said['hardware']} {sorted(said['versions'].items())}"] = said
    return list(found.values())


def settings(folder: Path) -> list[str]:
    """What both sides were set to, in words that a reader can repeat."""
    lines = []
    for file, name in (("trl.json", "micro"), ("trl-smollm2-135m.json", "SmolLM2-135M")):
        if given := _content(folder, file).get("settings"):
            lines.append(
                f"* Step, {name}: {_words(given)}. TRL's own are in `tests/performance/trl_peer.py`."
            )
    rows = {k: v for k, v in _content(folder, "sampler.json").items() if "missing" not in v}
    for name, row in rows.items():
        if "cache" in row:
            why = "which was the faster one here" if row["cache_tried_s"] else "as the bench was told"
            lines.append(f"* `generate`, {name}: the {row['cache']} cache, {why}.")
    engine = next((row for row in rows.values() if "vllm_settings" in row), None)
    if engine:
        lines.append(
            f"* vLLM: {_words(engine['vllm_settings'])}; environment {_words(engine['vllm_environment'])}."
        )
    operator = _content(folder, "logprob.json")
    if operator:
        memory = operator["memory"]
        lines.append(
            f"* Log-prob and entropy: {_words(operator['settings'])}; TRL's chunk is its trainer's, 32,768 "
            f"tokens. With the gradients, {memory['gradient_bytes'] / 1e6:.0f} MB on either side, the "
            f"ratio of the memory is {memory['ratio_peak']:.2f}."
        )
    return lines


def _words(given: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in given.items())


def _content(folder: Path, file: str) -> Mapping[str, Any]:
    path = folder / file
    found: Mapping[str, Any] = read_json(path) if path.exists() else {}
    return found


def page(folder: Path = FOLDER) -> str:
    """The whole page."""
    parts = [
        HEAD,
        table(
            ["row", "measure", "against", "ours / theirs", "wanted", "reached", "pairs"],
            [row_of(m, folder) for m in MEASURES],
        ) + "\n",
        "Where a row is of tokens or answers a second, more is better; elsewhere less.\n",
        *limits(folder),
        "## Equal numbers first\n",
        table(["compared", "loss: difference", "gradient: relative"], equality(folder)) + "\n",
        GROWTH,
        table(["work: size", "sizes", "cost", "exponent", "of the last step"], growth(folder)) + "\n",
        "## When, where, with what\n",
        LOAD,
        table(["file", "date", "hardware", "versions", "load"], origins(folder)) + "\n",
        "\n".join(settings(folder)) + "\n",
        RUN,
    ]  # fmt: skip
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="table", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=FOLDER)
    parser.add_argument("--out", type=Path, default=PAGE)
    args = parser.parse_args(argv)
    write_text(args.out, page(args.results))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
