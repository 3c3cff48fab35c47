"""Does this harness compute what a model's own code computes? Found out on one short text when it is loaded.

The model's own logits of a text are compared with the log-probs and entropies that :class:`Policy` makes of
parts of it, packed or padded, and with those that decoding over a cache makes. What a model does with its
head's products (a scale, a soft cap) is measured on numbers put in their place. All of it sends at most twice
as many tokens through the model as the text has, holds no second copy of the weights and draws no random
number. Attention windows are shrunk meanwhile, so that the text is longer than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.model.decoding import decoding
from harness.model.exchange import give_back, take_over
from harness.model.fused import fuse, unfuse
from harness.model.head import HeadCurve
from harness.model.own import Ways, head_of, hidden_states, text_config
from harness.stages.batch import Batch
from harness.stages.token_stats import ENTROPY, LOGP, TokenStat
from harness.util.errors import UserError

#: Tokens of the text, and of windows while it is read.
TEXT_TOKENS, WINDOW = 100, 5
#: Parts of the text as rollouts: tokens of the prompt, and of the response behind it.
ROWS = ((6, 9), (3, 6), (6, 5))
#: Tokens that are predicted over a cache.
STEPS = 5
#: Nats that two orders of adding up fp32 numbers may lie apart, where logits are up to 30.
ROUNDING = 1e-3
_WINDOWS = ("sliding_window", "attention_chunk_size", "index_topk")
_PROBE = (1e-3, -1e-3, 0.5, -2.0, 5.0, -10.0, 20.0, 1e6)


class Statistics(Protocol):
    """What is asked of a policy here."""

    model: Any
    tokenizer: Any
    network: Any

    @property
    def packs(self) -> bool: ...

    @property
    def vocabulary(self) -> int: ...

    @property
    def max_positions(self) -> int | None: ...

    @property
    def pad_id(self) -> int: ...

    def stats(self, batch: Batch, wanted: Sequence[TokenStat]) -> dict[str, Tensor]: ...


@torch.no_grad()
def check_agreement(policy: Statistics, name: str) -> None:
    """Set what ``policy`` needs to know about its model, and compare the two on a short text.

    A way of batching that gives other numbers is not taken; see :class:`harness.model.own.Ways`.

    Raises:
        UserError: the model has no head, or gives other numbers than this harness makes of it.
    """
    model = policy.model
    if getattr(getattr(head_of(model), "weight", None), "ndim", 0) != 2:
        raise UserError(f"model '{name}' ({type(model).__name__}) has no language-model head; use another")
    try:
        with torch.random.fork_rng(devices=[]), _short_windows(model):
            _compare(policy, name)
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a family's code raises where it is called in a way it does not know
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UserError(
            f"model '{name}' ({type(model).__name__}) cannot be used as a causal language model: {reason}"
        ) from error


def _compare(policy: Statistics, name: str) -> None:
    model = policy.model
    ids = _text(policy)
    own = model(input_ids=torch.tensor([ids], device=model.device)).logits[0].float()
    if not own.isfinite().all():
        raise UserError(
            f"model '{name}' gives logits that are not finite for a short text; its weights are broken"
        )
    logp_all = own.log_softmax(1)
    entropy = -(logp_all.exp() * logp_all).sum(1)
    # in the form that statistics have: the token at i is predicted at i - 1
    logp = logp_all[:-1].gather(1, torch.tensor(ids[1:], device=own.device)[:, None])[:, 0]
    truth = torch.stack([logp, entropy[:-1]]).cpu()
    scale = max(1.0, float(own.abs().max()) / 30)
    policy.network.curve = head_curve(model, ids[0], name)
    held = next(model.parameters()).dtype

    def apart(ours: Tensor, theirs: Tensor) -> float:
        """How many times the rounding of the type they lie apart; the mean where single tokens jump."""
        difference = (ours.double().cpu() - theirs.double()).abs()
        if held in (torch.float32, torch.float64):
            return float(difference.max()) / (ROUNDING * scale)
        return float(difference.mean()) / (ROUNDING + 30 * torch.finfo(held).eps * scale)

    network = policy.network
    network.ways = Ways(pack=take_over(model))
    packed, fused = _packed(policy, lambda: _rollouts_apart(policy, ids, truth, ROWS, apart) <= 1)
    network.ways = Ways(pack=packed, fuse=fused, share=packed)
    if not packed:
        _pad_or_not(policy, ids, truth, apart, name)
    elif not _decoding_apart(policy, ids, truth, apart) <= 1:
        network.ways = replace(network.ways, share=False)
    else:
        return
    if not _decoding_apart(policy, ids, truth, apart) <= 1:
        # then every token is predicted as those of a rollout are, which is shown for packed rows only so far
        if packed:
            network.ways = Ways()
            _pad_or_not(policy, ids, truth, apart, name)
        network.ways = replace(network.ways, pack=packed, fuse=fused, cache=False)


def _packed(policy: Statistics, agrees: Callable[[], bool]) -> tuple[bool, bool]:
    """Whether the model's rollouts can be packed, and whether its layers can be ours meanwhile."""
    model = policy.model
    if not policy.packs:
        return False, False
    if fuse(model):
        if agrees():
            return True, True
        unfuse(model)
    if agrees():
        return True, False
    give_back(model)
    return False, False


def _pad_or_not(policy: Statistics, ids: list[int], truth: Tensor, apart: Any, name: str) -> None:
    times = _rollouts_apart(policy, ids, truth, ROWS[:2], apart)
    if not times <= 1:
        policy.network.ways = replace(policy.network.ways, pad=False)
        times = _rollouts_apart(policy, ids, truth, ROWS[:2], apart)
    if not times <= 1:  # also where it is no number
        raise UserError(
            f"model '{name}' ({type(policy.model).__name__}) gives parts of a text other log-probs than the "
            f"whole text, {times:.0f} times as far apart as rounding explains; use one that reads from left "
            "to right"
        )


def _text(policy: Statistics) -> list[int]:
    """Ordinary tokens spread over the vocabulary, behind the begin token where there is one.

    The pad token is one of them: a model may say it, and some count positions by it.
    """
    config = policy.model.config
    named = {
        value
        for part in (config, text_config(config))
        for key, value in part.to_dict().items()
        if key.endswith(("token_id", "token_index")) and isinstance(value, int)
    }
    special = named | set(policy.tokenizer.all_special_ids)
    rows = min(policy.vocabulary, len(policy.tokenizer))
    ordinary = [i for i in range(rows) if i not in special] if rows < 5000 else range(1000, rows - 1000)
    if not ordinary:
        raise ValueError("its tokenizer has no ordinary token that the embedding has, too")
    length = min(TEXT_TOKENS, policy.max_positions or TEXT_TOKENS)
    begin = policy.tokenizer.bos_token_id
    ids = [ordinary[(7919 * (i + 1) ** 2 + 104729 * i) % len(ordinary)] for i in range(length)]
    ids[4] = policy.pad_id
    return ids if begin is None or begin >= policy.vocabulary else [int(begin), *ids[:-1]]


def head_curve(model: Any, token: int, name: str) -> HeadCurve:
    """What the model's code makes of its head's products, from what it makes of :data:`_PROBE`.

    Raises:
        UserError: neither a scale nor a soft cap.
    """
    inputs = {"input_ids": torch.tensor([[token]], device=model.device)}
    x = torch.tensor(_PROBE, device=model.device)
    y = hidden_states(model, inputs, lambda hidden: x.expand(1, 1, -1).clone())[1].logits[0, 0].float()
    known = _numbers(text_config(model.config).to_dict())
    scale = _nearest(float(y[0] - y[1]) / 2e-3, known)
    curve = HeadCurve(scale)
    if not torch.allclose(curve(x), y, rtol=1e-4):
        curve = HeadCurve(scale, _nearest(float(y[-1]), known))
    if not torch.allclose(curve(x), y, rtol=1e-4, atol=1e-6):
        raise UserError(
            f"model '{name}' ({type(model).__name__}) does to its logits what is neither a scale nor a "
            "soft cap, which log-probs here do not model; use another"
        )
    return curve


def _numbers(config: dict[str, Any]) -> list[float]:
    return [float(v) for v in config.values() if isinstance(v, int | float) and not isinstance(v, bool) and v]


def _nearest(measured: float, known: Sequence[float]) -> float:
    """The number of the configuration that was measured, or its inverse; else the measured one."""
    for value in (1.0, *known, *(1 / v for v in known)):
        if abs(measured - value) <= 1e-4 * abs(value):
            return value
    return measured


def _rollouts_apart(
    policy: Statistics, ids: list[int], truth: Tensor, rows: Sequence[tuple[int, int]], apart: Any
) -> float:
    """The policy's statistics of parts of the text, as rollouts; infinite where it cannot make them."""
    try:
        got = policy.stats(_batch(policy, ids, rows), (LOGP, ENTROPY))
    except torch.OutOfMemoryError:
        raise
    except Exception:
        if policy.packs or policy.network.ways.pad:  # another way is tried next, and what that raises is told
            return float("inf")
        raise
    ours, theirs = [], []
    for row, (prompt, response) in enumerate(rows):
        ours.append(torch.stack([got["logp"][row, :response], got["entropy"][row, :response]]))
        theirs.append(truth[:, prompt - 1 : prompt + response - 1])
    return float(apart(torch.cat(ours, 1), torch.cat(theirs, 1)))


def _batch(policy: Statistics, ids: list[int], rows: Sequence[tuple[int, int]]) -> Batch:
    from harness.problems.problem import Problem

    width_P, width_T = max(p for p, _ in rows), max(r for _, r in rows)
    prompt_BP = torch.full((len(rows), width_P), policy.pad_id)
    response_BT = torch.full((len(rows), width_T), policy.pad_id)
    prompt_mask_BP = torch.zeros(prompt_BP.shape, dtype=torch.bool)
    mask_BT = torch.zeros(response_BT.shape, dtype=torch.bool)
    for row, (prompt, response) in enumerate(rows):
        prompt_BP[row, width_P - prompt :] = torch.tensor(ids[:prompt])
        prompt_mask_BP[row, width_P - prompt :] = True
        response_BT[row, :response] = torch.tensor(ids[prompt : prompt + response])
        mask_BT[row, :response] = True
    count = len(rows)
    return Batch(
        prompt_BP=prompt_BP, prompt_mask_BP=prompt_mask_BP, response_BT=response_BT, mask_BT=mask_BT,
        group_B=torch.arange(count), sample_B=torch.zeros(count, dtype=torch.long),
        temperature_B=torch.ones(count), truncated_B=torch.zeros(count, dtype=torch.bool),
        rollout_logp_BT=torch.zeros(response_BT.shape), problems=(Problem("text", "", "", {}),) * count,
        texts=("",) * count,
    )  # fmt: skip


def _decoding_apart(policy: Statistics, ids: list[int], truth: Tensor, apart: Any) -> float:
    """Two prompts of unequal length, padded on the left, and some tokens behind each."""
    try:
        if policy.network.ways.pad:
            return float(apart(*_decoded(policy, ids, truth, (6, 3))))
        each = [_decoded(policy, ids, truth, (prompt,)) for prompt in (6, 3)]
    except torch.OutOfMemoryError:
        raise
    except Exception:  # some know no cache, or one of their own only
        return float("inf")
    return float(apart(*(torch.cat([pair[i] for pair in each], 1) for i in range(2))))


def _decoded(
    policy: Statistics, ids: list[int], truth: Tensor, prompts: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    device, count, network = policy.model.device, len(prompts), policy.network
    rows = decoding(
        policy.model, network.curve, network.ways, [ids[:prompt] for prompt in prompts], policy.pad_id
    )
    rows.repeat(2)
    prompts = tuple(prompt for prompt in prompts for _ in range(2))
    ours, theirs = [], []
    for step in range(STEPS):
        if step == 2:  # as when the other responses have ended
            rows.keep(torch.arange(0, 2 * count, 2, device=device))
            prompts = prompts[::2]
        next_N = torch.tensor([ids[prompt + step] for prompt in prompts], device=device)
        logp_NV = rows.logits().log_softmax(1)
        logp_N = logp_NV.gather(1, next_N[:, None])[:, 0]
        ours.append(torch.stack([logp_N, -(logp_NV.exp() * logp_NV).sum(1)]).cpu())
        theirs.append(truth[:, [prompt + step - 1 for prompt in prompts]])
        if step < STEPS - 1:
            rows.append(next_N)
    return torch.cat(ours, 1), torch.cat(theirs, 1)


@contextmanager
def _short_windows(model: Any) -> Iterator[None]:
    """Every window in configuration and layers at :data:`WINDOW` tokens, where it is a number."""
    holders: dict[int, Any] = {}
    for part in (model.config, text_config(model.config), *model.modules()):
        holders[id(part)] = part
        own = getattr(part, "config", None)
        if own is not None:
            holders[id(own)] = own
    changed: list[tuple[Any, str, int]] = []
    try:
        for holder in holders.values():
            for name in _WINDOWS:
                value = _number(holder, name)
                if value is not None and value > WINDOW:
                    setattr(holder, name, WINDOW)
                    changed.append((holder, name, value))
        yield
    finally:
        for holder, name, value in changed:
            setattr(holder, name, value)


def _number(holder: Any, name: str) -> int | None:
    try:
        value = getattr(holder, name, None)
    except Exception:  # configurations whose layers differ refuse to name one value for all
        return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
