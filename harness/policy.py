"""The policy: a Hugging Face causal language model, its tokenizer, and its token statistics on a batch."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.batch import Batch
from harness.errors import UserError
from harness.tokenstats import TokenStat, token_stats


@dataclass(eq=False)
class Policy:
    """Model and tokenizer; ``temperature`` divides the logits of every statistic (the loss temperature)."""

    model: Any
    tokenizer: Any
    temperature: float = 1.0

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Token ids that end a response: the tokenizer's and the generation config's."""
        ids = {self.tokenizer.eos_token_id}
        configured = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        ids |= set(configured if isinstance(configured, list | tuple) else [configured])
        return tuple(sorted(int(i) for i in ids if i is not None))

    @property
    def max_positions(self) -> int | None:
        return getattr(self.model.config, "max_position_embeddings", None)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=True)["input_ids"]
        return ids

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts of token rows, special tokens left out."""
        texts: list[str] = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        return texts

    @property
    def head(self) -> Any:
        """The LM head (``weight`` [V,D] and perhaps ``bias``)."""
        return self.model.get_output_embeddings()

    def hidden_BLD(self, ids_BL: Tensor, mask_BL: Tensor, width_P: int = 0) -> Tensor:
        """Last hidden states; positions count real tokens, so padding on either side changes nothing.

        Args:
            width_P: columns of prompt in front of the response. Rows that share a prompt then share its
                forward (and backward) pass, which gives the same numbers for less work.
        """
        base = self.model.base_model
        attention, positions = mask_BL.long(), _positions(mask_BL)
        if 0 < width_P < ids_BL.shape[1] and self._can_share_prompts:
            marked = torch.where(mask_BL, ids_BL, -1)[:, :width_P]
            prompt_UP, index_B = torch.unique(marked, dim=0, return_inverse=True)
            if len(prompt_UP) <= 0.75 * len(ids_BL):
                from transformers import DynamicCache

                cache, mask_UP = DynamicCache(config=self.model.config), prompt_UP >= 0
                prompt_UPD = base(
                    input_ids=prompt_UP.clamp(min=0), attention_mask=mask_UP.long(),
                    position_ids=_positions(mask_UP), past_key_values=cache, use_cache=True,
                )[0]  # fmt: skip
                cache.batch_select_indices(index_B)
                response_BTD = base(
                    input_ids=ids_BL[:, width_P:], attention_mask=attention,
                    position_ids=positions[:, width_P:], past_key_values=cache, use_cache=True,
                )[0]  # fmt: skip
                return torch.cat([prompt_UPD[index_B], response_BTD], 1)
        return base(input_ids=ids_BL, attention_mask=attention, position_ids=positions, use_cache=False)[0]

    @property
    def _can_share_prompts(self) -> bool:
        """Only models whose every layer attends to the whole prefix: their cache is the prefix itself."""
        config = self.model.config
        layers = getattr(config, "layer_types", None) or ()
        return all(kind == "full_attention" for kind in layers) and not (
            not layers and getattr(config, "sliding_window", None)
        )

    def stats(self, batch: Batch, wanted: Iterable[TokenStat]) -> dict[str, Tensor]:
        """``{name: [B,T]}`` (``[B,P]`` for prompt statistics) under the current weights; 0 on padding.

        Differentiable when gradients are enabled. Returned on the CPU, where all stages work.
        """
        wanted = tuple(dict.fromkeys(wanted))
        width_P = batch.prompt_BP.shape[1]
        ids = torch.cat([batch.prompt_BP, batch.response_BT], 1).to(self.device)
        mask = torch.cat([batch.prompt_mask_BP, batch.mask_BT], 1).to(self.device)
        # what follows the last token is never asked for
        hidden = self.hidden_BLD(ids[:, :-1], mask[:, :-1], width_P)
        out: dict[str, Tensor] = {}
        regions = {
            "response": (width_P, batch.mask_BT),
            "prompt": (0, _predicted_prompt(batch.prompt_mask_BP)),
        }
        for region, (start, mask_BX) in regions.items():
            chosen = [s for s in wanted if s.on == region]
            if not chosen:
                continue
            row, column = mask_BX.to(self.device).nonzero(as_tuple=True)
            at = column + start
            values = token_stats(
                hidden[row, at - 1], self.head.weight, ids[row, at], chosen,
                bias_V=getattr(self.head, "bias", None), temperature=self.temperature,
            )  # fmt: skip
            for name, value_N in values.items():
                zeros = torch.zeros(mask_BX.shape, dtype=value_N.dtype, device=self.device)
                out[name] = zeros.index_put((row, column), value_N).cpu()
        return out

    def frozen_copy(self) -> Policy:
        """A copy whose weights no longer change (the reference policy)."""
        model = copy.deepcopy(self.model).requires_grad_(False)
        return Policy(model, self.tokenizer, self.temperature)

    def weights(self) -> dict[str, Tensor]:
        """The weights by name, on the CPU."""
        return {k: v.detach().cpu() for k, v in self.model.state_dict().items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict(weights)

    def save(self, folder: Path) -> None:
        """A plain Hugging Face folder."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _positions(mask_BL: Tensor) -> Tensor:
    return (mask_BL.long().cumsum(1) - 1).clamp(min=0)


def _predicted_prompt(prompt_mask_BP: Tensor) -> Tensor:
    """Prompt tokens that have a log-prob: all but each row's first."""
    first = prompt_mask_BP.long().cumsum(1) == 1
    return prompt_mask_BP & ~first


def load_policy(
    path: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    temperature: float = 1.0,
) -> Policy:
    """Load model and tokenizer from a hub id or a local folder.

    Raises:
        UserError: nothing there, no tokenizer, no end token, or logits this harness does not model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), revision=revision)
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(path), revision=revision, dtype=getattr(torch, dtype)
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"cannot load model '{path}': {reason} (give a hub id, a local folder, or micro)"
        ) from error
    if getattr(model.config, "final_logit_softcapping", None):
        raise UserError(
            f"model '{path}' soft-caps its logits, which the log-prob operator does not model; use another"
        )
    for key in ("logits_scaling", "logit_scale", "lm_head_multiplier"):
        if getattr(model.config, key, None) not in (None, 1, 1.0):
            raise UserError(
                f"model '{path}' scales its logits ({key}), which log-probs here do not model; use another"
            )
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of '{path}' has no end token; set eos_token in its tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.to(device)
    model.eval()  # no dropout: old and current log-probs must be of the same function
    return Policy(model, tokenizer, temperature)
