"""A step without a model: logits stand for the policy, the stages run in the trainer's order, the update is
the trainer's own. Gives what a method trained on, its loss and the gradient with respect to the logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from harness.model.logits import token_stats
from harness.problems.problem import Problem, Verdict
from harness.stages.base import Minibatch, Stages, StepContext
from harness.stages.batch import Batch
from harness.stages.token_stats import ENTROPY, LOGP, TokenStat
from harness.train.update import UpdateLog, backward, token_draws
from tests.methods.support.reading import Recorded

VOCAB, WIDTH_T, WIDTH_P = 7, 6, 5
PIECES = ("a", "b,", "c", ".", "d e", "\n", "f")  # what the tokens say
GROUPS, SIZE, TEMPERED_GROUPS = 5, 4, 1
#: What a response ends with, and the grader's canonical form of it.
ENDINGS = ((r"\boxed{2}", "2"), (r"\boxed{2.0}", "2"), (r"\boxed{3}", "3"), (r"\boxed{x}", "x"), ("", None))
KINDS = ("random", "all-equal", "one-token", "truncated", "far")


def inner_logits(logits_BXV: Tensor) -> Tensor:
    """What stands for the logits behind a layer: others than the policy's, and a function of them."""
    return 0.7 * logits_BXV.roll(1, -1)


@dataclass
class LogitsPolicy:
    """A policy that looks its logits up by the ``row`` tag; an identity head, so hidden states are logits."""

    logits_BTV: Tensor
    prompt_logits_BPV: Tensor
    temperature: float
    packs = False
    _known: dict[TokenStat, Tensor] = field(default_factory=dict, init=False)
    _known_of: Batch | None = field(default=None, init=False)

    def stats(self, batch: Batch, wanted: Iterable[TokenStat]) -> dict[str, Tensor]:
        rows, out = batch.tags["row"].long(), {}
        for region, ids, logits in (
            ("response", batch.response_BT, self.logits_BTV[rows, : batch.response_BT.shape[1]]),
            ("prompt", batch.prompt_BP, self.prompt_logits_BPV[rows].roll(1, 1)),
        ):
            here = [s for s in dict.fromkeys(wanted) if s.on == region]
            for inside in (False, True):
                chosen = [s for s in here if (s.layer is not None) == inside]
                if not chosen:
                    continue
                read = inner_logits(logits) if inside else logits
                flat = read.reshape(-1, logits.shape[-1])
                head = torch.eye(logits.shape[-1], dtype=logits.dtype)
                values = token_stats(flat, head, ids.reshape(-1), chosen, temperature=self.temperature)
                out |= {k: v.reshape(ids.shape) for k, v in values.items()}
        return out

    @torch.no_grad()
    def fixed(self, batch: Batch, wanted: Iterable[TokenStat]) -> dict[str, Tensor]:
        """:meth:`stats` of a policy that is not trained, computed once: every method asks for the same.

        What is known of a statistic does not hang on what was asked before it.
        """
        if self._known_of is not batch:
            self._known_of, plain = batch, self.stats(batch, (LOGP, ENTROPY))
            self._known = {stat: plain[stat.name] for stat in (LOGP, ENTROPY)}
        wanted = tuple(dict.fromkeys(wanted))
        for stat in wanted:
            if stat not in self._known:
                self._known[stat] = self.stats(batch, (stat,))[stat.name]
        return {stat.name: self._known[stat].clone() for stat in wanted}

    @property
    def model(self) -> LogitsPolicy:
        return self

    def parameters(self) -> list[Tensor]:
        """The logits are what is trained."""
        return [self.logits_BTV]

    @property
    def network(self) -> LogitsPolicy:
        return self

    def sums_gradients(self, on: bool) -> None:
        """Logits are shared by nobody."""

    @torch.no_grad()
    def scores(
        self, batch: Batch, wanted: Iterable[TokenStat], micro_rows: int, micro_tokens: int | None = None
    ) -> dict[str, Tensor]:
        return self.stats(batch, wanted)


@dataclass
class Step:
    """Rollouts, the three policies and the context of one step."""

    batch: Batch
    current: LogitsPolicy
    old: LogitsPolicy
    reference: LogitsPolicy
    ctx: StepContext

    def recorded(self, **state: float) -> Recorded:
        """The step for a plain reading."""
        b, logits = self.batch, self.current.logits_BTV.detach().clone().requires_grad_()
        return Recorded(
            logits=logits, parameters=[logits], rollout_logp=b.rollout_logp_BT,
            old_logits=self.old.logits_BTV, ref_logits=self.reference.logits_BTV,
            prompt_logits=self.old.prompt_logits_BPV, tokens=b.response_BT, prompt_tokens=b.prompt_BP,
            prompt_mask=b.prompt_mask_BP, lengths=b.length_B.tolist(), groups=b.group_B.tolist(),
            correct=[bool(c) for c in b.correct_B], tempered=[bool(t) for t in b.tags["tempered"]],
            temperature=self.ctx.temperature, fraction=self.ctx.fraction, started=self.ctx.started,
            max_response_tokens=self.ctx.max_response_tokens, state=state, draws=token_draws(b, ()),
            pieces=dict(enumerate(PIECES)), answers=[v.canonical for v in b.verdicts or ()], texts=b.texts,
            truncated=b.truncated_B.tolist(), tags=b.tags,
            token_tags={**b.token_tags, **({} if b.segment_BT is None else {"segment": b.segment_BT})},
            inner=lambda layer: (inner_logits(logits), inner_logits(self.old.logits_BTV)),
            step=self.ctx.step,
        )  # fmt: skip


@lru_cache(maxsize=128)
def make_step(seed: int = 0, kind: str = "random", *, minibatches: int = 2) -> Step:
    """A synthetic step; the last group is tagged ``tempered``. Made once: nobody changes it in place.

    Args:
        kind: ``random``, or an edge case: ``all-equal`` verdicts, ``one-token`` responses, every row
            ``truncated``, ratios ``far`` outside any clip.
    """
    g = torch.Generator().manual_seed(seed)
    rows = GROUPS * SIZE

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    old = 1.5 * normal(rows, WIDTH_T, VOCAB)
    current = old + (8.0 if kind == "far" else 0.4) * normal(rows, WIDTH_T, VOCAB)
    reference, prompt = old + 0.3 * normal(rows, WIDTH_T, VOCAB), normal(rows, WIDTH_P, VOCAB)
    tokens = torch.randint(VOCAB, (rows, WIDTH_T), generator=g)
    length_B = torch.randint(1, WIDTH_T + 1, (rows,), generator=g)
    if kind == "one-token":
        length_B = torch.ones_like(length_B)
    if kind == "truncated":
        length_B = torch.full_like(length_B, WIDTH_T)
    group_B = torch.arange(GROUPS).repeat_interleave(SIZE)
    prompt_length_B = torch.randint(2, WIDTH_P + 1, (GROUPS,), generator=g)[group_B]
    correct = (torch.rand(rows, generator=g) < 0.5).tolist()
    correct[:SIZE] = [True] * SIZE  # one group all right, one all wrong, one surely mixed
    correct[SIZE : 2 * SIZE] = [False] * SIZE
    correct[2 * SIZE : 2 * SIZE + 2] = [True, False]
    correct[-SIZE:-1] = [True, False, True]
    if kind == "all-equal":
        correct = [True] * rows
    pick = torch.Generator().manual_seed(1000 + seed)  # of its own: no other number depends on it
    ends = [ENDINGS[i] for i in torch.randint(len(ENDINGS), (rows,), generator=pick).tolist()]
    said = ["".join(PIECES[i] for i in row[:n]) for row, n in zip(tokens.tolist(), length_B, strict=True)]
    batch = Batch(
        prompt_BP=torch.randint(VOCAB, (GROUPS, WIDTH_P), generator=g)[group_B],
        prompt_mask_BP=torch.arange(WIDTH_P) >= WIDTH_P - prompt_length_B[:, None],
        response_BT=tokens,
        mask_BT=torch.arange(WIDTH_T) < length_B[:, None],
        group_B=group_B,
        sample_B=torch.arange(SIZE).repeat(GROUPS),
        temperature_B=torch.full((rows,), 0.8),
        truncated_B=length_B == WIDTH_T,
        rollout_logp_BT=torch.zeros(rows, WIDTH_T),
        problems=tuple(Problem(str(i), "?") for i in group_B.tolist()),
        texts=tuple(f"{text} {end}" for text, (end, _) in zip(said, ends, strict=True)),
        verdicts=tuple(
            Verdict("right" if c else "wrong", answer) for c, (_, answer) in zip(correct, ends, strict=True)
        ),
        tags={"row": torch.arange(rows), "tempered": (group_B >= GROUPS - TEMPERED_GROUPS).float()},
    )
    batch = branched(batch, pick)
    ctx = StepContext(
        step=3, fraction=0.3, total_steps=10, seed=seed, prompts_per_step=GROUPS, group_size=SIZE,
        max_response_tokens=WIDTH_T, temperature=0.8, minibatches=minibatches, started=0.2,
        decode=lambda rows: ["".join(PIECES[i] for i in row) for row in rows],
        pieces=lambda ids: [PIECES[i] for i in ids],
    )  # fmt: skip
    policies = [LogitsPolicy(z, prompt, ctx.temperature) for z in (current, old, reference)]
    batch = batch.with_(rollout_logp_BT=policies[1].stats(batch, (LOGP,))["logp"])
    return Step(batch, *policies, ctx)


def branched(batch: Batch, pick: torch.Generator) -> Batch:
    """``batch`` with what rollout programs that branch leave: the last two rows of a group stand below its
    first, and some tokens begin segments of some value."""
    below = (batch.sample_B >= SIZE - 2).float()
    begins, value = torch.rand(2, *batch.mask_BT.shape, generator=pick, dtype=torch.float64)
    tags = dict(parent=below - 1, level=below, cut=2 * below, prefix_entropy=1.3 * below)
    return batch.with_tags(**tags).with_token_tags(
        segment_begins=(begins < 0.4).double(), segment_value=(4 * value).round() / 4
    )


def plan_of(stages: Stages, step: Step, metrics: dict[str, float] | None = None) -> list[Minibatch]:
    """The stages from the rewards to the update plan, as the trainer runs them; fills ``metrics``."""
    metrics = {} if metrics is None else metrics
    declared = stages.of_step()
    wanted = dict.fromkeys([LOGP, ENTROPY, *(s for stage in declared for s in stage.old_stats)])
    batch = step.batch
    with torch.no_grad():
        batch = batch.with_(old=step.old.fixed(batch, wanted))
        if any(stage.needs_reference for stage in declared):
            further = [stat for stage in declared for stat in stage.reference_stats]
            ref = step.reference.fixed(step.batch, (LOGP, *further))
            batch = batch.with_(ref_logp_BT=ref["logp"])
            batch = batch.with_token_tags(**{stat.name: ref[stat.name] for stat in further})
    out = stages.reward(batch, step.ctx)
    metrics |= out.metrics
    reward = out.value
    if reward.ndim == 2:
        batch = batch.with_(reward_BT=reward)
        reward = (reward * batch.mask_BT).sum(1)
    batch = batch.with_(reward_B=reward)
    kept = stages.group_filter(batch, step.ctx)
    metrics |= kept.metrics
    batch = batch.rows(kept.value)
    if not len(batch):
        return []
    credit = stages.advantage(batch, step.ctx)
    advantage = credit.value
    spread = advantage[:, None] if advantage.ndim == 1 else advantage
    batch = batch.with_(advantage_BT=torch.where(batch.mask_BT, spread.expand(batch.mask_BT.shape), 0.0))
    selected = stages.selection(batch, step.ctx)
    plan = stages.plan(selected.value, step.ctx)
    metrics |= {**credit.metrics, **selected.metrics, **plan.metrics}
    return [m for m in plan.value if len(m.batch)]


def update(stages: Stages, step: Step, minibatch: Minibatch, micro_rows: int = 1000) -> tuple[float, Tensor]:
    """Loss of one optimiser step and its gradient with respect to the current logits ``[B,T,V]``."""
    leaf = step.current.logits_BTV.detach().clone().requires_grad_()
    policy: Any = replace(step.current, logits_BTV=leaf)
    width = step.ctx.max_response_tokens
    loss, _ = backward(policy, stages, minibatch, UpdateLog(), micro_rows=micro_rows, width=width)
    return loss, torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def rows_of(minibatches: Sequence[Minibatch]) -> list[int]:
    return [int(row) for m in minibatches for row in m.batch.tags["row"]]
