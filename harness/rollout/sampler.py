"""The built-in sampler: batched decoding with a KV cache, for CPU or one GPU.

A group's prompt is read once for all of its responses; finished rows leave the batch, and where a limit of
rows is given, further prompts take their place. The uniform numbers behind the draws come from a
counter-based generator keyed by (seed, step, prompt, sample), so a sample does not depend on the batch it is
drawn in (up to the last bits of the logits).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.model.policy import Policy
from harness.rollout.finite import not_finite
from harness.rollout.mixing import Mixing
from harness.rollout.rows import Rows, can_join
from harness.rollout.stopping import StopTexts
from harness.stages.token_stats import LOGP, Entropy, TokenStat
from harness.util import progress
from harness.util.errors import UserError

#: Sampling temperatures ``[N]`` of N positions from their raw logits ``[N,V]``.
TokenTemperature = Callable[[Tensor], Tensor]

#: What this engine offers to rollout programs.
CAPABILITIES = frozenset({"rollout_logp", "prefix", "temperature", "token_temperature", "mixture"})

#: Tokens that a draw looks at together before it looks at each.
_BLOCK = 256


@dataclass(frozen=True)
class Samples:
    """``N = len(prompts) * n`` responses, prompt-major; ``T`` is the longest response.

    Attributes:
        tokens_NT: response tokens with the end token, padded with the pad id.
        mask_NT: true on response tokens.
        logp_NT: full-softmax log-prob of each token at the policy's (loss) temperature.
        truncated_N: true where the token limit came before an end token or a stop text.
        stats: what was asked for besides, ``[N,T]`` each.
    """

    tokens_NT: Tensor
    mask_NT: Tensor
    logp_NT: Tensor
    truncated_N: Tensor
    stats: Mapping[str, Tensor] = field(default_factory=dict)


def uniforms(keys: Sequence[tuple[object, ...]], length: int) -> np.ndarray:
    """``[len(keys), length]`` uniform numbers in [0,1); row i depends only on ``keys[i]``."""
    rows = np.empty((len(keys), length))
    for i, key in enumerate(keys):
        digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
        rows[i] = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little"))).random(length)
    return rows


def draw(probs_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """Inverse-CDF draw, one token per row: a block of tokens, then one of the block, in double precision.

    A token of probability 0 has no interval of its own and is never drawn.
    """
    rows, size = probs_NV.shape
    if size <= _BLOCK:
        return _drawn(probs_NV, uniform_N)[0]
    padded = torch.nn.functional.pad(probs_NV, (0, -size % _BLOCK)) if size % _BLOCK else probs_NV
    blocks = padded.view(rows, -1, _BLOCK)
    block, inside = _drawn(blocks.sum(2), uniform_N)
    return block * _BLOCK + _drawn(blocks[torch.arange(rows, device=block.device), block], inside)[0]


def _drawn(weight_NX: Tensor, uniform_N: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the weights each number falls into, and where in it, in [0,1]."""
    cdf = weight_NX.double().cumsum(1)
    total = cdf[:, -1:].contiguous()
    threshold = uniform_N.to(cdf)[:, None] * total
    # the last weight above 0 where a product is rounded up, and any where there is no number
    last = torch.searchsorted(cdf, total).clamp(max=cdf.shape[1] - 1)
    found = torch.searchsorted(cdf, threshold, right=True).minimum(last)
    weight = weight_NX.gather(1, found).double()
    inside = (threshold - (cdf.gather(1, found) - weight)) / weight
    return found.squeeze(1), inside.squeeze(1).clamp(0, 1)


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    n: int,
    *,
    keys: Sequence[tuple[object, ...]],
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_tokens: int,
    at_once: int | None = None,
    token_temperature: TokenTemperature | None = None,
    stats: Sequence[TokenStat] = (),
    mixing: Mixing | None = None,
) -> Samples:
    """``n`` responses to each prompt, up to an end token or a stop text of the policy.

    Args:
        prompts: token ids.
        keys: one per response, prompt-major; response i's draws depend only on ``keys[i]``.
        temperature: sampling temperature; the returned log-probs stay at the policy's.
        top_p: nucleus; 1 is the full softmax.
        max_tokens: limit, the end token included.
        at_once: about so many rows are under way at a time, those of a prompt together; further prompts begin
            as rows end, where the model can do that. None begins all at once.
        token_temperature: sampling temperatures ``[N]`` from raw logits ``[N,V]``, not ``temperature``.
        stats: statistics of the response's tokens to take on the way, at the policy's temperature.
        mixing: a second model that tokens are drawn with; log-probs and statistics stay the policy's.

    Raises:
        UserError: a prompt plus ``max_tokens`` does not fit the model's context, or logits that are NaN or
            infinite.
    """
    longest = max(len(p) for p in prompts)
    models = [policy] if mixing is None else [policy, mixing.model]
    context = min((model.max_positions for model in models if model.max_positions), default=None)
    if context and longest + max_tokens > context:
        raise UserError(
            f"a prompt of {longest} tokens plus {max_tokens} response tokens exceeds the model's context of "
            f"{context}; lower the token limit"
        )
    parts = _apart(policy, prompts, n, at_once, mixing)
    if len(parts) > 1:
        return _in_parts(
            parts, policy, prompts, n, keys=keys, temperature=temperature, top_p=top_p, max_tokens=max_tokens,
            at_once=at_once, token_temperature=token_temperature, stats=stats, mixing=mixing,
        )  # fmt: skip
    device, eos = policy.device, torch.tensor(policy.eos_ids, device=policy.device)
    count = len(prompts) * n
    stops = StopTexts(policy.tokenizer, policy.stop_texts)
    uniform = torch.from_numpy(uniforms(keys, max_tokens)).to(device)
    tokens = torch.full((count, max_tokens), policy.pad_id, device=device)
    valid = torch.zeros(count, max_tokens, dtype=torch.bool, device=device)
    wide = torch.promote_types(next(policy.model.parameters()).dtype, torch.float32)
    taken = {stat.name: torch.zeros(count, max_tokens, device=device, dtype=wide) for stat in (LOGP, *stats)}
    rows = Rows(policy, prompts, n, at_once, mixing)
    steps = 0
    while rows.begin():
        logits = rows.logits()
        # looked at below, where the device is waited for anyway
        broken = rows.live_M & ~logits.sum(1).isfinite()
        each = temperature if token_temperature is None else token_temperature(logits)[:, None]
        z = logits if policy.temperature == 1.0 else logits / policy.temperature
        lse = z.logsumexp(1)
        plain = token_temperature is None and temperature == policy.temperature
        probs = (z - lse[:, None]).exp_() if plain else (logits / each).softmax(1)
        drawn_from = probs if rows.beside is None else rows.beside.mixed(probs, each)
        token = draw(nucleus(drawn_from, top_p), uniform[rows.row_M, rows.said_M])
        values = {LOGP.name: z.gather(1, token[:, None]).squeeze(1) - lse}
        for stat in stats:
            if stat.name not in values:
                known = plain and type(stat) is Entropy
                values[stat.name] = (
                    lse - torch.linalg.vecdot(probs, z)
                    if known
                    else stat.at_temperature(z, token, policy.temperature)
                )
        live = rows.live_M
        at = rows.row_M[live], rows.said_M[live]
        tokens[at] = token[live]
        for name, value in values.items():
            taken[name][at] = value[live].to(taken[name].dtype)
        valid[at] = True
        said = rows.said_M + 1
        live = live & ~torch.isin(token, eos) & (said < max_tokens)
        rows.live_M = stops.unmet(tokens, rows.row_M, live, said)
        left, n_broken = rows.left(broken)
        if n_broken:
            first = broken.nonzero()[0, 0]
            raise not_finite(policy.source, keys[int(rows.row_M[first])], int(said[first]))
        steps += 1
        # rows that go on may go on to the limit, so as much of the work is done as of their tokens
        ended = rows.began * n - sum(left)
        progress.tell(ended, count, share=max(ended / count, steps / max_tokens if at_once is None else 0))
        rows.go_on(token, left)
    stopped = stops.cut(tokens, valid)
    tokens = tokens.masked_fill(~valid, policy.pad_id)
    taken = {name: value.masked_fill(~valid, 0.0) for name, value in taken.items()}
    width = max(int(valid.sum(1).max()), 1)
    last = tokens.gather(1, (valid.sum(1, keepdim=True) - 1).clamp(min=0)).squeeze(1)
    return Samples(
        tokens[:, :width].cpu(),
        valid[:, :width].cpu(),
        taken[LOGP.name][:, :width].cpu(),
        (~torch.isin(last, eos) & ~stopped).cpu(),
        {stat.name: taken[stat.name][:, :width].cpu() for stat in stats},
    )


def _apart(
    policy: Policy, prompts: Sequence[Sequence[int]], n: int, at_once: int | None, mixing: Mixing | None
) -> list[list[int]]:
    """Numbers of the prompts that are drawn in a call of their own."""
    pads = policy.network.ways.pad and (mixing is None or mixing.model.network.ways.pad)
    lengths = sorted({len(p) for p in prompts})
    alike = [list(range(len(prompts)))]
    if not pads and len(lengths) > 1:  # one length at a time
        alike = [[i for i, p in enumerate(prompts) if len(p) == length] for length in lengths]
    if at_once is None or can_join(policy, mixing):
        return alike
    few = max(1, at_once // n)
    return [part[i : i + few] for part in alike for i in range(0, len(part), few)]


def _in_parts(
    parts: Sequence[Sequence[int]],
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    n: int,
    *,
    keys: Sequence[tuple[object, ...]],
    **how: Any,
) -> Samples:
    """:func:`sample` of some prompts at a time, joined in the order of the prompts."""
    drawn, order = [], list[int]()
    for part in parts:
        rows = [i * n + j for i in part for j in range(n)]
        with progress.within(len(order) / len(keys), (len(order) + len(rows)) / len(keys)):
            drawn.append(sample(policy, [prompts[i] for i in part], n, keys=[keys[r] for r in rows], **how))
        order += rows
    width, back = max(part.tokens_NT.shape[1] for part in drawn), torch.tensor(order).argsort()

    def joined(values: Sequence[Tensor], fill: float) -> Tensor:
        wide = [torch.nn.functional.pad(v, (0, width - v.shape[1]), value=fill) for v in values]
        return torch.cat(wide)[back]

    return Samples(
        joined([part.tokens_NT for part in drawn], policy.pad_id),
        joined([part.mask_NT for part in drawn], False),
        joined([part.logp_NT for part in drawn], 0.0),
        torch.cat([part.truncated_N for part in drawn])[back],
        {name: joined([part.stats[name] for part in drawn], 0.0) for name in drawn[0].stats},
    )


def nucleus(probs_NV: Tensor, top_p: float) -> Tensor:
    """The most likely tokens that together have ``top_p``, and 0 for the others; not normalised."""
    if top_p >= 1.0:
        return probs_NV
    ordered, index = probs_NV.sort(1, descending=True)
    outside = ordered.cumsum(1) - ordered >= top_p  # the token that crosses top_p stays
    return torch.zeros_like(probs_NV).scatter(1, index, ordered.masked_fill(outside, 0.0))
