"""One optimiser step: current pass, weights and bounds, loss, backward. Counts are of the whole step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.distributed.world import micro_batches, world
from harness.model.packing import row_lengths
from harness.model.policy import Policy
from harness.rollout.sampler import uniforms
from harness.stages.aggregate import token_coefficients
from harness.stages.base import Loss, Minibatch, Regulariser, Stage, Stages, Stats
from harness.stages.batch import Batch
from harness.stages.loss import clipped_surrogate, clipped_tokens, log_ratio
from harness.stages.token_stats import ENTROPY, LOGP, TokenStat
from harness.train.row_norms import row_grad_norms
from harness.util import progress

#: Share of an update's time that a forward pass over its rows takes before the first gradient.
PREPARED = 0.25

#: A gradient that rounding of two fp32 log-probs makes is no change: at its start a policy is its reference.
_ROUNDING = 1e-6


@dataclass
class UpdateLog:
    """Sums over the updates of a step; divided once, when the step is logged."""

    sums: dict[str, float] = field(default_factory=dict)
    tokens: float = 0.0
    updates: int = 0
    ratios: list[Tensor] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **sums: float | Tensor) -> None:
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def mean(self, name: str) -> float:
        return self.sums.get(name, 0.0) / max(self.tokens, 1.0)

    def merged(self, other: UpdateLog) -> None:
        """Add what another process has seen of the same update."""
        self.add(**other.sums)
        self.tokens += other.tokens
        self.ratios += other.ratios
        for name, values in other.metrics.items():
            self.metrics.setdefault(name, []).extend(values)


@dataclass(frozen=True)
class Term:
    """A loss and the factor it enters the objective with."""

    loss: Loss
    factor: float


def terms_of(stages: Stages, minibatch: Minibatch) -> list[Term]:
    """The minibatch's loss and the regularisers, each with its factor at this moment."""
    regularisers: Sequence[Regulariser] = stages.regularisers
    main = Term(minibatch.loss or stages.loss, minibatch.coefficient)
    return [main, *(Term(r, r.coefficient()) for r in regularisers)]


def with_parts(stage: Stage) -> list[Stage]:
    """A stage and everything it is composed of."""
    return [stage, *(deep for part in stage.parts() for deep in with_parts(part))]


def current_stats_of(terms: Sequence[Term], extra: Sequence[Stage] = ()) -> tuple[TokenStat, ...]:
    declared = [s for t in terms for p in with_parts(t.loss) for s in p.current_stats]
    declared += [s for e in extra for p in with_parts(e) for s in p.current_stats]
    return tuple(dict.fromkeys([LOGP, ENTROPY, *declared]))


def _slice(prepared: Stats, rows: Sequence[int], size: int) -> dict[str, Tensor]:
    return {k: v[rows] if v.ndim and v.shape[0] == size else v for k, v in prepared.items()}


def token_draws(batch: Batch, key: tuple[object, ...]) -> Tensor:
    """``[B,T]`` uniform numbers in [0,1), of ``key`` and of each row's number among the rollouts."""
    row_B = batch.tags.get("row", torch.arange(len(batch))).long()
    keys = [("draw", *key, row) for row in row_B.tolist()]
    return torch.from_numpy(uniforms(keys, batch.mask_BT.shape[1]))


def backward(
    policy: Policy,
    stages: Stages,
    minibatch: Minibatch,
    log: UpdateLog,
    *,
    micro_rows: int,
    width: int,
    micro_tokens: int | None = None,
    scope: str = "minibatch",
    draw_key: tuple[object, ...] = (),
) -> tuple[float, float]:
    """Accumulate the gradient of one optimiser step into the parameters.

    Args:
        micro_rows: rows per forward and backward pass.
        micro_tokens: tokens per pass, or None for any number.
        width: divisor of ``seq-mean-token-sum-norm``.
        scope: ``minibatch``, or ``micro`` to take every statistic per micro-batch (ablations only).
        draw_key: what the random choices of this optimiser step depend on (seed, step, number).

    Returns:
        The loss, and the learning-rate multiplier of the step-size stage.
    """
    batch, terms = minibatch.batch, terms_of(stages, minibatch)
    step_size = [stages.step_size] if stages.step_size else []
    wanted = current_stats_of(terms, step_size)
    log_probs = tuple(stat.name for stat in wanted if stat.is_log_prob)
    everything = [p for t in terms for p in with_parts(t.loss)] + [
        p for s in step_size for p in with_parts(s)
    ]
    if any(s.needs_row_grad_norms for s in everything):
        batch = batch.with_tags(grad_norm=row_grad_norms(policy, batch, micro_rows, micro_tokens))
    if any(s.needs_draws for s in everything):
        batch = batch.with_(draw_BT=token_draws(batch, draw_key))
    size, here = len(batch), world()
    lengths, shared = row_lengths(batch)
    shares = micro_batches(lengths, micro_rows, here.size, tokens=micro_tokens, shared=shared)
    split = len(shares[0]) * here.size > 1
    prepared: list[Stats] | None = None
    multiplier = 1.0
    if scope == "minibatch" and split and (step_size or any(s.minibatch_scope for s in everything)):
        with progress.within(0.0, PREPARED):
            scores = policy.scores(batch, wanted, micro_rows, micro_tokens)
        prepared, multiplier = _prepare(terms, stages, batch, scores, log)
    coefficients = [_coefficients(t.loss, batch, width) for t in terms]
    if batch.correction_BT is not None:  # of the policy's loss; regularisers are no expectation under it
        coefficients[0] = coefficients[0] * batch.correction_BT
    own = UpdateLog()
    total = 0.0
    begun = 0.0 if prepared is None else PREPARED
    for number, part in enumerate(shares[here.rank], 1):
        with progress.within(begun, 1.0):
            progress.tell(number - 1, len(shares[here.rank]))
        if here.size > 1:
            policy.network.sums_gradients(number == len(shares[here.rank]))
        if not part:  # the others make a pass now, and a sharded one needs everyone
            values = policy.stats(batch.rows([0]), wanted)
            torch.autograd.backward([values["logp"]], [torch.zeros_like(values["logp"])])
            continue
        rows = batch.rows(part) if split else batch
        live = policy.stats(rows, wanted)
        leaves = {k: v.detach().requires_grad_() for k, v in live.items()}
        constants = {k: v.detach() for k, v in leaves.items()}
        if prepared is None:
            local, multiplier = _prepare(terms, stages, rows, constants, own)
        else:
            local = [_slice(p, part, size) for p in prepared]
        loss = torch.zeros(())
        divided = [
            c[part] * p["counted"] if "counted" in p else c[part]
            for c, p in zip(coefficients, local, strict=True)
        ]
        for term, coefficient, constant in zip(terms, divided, local, strict=True):
            if term.factor:
                per_token = term.loss(rows, leaves, constant)
                # where: a padded position may hold anything, and 0 * inf would spread
                loss = (
                    loss + term.factor * torch.where(coefficient != 0, per_token, 0.0).mul(coefficient).sum()
                )
        used = [k for k in live if live[k].requires_grad]
        grads = (
            torch.autograd.grad(loss, [leaves[k] for k in used], allow_unused=True)
            if loss.requires_grad
            else ()
        )
        flowing = [(live[k], g) for k, g in zip(used, grads, strict=False) if g is not None]
        if not flowing and here.size > 1:
            flowing = [(live["logp"], torch.zeros_like(live["logp"]))]
        if flowing:
            torch.autograd.backward([v for v, _ in flowing], [g for _, g in flowing])
        _record(
            own, terms[0].loss, rows, constants, dict(zip(used, grads, strict=False)), log_probs, divided[0],
            local[0],
        )  # fmt: skip
        total += float(loss.detach())
    for seen, _ in (everyone := here.all_gather((own, total))):
        log.merged(seen)
    log.updates += 1
    return sum(loss for _, loss in everyone), multiplier


def _coefficients(loss: Loss, batch: Batch, width: int) -> Tensor:
    """What each token's loss is multiplied with, ``[B,T]``; counts are of the whole optimiser step."""
    tokens, trained = loss.tokens(batch), batch.train_mask_BT
    counted = batch.denominator_mask_BT if tokens is trained else tokens & batch.denominator_mask_BT.bool()
    return token_coefficients(loss.aggregation, tokens, count_mask_BT=counted, width=width).float()


def _prepare(
    terms: Sequence[Term], stages: Stages, batch: Batch, current: Stats, log: UpdateLog
) -> tuple[list[Stats], float]:
    """Everything that is constant in this update, and the learning-rate multiplier."""
    with torch.no_grad():
        outs = [t.loss.prepare(batch, current) for t in terms]
        scale = stages.step_size(batch, current) if stages.step_size else None
    for metrics in [*(out.metrics for out in outs), *([scale.metrics] if scale else [])]:
        for name, value in metrics.items():
            log.metrics.setdefault(name, []).append(float(value))
    return [out.value for out in outs], float(scale.value) if scale else 1.0


@torch.no_grad()
def _record(
    log: UpdateLog,
    main: Loss,
    rows: Batch,
    current: Stats,
    grads: dict[str, Tensor | None],
    log_probs: Sequence[str],
    coefficient_BT: Tensor,
    prepared: Stats,
) -> None:
    """Sums for the step's log: ratios, clipping, divergence, and how much the method changed.

    A token counts as changed when the gradient of its loss with respect to its log-prob (all statistics of
    ``log_probs`` together) differs by more than 1 % from plain GRPO's on the same rollout (group-normalised
    verdict, clip 0.2, before aggregation) and from rounding, when any other statistic of it receives a
    gradient, or when its row is tagged ``extra``.
    """
    mask = rows.mask_BT.float()
    logp, old = current["logp"], rows.old["logp"]
    ratio = main.ratio_BT(rows, current)
    advantage = prepared.get("advantage", rows.advantages())
    low = torch.as_tensor(prepared.get("low", 0.8))
    high = torch.as_tensor(prepared.get("high", 1.2))
    clipped, _ = clipped_tokens(ratio, advantage, low, high)
    log.tokens += float(mask.sum())
    log.ratios.append(ratio[rows.mask_BT])
    log.add(
        nll=-(logp * mask).sum(),
        entropy=(current["entropy"] * mask).sum(),
        kl=((log_ratio(logp, old).expm1() - (logp - old)) * mask).sum(),
        clip_low=(clipped & (advantage < 0)).float().mul(mask).sum(),
        clip_high=(clipped & (advantage > 0)).float().mul(mask).sum(),
    )
    if "grpo_advantage" not in rows.tags:
        return
    base_advantage = rows.tags["grpo_advantage"].float()[:, None].expand_as(logp)
    with torch.enable_grad():
        leaf = logp.clone().requires_grad_()
        base = clipped_surrogate(log_ratio(leaf, old).exp(), base_advantage, 0.8, 1.2)
        (base_grad,) = torch.autograd.grad(base.sum(), leaf)
    own = torch.zeros_like(logp)
    for name in log_probs:
        if (grad := grads.get(name)) is not None:
            own = own + grad
    own_grad = torch.where(coefficient_BT > 0, own / coefficient_BT.clamp(min=1e-30), 0.0)
    changed = (own_grad - base_grad).abs() > 0.01 * base_grad.abs() + _ROUNDING
    for name, grad in grads.items():
        if name not in log_probs and grad is not None:
            changed |= grad.abs() > 0
    if "extra" in rows.tags:
        changed |= rows.tags["extra"][:, None] > 0
    log.add(changed=(changed & rows.mask_BT).sum())
