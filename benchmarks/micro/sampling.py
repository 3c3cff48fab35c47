"""A compact batched sampler for calibrating the base model (the harness has its own)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.micro.family import MAX_RESPONSE_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM


def sample_responses(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    count: int,
    seed: int,
) -> tuple[list[list[str]], list[list[int]], list[list[float]]]:
    """Sample ``count`` responses per prompt at temperature 1 from the full softmax.

    Returns, per prompt and sample: the text, its number of tokens (end token included), and the sum
    of the token entropies in nats.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    texts: list[list[str]] = [[] for _ in prompts]
    lengths: list[list[int]] = [[] for _ in prompts]
    entropies: list[list[float]] = [[] for _ in prompts]
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_length[len(prompt)].append(index)
    # Prompts of equal length share a batch, so that no padding mask is needed.
    for indices in by_length.values():
        ids = torch.tensor([tokenizer.encode(prompts[i]) for i in indices]).repeat_interleave(count, 0)
        tokens_BT, entropy_B = _sample_batch(model, ids, tokenizer.eos_token_id, generator)
        for row, (tokens_T, entropy) in enumerate(zip(tokens_BT.tolist(), entropy_B.tolist(), strict=True)):
            index = indices[row // count]
            end = tokens_T.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in tokens_T else None
            texts[index].append(str(tokenizer.decode(tokens_T[:end])))
            lengths[index].append(len(tokens_T) if end is None else end + 1)
            entropies[index].append(entropy)
    return texts, lengths, entropies


def _sample_batch(model, ids_BP, eos_id: int, generator):  # type: ignore[no-untyped-def]
    """Sample [B, 24] tokens and the [B] summed entropies (nats) after prompts [B, P]."""
    import torch

    cache, tokens = None, []
    alive_B = torch.ones(len(ids_BP), dtype=torch.bool)
    entropy_B = torch.zeros(len(ids_BP))
    with torch.inference_mode():
        for _ in range(MAX_RESPONSE_TOKENS):
            output = model(ids_BP, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            logp_BV = output.logits[:, -1].float().log_softmax(-1)
            entropy_B += alive_B * -(logp_BV.exp() * logp_BV).sum(-1)
            next_B = torch.multinomial(logp_BV.exp(), 1, generator=generator)[:, 0]
            next_B = torch.where(alive_B, next_B, eos_id)
            tokens.append(next_B)
            alive_B &= next_B != eos_id
            ids_BP = next_B[:, None]
            if not alive_B.any():
                break
    return torch.stack(tokens, 1), entropy_B
