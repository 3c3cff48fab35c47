"""One real trainer step as it happened: rollouts, weights at every moment that matters, gradient of each
optimiser step; and the raw logits that those weights give, by plain forward passes without padding."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from harness.stages.batch import Batch
from harness.train import update as update_module
from harness.train.trainer import Trainer
from tests.methods.support.reading import Recorded


@dataclass
class Update:
    """One optimiser step: ``rows`` are numbers of rollouts, ``before`` and ``after`` the weights."""

    rows: list[int]
    before: dict[str, Tensor]
    state: dict[str, float]
    fraction: float
    started: float
    loss: float = float("nan")
    gradient: dict[str, Tensor] = field(default_factory=dict)
    after: dict[str, Tensor] = field(default_factory=dict)
    draws: Tensor | None = None


@dataclass
class Step:
    """``batch`` is what the rollout program returned, ``reference`` as before the first update.

    ``model`` is a copy that takes the weights of the moment which is looked at.
    """

    trainer: Trainer
    model: Any
    optimizer: Mapping[str, Any]
    updates_before: int
    batch: Batch
    updates: list[Update]
    metrics: dict[str, float]
    reference: Any = None

    @cached_property
    def old(self) -> tuple[Tensor, Tensor]:
        """Logits of the policy before the first update: the same in every update."""
        logits, prompts = raw_logits(self._at(self.updates[0]), self.batch)
        return logits.detach(), prompts.detach()

    @cached_property
    def ref(self) -> tuple[Tensor, Tensor]:
        """Logits of the reference policy, which is the one before where the run has none."""
        if self.reference is None:
            return self.old
        with torch.no_grad():
            return raw_logits(self.reference, self.batch)

    def old_inner(self, layer: float) -> Tensor:
        """Of :attr:`old` what the head reads behind a layer; a model of its own, the other one is in use."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.updates[0].before)
        with torch.no_grad():
            return raw_logits(model, self.batch, layer)[0]

    @cached_property
    def pieces(self) -> dict[int, str]:
        """What each token of the vocabulary says."""
        tokens = range(len(self.trainer.policy.tokenizer))
        return {i: self.trainer.policy.decode([[i]])[0] for i in tokens}

    def _at(self, update: Update) -> Any:
        self.model.load_state_dict(update.before)
        return self.model

    def recorded(self, update: Update) -> tuple[Recorded, Any]:
        """The step for a plain reading, and the model before the update, which its ``logits`` depend on.

        The model is that until the next call.
        """
        b, current = self.batch, self._at(update).requires_grad_()
        logits, prompts = raw_logits(current, b)
        if update is self.updates[0]:  # the policy before the first update is this one
            self.__dict__["old"] = logits.detach(), prompts.detach()
        (old, prompt), (ref, _) = self.old, self.ref
        tempered = b.tags.get("tempered", torch.zeros(len(b)))
        recorded = Recorded(
            logits=logits, old_logits=old, ref_logits=ref, prompt_logits=prompt, tokens=b.response_BT,
            prompt_tokens=b.prompt_BP, prompt_mask=b.prompt_mask_BP, lengths=b.length_B.tolist(),
            groups=b.group_B.tolist(), correct=[bool(c) for c in b.correct_B],
            tempered=[bool(t) for t in tempered], temperature=self.trainer.run.rollout.temperature,
            fraction=update.fraction, started=update.started,
            max_response_tokens=self.trainer.run.rollout.max_response_tokens,
            state=update.state, draws=update.draws, parameters=list(current.parameters()),
            rollout_logp=b.rollout_logp_BT,
            pieces=self.pieces, answers=[v.canonical for v in b.verdicts or ()], texts=b.texts,
            truncated=b.truncated_B.tolist(), tags=b.tags,
            token_tags={**b.token_tags, **({} if b.segment_BT is None else {"segment": b.segment_BT})},
            inner=lambda layer: (raw_logits(current, b, layer)[0], self.old_inner(layer)),
            step=self.trainer.counters.step,
        )  # fmt: skip
        return recorded, current


def copied(model: Any) -> Any:
    """A copy with weights of its own; the configuration, which nothing changes, is shared."""
    shared = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    return copy.deepcopy(model, shared)


def raw_logits(model: Any, batch: Batch, layer: float | None = None) -> tuple[Tensor, Tensor]:
    """``[B,T,V]`` and ``[B,P,V]``, without padding or packing; 0 where there is no token.

    Rows of the same lengths share a forward pass. Of a ``layer``, its number from 1 or below 1 a share of
    them, those that the head makes of transformers' own hidden states behind it.
    """
    width_T, width_P = batch.response_BT.shape[1], batch.prompt_BP.shape[1]
    alike: dict[tuple[int, int], list[int]] = {}
    lengths = zip(batch.prompt_mask_BP.sum(1).tolist(), batch.mask_BT.sum(1).tolist(), strict=True)
    for row, pair in enumerate(lengths):
        alike.setdefault(pair, []).append(row)
    responses, prompts = {}, {}
    for (prompt, response), rows in alike.items():
        ids = [
            torch.cat([batch.prompt_BP[i][batch.prompt_mask_BP[i]], batch.response_BT[i][batch.mask_BT[i]]])
            for i in rows
        ]
        for i, logits in zip(rows, _logits(model, torch.stack(ids), layer), strict=True):
            answer = logits[prompt - 1 : -1]
            responses[i] = torch.nn.functional.pad(answer, (0, 0, 0, width_T - response))
            prompts[i] = torch.nn.functional.pad(logits[:prompt], (0, 0, width_P - prompt, 0))
    each = range(len(batch))
    return torch.stack([responses[i] for i in each]), torch.stack([prompts[i] for i in each])


def _logits(model: Any, ids: Tensor, layer: float | None) -> Tensor:
    if layer is None:
        return model(ids).logits  # type: ignore[no-any-return]
    hidden = model(ids, output_hidden_states=True).hidden_states
    number = int(layer) if layer >= 1 else max(1, round(layer * (len(hidden) - 1)))
    return model.lm_head(hidden[number])  # type: ignore[no-any-return]


def record(trainer: Trainer, state: Mapping[str, Mapping[str, float]]) -> Step:
    """Take one step of ``trainer`` and keep what it did; ``state`` is put into the components before."""
    for name, values in state.items():
        trainer.stages.components[name].load_state_dict(values)
    step = Step(
        trainer, copied(trainer.policy.model), copy.deepcopy(trainer.optimizer.state_dict()),
        trainer.counters.updates, batch=None, updates=[], metrics={},  # type: ignore[arg-type]
        reference=copied(trainer.reference.model) if trainer.reference else None,
    )  # fmt: skip
    stage = trainer.rollouts
    rollouts, update, draws = stage.run_program, trainer.update, update_module.token_draws
    clip = torch.nn.utils.clip_grad_norm_

    def weights() -> dict[str, Tensor]:
        return {k: v.clone() for k, v in trainer.policy.model.state_dict().items()}

    def keep_rollouts(ctx: Any) -> Batch:
        step.batch = rollouts(ctx)
        return step.batch

    def keep_gradient(parameters: Any, *args: Any, **kwargs: Any) -> Any:
        named = trainer.policy.model.named_parameters()
        step.updates[-1].gradient = {n: p.grad.clone() for n, p in named if p.grad is not None}
        return clip(parameters, *args, **kwargs)

    def keep_draws(batch: Batch, key: tuple[object, ...]) -> Tensor:
        given = draws(batch, key)
        everywhere = torch.full(step.batch.mask_BT.shape, float("nan"), dtype=given.dtype)
        everywhere[batch.tags["row"].long(), : given.shape[1]] = given
        step.updates[-1].draws = everywhere
        return given

    def keep_update(minibatch: Any, log: Any, ctx: Any) -> Any:
        now = {k: c.state_dict() for k, c in trainer.stages.components.items()}
        flat = {k: v for values in now.values() for k, v in values.items()}
        rows = minibatch.batch.tags["row"].tolist()
        step.updates.append(Update(rows, weights(), flat, ctx.fraction, ctx.started))
        out = update(minibatch, log, ctx)
        step.updates[-1].loss = out[0]
        step.updates[-1].after = weights()
        return out

    stage.run_program, trainer.update = keep_rollouts, keep_update  # type: ignore[method-assign]
    torch.nn.utils.clip_grad_norm_, update_module.token_draws = keep_gradient, keep_draws
    try:
        step.metrics = trainer.step()
    finally:
        torch.nn.utils.clip_grad_norm_, update_module.token_draws = clip, draws
        del stage.run_program, trainer.update
    return step
