"""What a step logs of its rollouts and updates (``metrics.jsonl``); entropies in nats, loss temperature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from harness.stages.base import Minibatch
from harness.stages.batch import Batch
from harness.stages.demonstrations import all_demonstrated
from harness.train.update import UpdateLog

#: ``torch.quantile`` refuses more values than this.
_QUANTILE_LIMIT = 1 << 24


def batch_metrics(batch: Batch) -> dict[str, float]:
    """Metrics of all verified rollouts, before any group is filtered out.

    Rows tagged ``judged = 0`` (inner nodes of a tree, which no verifier sees) are left out. Of a step of
    demonstrations there are their number and lengths.
    """
    if all_demonstrated(batch):
        length = batch.length_B.float()
        return {
            "demonstrations": float(len(batch)), "rollouts": 0.0, "length": float(length.mean()),
            "length_max": float(length.max()),
        }  # fmt: skip
    if "judged" in batch.tags:
        batch = batch.rows(batch.tags["judged"] > 0)
    correct, length = batch.correct_B, batch.length_B.float()
    groups = torch.unique(batch.group_B).tolist()
    verdicts = batch.verdicts or ()
    answers: dict[int, set[str]] = {g: set() for g in groups}
    for group, verdict in zip(batch.group_B.tolist(), verdicts, strict=True):
        if verdict.canonical is not None:
            answers[group].add(verdict.canonical)
    unparsed = sum(v.canonical is None for v in verdicts)
    rewarded = [batch.correct_B[batch.group_B == g] for g in groups]
    return {
        "accuracy": float(correct.mean()),
        "rollouts": float(len(batch)),
        "length": float(length.mean()),
        "length_max": float(length.max()),
        "truncated": float(batch.truncated_B.float().mean()),
        "unparsed": unparsed / max(len(batch), 1),
        "distinct_answers": sum(map(len, answers.values())) / max(len(groups), 1),
        # all right or all wrong: nothing to prefer
        "equal_groups": sum(bool((own == own[0]).all()) for own in rewarded) / max(len(groups), 1),
    }


def update_metrics(batch: Batch) -> dict[str, float]:
    """Metrics of the rollouts that reach the update, under the policy before it.

    ``entropy`` uses the loss's mask, shift and temperature. ``cov_logp_advantage`` is the covariance over
    tokens that governs the entropy's change under a policy gradient (arXiv 2505.22617, sec. 3), with plain
    GRPO's advantage. ``entropy_correct`` and ``entropy_wrong`` are the token means over the rollouts with
    that verdict, and missing where no rollout has it. Of a step of demonstrations there are the entropies and
    ``demonstration_nll``, the token mean of -log-prob.
    """
    mask = batch.mask_BT
    entropy = batch.old["entropy"][mask].float()
    logp = batch.old["logp"][mask].float()
    advantage = batch.tags["grpo_advantage"].float()[:, None].expand_as(batch.mask_BT)[mask]
    p10, p50, p90 = quantiles(entropy, (0.1, 0.5, 0.9))
    entropies = {
        "entropy": float(entropy.mean()),
        "entropy_p10": p10,
        "entropy_p50": p50,
        "entropy_p90": p90,
    }
    if all_demonstrated(batch):
        metrics = entropies | {"demonstration_nll": -float(logp.mean())}
        return metrics | _ref_kl(batch)
    metrics = entropies | {
        "cov_logp_advantage": float(((logp - logp.mean()) * (advantage - advantage.mean())).mean()),
        "rollout_mismatch": float((batch.old["logp"] - batch.rollout_logp_BT)[mask].abs().max()),
    }
    right_BT = mask & (batch.correct_B > 0)[:, None]
    for name, chosen in (("entropy_correct", right_BT), ("entropy_wrong", mask & ~right_BT)):
        if chosen.any():
            metrics[name] = float(batch.old["entropy"][chosen].float().mean())
    return metrics | _ref_kl(batch)


def _ref_kl(batch: Batch) -> dict[str, float]:
    if batch.ref_logp_BT is None:
        return {}
    return {"ref_kl": float((batch.old["logp"] - batch.ref_logp_BT)[batch.mask_BT].mean())}


def optimiser_metrics(log: UpdateLog, norms: Sequence[float]) -> dict[str, float]:
    """Metrics of the optimiser steps.

    Args:
        norms: of the gradient at each of them, before clipping.
    """
    low, median, high = quantiles(torch.cat(log.ratios), (0.01, 0.5, 0.99))
    return {
        "grad_norm": sum(norms) / len(norms), "updates": float(log.updates), "kl": log.mean("kl"),
        "update_entropy": log.mean("entropy"), "clip_low": log.mean("clip_low"),
        "clip_high": log.mean("clip_high"), "ratio_p01": low, "ratio_p50": median, "ratio_p99": high,
        **{name: sum(values) / len(values) for name, values in log.metrics.items()},
    }  # fmt: skip


def copied(plan: Sequence[Minibatch], passed: int) -> float:
    """Share of the tokens that the updates sent through the network which were copies or padding.

    What is needed: every response in every minibatch that trains it, and every prompt once for each pass over
    its responses.

    Args:
        passed: tokens that went through the network, of this process.
    """
    responses, prompts = 0, dict[bytes, tuple[int, Counter[int]]]()
    for batch in (minibatch.batch for minibatch in plan):
        responses += int((batch.length_B - 1).clamp(min=0).sum())
        rows = zip(batch.prompt_BP, batch.prompt_mask_BP, batch.tags["row"].tolist(), strict=True)
        for ids, mask, row in rows:
            prompt = ids[mask].numpy()
            prompts.setdefault(prompt.tobytes(), (len(prompt), Counter()))[1][row] += 1
    needed = responses + sum(length * max(seen.values()) for length, seen in prompts.values())
    return max(0.0, 1.0 - needed / passed) if passed else 0.0


def activity(batch: Batch, plan: Sequence[Minibatch], log: UpdateLog, epochs: int) -> float:
    """Share of tokens whose gradient the method changed (:func:`harness.train.update.backward` counts them).

    Tokens that plain GRPO would have trained on, with an advantage, and that the method dropped count as
    changed, once per pass over the rollouts.

    Args:
        batch: the rollouts that reach the update, of which ``plan`` trains some.
        epochs: passes over the rollouts.
    """
    missing = (batch.tags["grpo_advantage"] != 0) & (batch.tag("extra") == 0)
    for trained in (minibatch.batch for minibatch in plan):
        # replayed rows carry the numbers of another step
        missing &= ~torch.isin(batch.tags["row"], trained.tags["row"][trained.tag("extra") == 0])
    dropped = epochs * float(batch.length_B[missing].sum())
    return (log.sums.get("changed", 0.0) + dropped) / max(log.tokens + dropped, 1.0)


def quantiles(values_N: Tensor, at: Sequence[float]) -> list[float]:
    """Quantiles of ``values_N``; of evenly spaced ones where there are too many to sort."""
    spaced = values_N[:: len(values_N) // _QUANTILE_LIMIT + 1].float()
    return torch.quantile(spaced, torch.tensor(at)).tolist()  # type: ignore[no-any-return]
