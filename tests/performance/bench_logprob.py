"""Log-prob and entropy at a vocabulary of 151,936, forward and backward in fp32 on a CPU, against TRL's.

    python -m tests.performance.bench_logprob
    python -m tests.performance.bench_logprob --positions 512 --pairs 5

TRL's is the chunked operator that its GRPO trainer takes both from (``ChunkedLogProbFunction``), called as it
is there. First values and gradients of both are compared with a plain computation in double; then each runs
forward and backward in alternating order on one thread, in processor seconds. Memory is the most that tensors
hold at any moment besides hidden states and head; it is given with the gradients, which both must return
(the head's are the most of it), and beyond them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.performance.about import FOLDER, about, keep
from tests.performance.bench_gpu import (
    FULL,
    Device,
    Operator,
    Sizes,
    operands,
    ours,
    outcome,
    trl_operator,
)
from tests.performance.timing import alternate, cpu_timed, table

RESULT = FOLDER / "logprob.json"
#: Width of Qwen2.5-0.5B; its head is the largest beside so small a model.
WIDTH, VOCAB, POSITIONS = 896, 151_936, 256
#: Largest difference from the plain computation, relative to its largest value.
TOLERANCE = 1e-5
CHUNK_MIB = 64


def exact(hidden: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The plain computation, all logits at once, in the precision of its operands."""
    logp = (hidden @ weight.T).log_softmax(1)
    return logp.gather(1, target[:, None]).squeeze(1), -(logp.exp() * logp).sum(1)


def check(operators: dict[str, Operator], sizes: Sizes) -> dict[str, float]:
    """Values and gradients of each beside the plain computation's in double precision.

    Raises:
        AssertionError: one is further away than rounding; nothing is timed then.
    """
    values = operands(sizes.checked, sizes, "cpu", torch.float32)
    double = [v.detach().double().requires_grad_() for v in values[:2]]
    want, gaps = outcome(exact, [*double, values[2]]), {}
    for name, operator in operators.items():
        got = outcome(operator, values)
        gaps[name] = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, want, strict=True))
        if not gaps[name] < TOLERANCE:
            raise AssertionError(
                f"{name} is {gaps[name]:.1e} away from the plain computation; nothing is timed"
            )
    return gaps


def measure(sizes: Sizes, pairs: int, theirs: Operator) -> dict[str, Any]:
    """Equality, time and peak memory of ours beside ``theirs``."""
    torch.set_num_threads(1)
    operators = {"ours": ours(CHUNK_MIB), "peer": theirs}
    gaps = check(operators, sizes)
    values = operands(sizes.positions, sizes, "cpu", torch.float32)
    peaks = {
        name: Device("cpu").peak(lambda operator=operator: outcome(operator, values), values)
        for name, operator in operators.items()
    }
    gradients = sum(v.nbytes for v in values[:2])
    beyond = {name: max(peak - gradients, 1) for name, peak in peaks.items()}
    time = alternate(
        "operator", lambda _: outcome(operators["ours"], values), lambda _: outcome(theirs, values), pairs,
        warm_up=1, clock=cpu_timed,
    )  # fmt: skip
    return {
        "gap_to_plain": gaps,
        "time": time.summary(),
        "memory": {
            "ours_bytes": peaks["ours"], "peer_bytes": peaks["peer"], "gradient_bytes": gradients,
            "ratio_peak": peaks["ours"] / peaks["peer"],
            "ratio_beyond_gradients": beyond["ours"] / beyond["peer"],
        },
        "settings": {
            "positions": sizes.positions, "vocab": sizes.vocab, "width": sizes.width, "dtype": "float32",
            "threads": 1, "our_chunk_mib": CHUNK_MIB,
        },
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench_logprob", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--positions", type=int, default=POSITIONS)
    parser.add_argument("--vocab", type=int, default=VOCAB)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args(argv)
    theirs = trl_operator()
    if theirs is None:
        parser.exit(2, "bench_logprob: this needs TRL; install it with: pip install '.[peers]'\n")
    sizes = replace(FULL, positions=args.positions, vocab=args.vocab, width=WIDTH, checked=16)
    result = measure(sizes, args.pairs, theirs) | about("trl")
    keep(args.out, result)
    time, memory = result["time"], result["memory"]
    rows = [
        ["time", f"{time['ratio_median']:.2f}", f"{time['ratio_min']:.2f} - {time['ratio_max']:.2f}"],
        ["peak memory, gradients included", f"{memory['ratio_peak']:.2f}", ""],
        ["peak memory beyond the gradients", f"{memory['ratio_beyond_gradients']:.2f}", ""],
    ]
    print(table(["ours / TRL", "median", "min - max"], rows))


if __name__ == "__main__":
    main()
