"""Evaluation: n samples a problem, every one kept, resumable; and the entropy probe."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harness.distributed.world import world
from harness.evaluation.scores import digest, votes
from harness.model.policy import Policy
from harness.problems.problem import Benchmark, Problem, verify_all
from harness.rollout.finite import not_finite
from harness.rollout.roll_out import Sampler, judge_shared, roll_out
from harness.stages.batch import Batch
from harness.stages.requests import Prompt
from harness.stages.token_stats import ENTROPY, LOGP
from harness.statistics import distinct_answers, maj_at_k
from harness.util import progress
from harness.util.files import replacing

#: Blocks of so many tokens at most are drawn in one go, further rows beginning as others end. It is what is
#: lost when an evaluation is killed.
UNIT_TOKENS = 65536
#: Columns of a samples file.
COLUMNS = ("problem_id", "sample", "text", "tokens", "truncated", "status", "canonical", "logp_sum")


def evaluate_problems(
    policy: Policy,
    benchmark: Benchmark,
    problems: Sequence[Problem],
    path: Path,
    *,
    n: int,
    temperature: float,
    top_p: float = 1.0,
    max_tokens: int,
    seed: int,
    batch_rows: int = 512,
    on_progress: Callable[[int, int], None] | None = None,
    by: Sampler | None = None,
) -> Any:
    """Sample and judge ``n`` responses to each problem; returns the table of samples (a pandas frame).

    Several processes share every block of problems; the first one writes, and it alone gets the table.

    Args:
        path: the samples file (parquet). Blocks of problems are written beside it as they come and merged at
            the end, so a killed evaluation goes on where it was. An existing file is returned as it is.
        batch_rows: rows that are drawn side by side, those of a problem together.
        seed: draws depend on (seed, problem, sample) only.
        on_progress: called with (problems done, problems).
        by: who draws; by default the policy itself.
    """
    import pandas as pd

    here = world()
    if here.run_on_main(partial(_kept, path)):
        if not here.is_main:
            return None
        for part in path.parent.glob(f"{path.stem}.part-*.parquet"):  # killed while they were removed
            part.unlink()
        return read_table(path)
    block = max(1, batch_rows // n)
    many = block * max(1, UNIT_TOKENS // (block * n * max_tokens))
    draw = partial(
        _draw, policy, n=n, temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed,
        batch_rows=batch_rows, by=by,
    )  # fmt: skip
    parts = list[Path]()
    for first in range(0, len(problems), many):
        unit = problems[first : first + many]
        blocks = [unit[start : start + block] for start in range(0, len(unit), block)]
        files = [
            path.with_name(f"{path.stem}.part-{first + i * block:06d}.parquet") for i in range(len(blocks))
        ]
        kept = [here.run_on_main(partial(_kept, file)) for file in files]
        parts += files
        left = sum(len(some) for some, there in zip(blocks, kept, strict=True) if not there)
        if left < len(unit):
            progress.settle((len(unit) - left) * n, found=True)
        if left:  # the whole unit: what is drawn beside a response has a part in how its logits are rounded
            with progress.within(0, left / len(unit)):
                batch = draw(unit)
            progress.settle(left * n)
        for i, (some, file) in enumerate(zip(blocks, files, strict=True)):
            if not kept[i]:
                at = range(i * block * n, (i * block + len(some)) * n)
                rows = _judged(benchmark, batch.rows(at), n)
                if here.is_main:
                    _write_table(file, pd.DataFrame(rows, columns=list(COLUMNS)))
            if on_progress:
                on_progress(first + i * block + len(some), len(problems))
    if not here.is_main:
        return None
    table = pd.concat([read_table(p) for p in parts], ignore_index=True)
    _write_table(path, table)
    for part in parts:
        part.unlink()
    return table


def read_table(path: Path) -> Any:
    """A file of samples as a pandas frame, with the checksums of its pages looked at.

    Raises:
        OSError: it is damaged.
    """
    import pandas as pd

    return pd.read_parquet(path, page_checksum_verification=True)


def _write_table(path: Path, table: Any) -> None:
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False, write_page_checksum=True)


def _kept(path: Path) -> bool:
    """Whether ``path`` is there and intact; one that is damaged is moved aside, to be drawn again."""
    import pyarrow as pa

    if not path.exists():
        return False
    try:
        read_table(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        aside = path.replace(path.with_name(f"{path.name}.corrupt"))
        reason = str(error).strip().splitlines()[0][:120]
        warnings.warn(
            f"samples file {path.name} is damaged ({reason}); it was moved to {aside.name} and its samples "
            "are drawn again",
            stacklevel=2,
        )
        return False
    return True


def _draw(
    policy: Policy, problems: Sequence[Problem], *, n: int, temperature: float, top_p: float, max_tokens: int,
    seed: int, batch_rows: int, by: Sampler | None,
) -> Batch:  # fmt: skip
    return roll_out(
        policy, [Prompt(p, i) for i, p in enumerate(problems)], n,
        keys=[("evaluation", seed, p.id, i) for p in problems for i in range(n)],
        temperature=temperature, top_p=top_p, max_tokens=max_tokens, at_once=batch_rows, by=by,
    )  # fmt: skip


def _judged(benchmark: Benchmark, batch: Batch, n: int) -> list[tuple[Any, ...]]:
    logp_sum_B = (batch.rollout_logp_BT * batch.mask_BT).sum(1)
    rows = []
    verdicts = judge_shared(partial(verify_all, benchmark), batch)
    for i, (problem, text, verdict) in enumerate(zip(batch.problems, batch.texts, verdicts, strict=True)):
        rows.append((
            problem.id, i % n, text, int(batch.length_B[i]), bool(batch.truncated_B[i]), verdict.status,
            verdict.canonical, float(logp_sum_B[i]),
        ))  # fmt: skip
    return rows


def summary(table: Any, problems: Sequence[Problem], *, maj_k: Sequence[int] = (8,)) -> dict[str, Any]:
    """Counts per problem and rates, in the order of ``problems``: all that a report needs of the samples."""
    grouped = {key: frame for key, frame in table.groupby("problem_id", sort=False)}
    frames = [grouped[p.id].sort_values("sample") for p in problems]
    n = min(len(f) for f in frames)
    voted = [
        votes(
            f["status"].tolist(), [a if isinstance(a, str) else None for a in f["canonical"]],
            single=bool(problem.answer),
        )
        for f, problem in zip(frames, problems, strict=True)
    ]  # fmt: skip
    return {
        "n": n,
        "problem_ids": [p.id for p in problems],
        "samples_sha256": samples_sha256(table),
        "correct": [sum(right) for _, right in voted],
        "distinct": [distinct_answers(answers) for answers, _ in voted],
        "distinct_correct": [distinct_answers(answers, right) for answers, right in voted],
        "maj": {
            str(k): sum(maj_at_k(answers, right, k).value for answers, right in voted) / len(frames)
            for k in maj_k
            if k <= n
        },
        "mean_length": float(table["tokens"].mean()),
        "truncated": float(table["truncated"].mean()),
        "unparsed": float((table["status"] == "unparsed").mean()),
        "timeout": float((table["status"] == "timeout").mean()),
    }


def samples_sha256(table: Any) -> str:
    """A digest of the responses themselves, see :func:`harness.evaluation.scores.digest`."""
    return digest(zip(table["problem_id"], table["sample"], table["text"], strict=True))


@torch.no_grad()
def probe_entropy(
    policy: Policy, problems: Sequence[Problem], *, samples: int, max_tokens: int, seed: int, step: int,
    micro_rows: int = 64, by: Sampler | None = None,
) -> dict[str, float]:  # fmt: skip
    """The one entropy for all methods: fresh rollouts at T=1, full softmax, nats, end token included.

    Returns:
        ``probe_entropy`` (mean over tokens) and ``probe_entropy_seq`` (mean over responses of the sum).
    """
    unscaled = policy.at_temperature(1.0)
    batch = roll_out(
        unscaled, [Prompt(p, i) for i, p in enumerate(problems)], samples,
        keys=[("probe", seed, step, p.id, i) for p in problems for i in range(samples)],
        temperature=1.0, max_tokens=max_tokens, by=by,
    )  # fmt: skip
    with progress.phase("", len(batch), "responses scored"):
        progress.part(len(batch))
        entropy_BT = unscaled.scores(batch, [LOGP, ENTROPY], micro_rows)["entropy"]
    if not entropy_BT.isfinite().all():  # another engine may have sampled without meeting it
        row, token = entropy_BT.isfinite().logical_not().nonzero()[0].tolist()
        raise not_finite(policy.source, ("probe", seed, step, problems[row // samples].id), token + 1)
    return {
        "probe_entropy": float(entropy_BT.sum() / batch.mask_BT.sum()),
        "probe_entropy_seq": float(entropy_BT.sum(1).mean()),
    }
