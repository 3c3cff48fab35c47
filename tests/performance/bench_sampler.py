"""Tokens a second of the built-in sampler on SmolLM2-135M, against ``generate`` of transformers and vLLM.

    python -m tests.performance.bench_sampler --shape 4x16
    python -m tests.performance.bench_sampler --shape 64x1 --against vllm --vllm .venv-vllm/bin/python
    python -m tests.performance.bench_sampler --dtype bfloat16      # where the processor has it
    python -m tests.performance.bench_sampler --shape 4x16 --dtype float32 --limit only

``4x16`` is 4 prompts with 16 responses each, ``64x1`` is 64 prompts. All sides sample 64 tokens for each of
the 64 responses at temperature 1 (ends are switched off, so that all do equal work), on one thread of a CPU
each, in alternating order; seconds are processor seconds of the side's own process. ``generate`` takes the
cache, dynamic or static, that is faster on this machine (both are tried first), and gives no log-probs; ours
does. vLLM runs as ``vllm_peer.py`` says. A peer that is not there leaves its row in the result as missing,
with the reason. The rows against ``generate`` tell which share of our time is spent in kernels at the
machine's limit (``limit.py``), whatever the peer; ``--limit only`` measures that for rows that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

import torch

from harness.model.policy import Policy
from harness.rollout import sampler
from harness.util.files import read_json
from tests.performance import limit, real_model, vllm_peer
from tests.performance.about import FOLDER, about, has_bf16, keep, vectors
from tests.performance.timing import Comparison, table

RESULT = FOLDER / "sampler.json"
VLLM = FOLDER.parents[1] / os.environ.get("VENV_VLLM", ".venv-vllm") / "bin" / "python"
TOKENS, POSITIONS = 64, 512
#: Prompts, and responses to each.
SHAPES = {"4x16": (4, 16), "64x1": (64, 1)}
PEERS = ("transformers", "vllm")
#: Tokens that are sampled to see which cache is faster.
TRIED = 8
#: Processor seconds and sampled tokens of prompts, responses to each, and tokens to sample.
Side = Callable[[Sequence[Sequence[int]], int, int], tuple[float, int]]


def timed(work: Callable[[], int]) -> tuple[float, int]:
    """Processor seconds of ``work``, and the tokens that it returns."""
    start = time.process_time()
    tokens = work()
    return time.process_time() - start, tokens


class Ours:
    """The built-in sampler; every call draws anew."""

    def __init__(self, policy: Policy) -> None:
        self.policy = real_model.Endless.of(policy)
        self.calls = 0

    def __call__(self, prompts: Sequence[Sequence[int]], n: int, tokens: int) -> tuple[float, int]:
        self.calls += 1
        keys = [(self.calls, row) for row in range(len(prompts) * n)]
        return timed(
            lambda: int(
                sampler.sample(self.policy, prompts, n, keys=keys, max_tokens=tokens).mask_NT.sum().item()
            )
        )


def at_limit(ours: Ours, prompts: Sequence[Sequence[int]], n: int, total_s: float = 0.0) -> dict[str, Any]:
    """The share of our seconds in kernels at the machine's limit.

    Args:
        total_s: seconds of the work; 0 measures them, after a short untimed call.
    """
    if not total_s:
        ours(prompts[:1], n, 2)
        total_s = ours(prompts, n, TOKENS)[0]
    with limit.watched() as calls:
        ours(prompts, n, TOKENS)
    return limit.share_at_limit(calls, total_s)


class Generate:
    """transformers' ``generate`` on left-padded prompts; ``cache`` is None for the dynamic one."""

    def __init__(self, policy: Policy) -> None:
        self.model, self.pad = policy.model, policy.pad_id
        self.cache: str | None = None

    def __call__(self, prompts: Sequence[Sequence[int]], n: int, tokens: int) -> tuple[float, int]:
        width = max(map(len, prompts))
        rows = [p for p in prompts for _ in range(n)]
        ids = torch.tensor([[self.pad] * (width - len(p)) + list(p) for p in rows])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in rows])

        def work() -> int:
            out = self.model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=self.pad,
                cache_implementation=self.cache,
            )  # fmt: skip
            return int(out[:, width:].numel())

        return timed(work)

    def choose(self, prompts: Sequence[Sequence[int]], n: int) -> dict[str, float]:
        """Take the faster cache; returns the processor seconds of a few tokens with each."""
        seconds = {}
        for name in ("dynamic", "static"):
            self.cache = None if name == "dynamic" else name
            seconds[name] = self(prompts, n, TRIED)[0]
        self.cache = None if seconds["dynamic"] <= seconds["static"] else "static"
        return seconds


class Vllm:
    """vLLM in a process of its own.

    Raises:
        OSError: there is no such interpreter.
        RuntimeError: the process ended before it was ready.
    """

    def __init__(self, python: Path, dtype: str, rows: int) -> None:
        folder = real_model.folder()
        # A relative path may be a link into another environment: resolving it would leave that environment
        command = [
            str(python.absolute()), vllm_peer.__file__, str(folder), dtype, str(rows), str(POSITIONS)
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", cwd=FOLDER.parents[1],
        )  # fmt: skip
        self._words = ""
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        self.version = str(self._answer()["version"])

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._words = line.strip() or self._words

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._reader.join(5)
            raise RuntimeError(f"vLLM's process ended: {self._words}")
        return json.loads(line)

    def __call__(self, prompts: Sequence[Sequence[int]], n: int, tokens: int) -> tuple[float, int]:
        assert self._process.stdin is not None
        asked = {"prompts": [list(p) for p in prompts], "n": n, "max_tokens": tokens}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        told = self._answer()
        return float(told["cpu_s"]), int(told["tokens"])

    def __enter__(self) -> Vllm:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def compare(ours: Side, peer: Side, prompts: Sequence[Sequence[int]], n: int, pairs: int) -> dict[str, Any]:
    """Seconds a token of both in alternating order, after one short untimed call each, of one prompt.

    Raises:
        AssertionError: a side sampled another number of tokens than it was asked for.
    """
    wanted = len(prompts) * n * TOKENS
    for side in (ours, peer):
        side(prompts[:1], n, 2)
    found: dict[str, list[float]] = {"ours": [], "peer": []}
    for i in range(pairs):
        for name, side in [("peer", peer), ("ours", ours)][:: 1 if i % 2 == 0 else -1]:
            seconds, tokens = side(prompts, n, TOKENS)
            if tokens != wanted:
                raise AssertionError(f"{name} sampled {tokens} tokens, not {wanted}")
            found[name].append(seconds / tokens)
    return {
        **Comparison("sampler", found["ours"], found["peer"]).summary(),
        "tokens_per_s": {name: round(1 / statistics.median(v), 1) for name, v in found.items()},
    }


def measure(
    shape: str, dtype: str, peer: str, pairs: int, python: Path, cache: str | None = None,
    limited: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """One row: ours against ``peer``; a peer that cannot run is ``missing``, with the reason.

    Args:
        cache: of ``generate``; both are tried where it is not said.
        limited: measure the share at the machine's limit, too, which takes about as long as ours once more.
    """
    torch.set_num_threads(1)
    count, n = SHAPES[shape]
    if dtype == "bfloat16" and not has_bf16():
        return {"missing": f"the processor has no bfloat16 ({vectors()})"}
    policy = real_model.policy(dtype)
    ours, prompts = Ours(policy), real_model.prompts(policy, count)
    told = {"problems": real_model.problems().name, "prompt_tokens": sum(map(len, prompts))}
    if peer == "transformers":
        theirs = Generate(policy)
        tried = theirs.choose(prompts, n) if cache is None else {}
        theirs.cache = cache if cache == "static" else theirs.cache
        row = compare(ours, theirs, prompts, n, pairs)
        if limited:
            told |= {"at_limit": at_limit(ours, prompts, n, row["ours_median_s"] * count * n * TOKENS)}
        return (
            row | told | {"cache": theirs.cache or "dynamic", "cache_tried_s": tried, **about("transformers")}
        )
    try:
        with Vllm(python, dtype, count * n) as engine:
            row = compare(ours, engine, prompts, n, pairs)
            said = about("transformers")
            said["versions"]["vllm"] = engine.version
    except (OSError, RuntimeError) as error:
        return {"missing": f"vLLM cannot run here: {error}"}
    given = vllm_peer.settings("", dtype, count * n, POSITIONS)
    shown = {k: v for k, v in given.items() if k != "model"}
    return row | told | {"vllm_settings": shown, "vllm_environment": vllm_peer.ENVIRONMENT, **said}


def limit_alone(shape: str, dtype: str, row: dict[str, Any]) -> dict[str, Any]:
    """``row`` with its share at the limit measured anew, and when."""
    torch.set_num_threads(1)
    policy = real_model.policy(dtype)
    count, n = SHAPES[shape]
    found = at_limit(Ours(policy), real_model.prompts(policy, count), n)
    return row | {"at_limit": found | about("transformers")}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench_sampler", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=list(SHAPES), action="append", help="default: both")
    parser.add_argument("--against", choices=PEERS, action="append", help="default: both")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), action="append", help="default: both")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--cache", choices=("dynamic", "static"), help="of generate; default: the faster one")
    parser.add_argument(
        "--limit", choices=("with", "only", "without"), default="with", help="share at the machine's limit"
    )
    parser.add_argument("--vllm", type=Path, default=VLLM, help="interpreter of vLLM's environment")
    parser.add_argument("--out", type=Path, default=RESULT, help="result file; other rows in it stay")
    args = parser.parse_args(argv)
    result: dict[str, Any] = read_json(args.out) if args.out.exists() else {}
    for shape in args.shape or list(SHAPES):
        for dtype in args.dtype or ("float32", "bfloat16"):
            for peer in args.against or PEERS:
                name = f"{shape} {dtype} {peer}"
                only = args.limit == "only"
                if only and (peer != "transformers" or "missing" in result.get(name, {"missing": ""})):
                    continue
                result[name] = (
                    limit_alone(shape, dtype, result[name])
                    if only
                    else measure(shape, dtype, peer, args.pairs, args.vllm, args.cache, args.limit == "with")
                )
                keep(args.out, result)
    rows = [
        [name, row["missing"], ""]
        if "missing" in row
        else [
            name,
            f"{1 / row['ratio_median']:.2f}",
            f"{1 / row['ratio_max']:.2f} - {1 / row['ratio_min']:.2f}",
        ]
        for name, row in result.items()
    ]
    print(table(["tokens a second, ours / peer", "median", "min - max"], rows))


if __name__ == "__main__":
    main()
