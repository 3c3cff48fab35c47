"""The policy: a Hugging Face causal language model, its tokenizer, and its token statistics on a batch."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.distributed.world import micro_batches, world
from harness.model.packing import pack
from harness.model.sharding import Network, share, whole
from harness.stages.batch import Batch
from harness.stages.token_stats import TokenStat
from harness.util.errors import UserError


@dataclass(eq=False)
class Policy:
    """Model and tokenizer; ``temperature`` divides the logits of every statistic (the loss temperature)."""

    model: Any
    tokenizer: Any
    temperature: float = 1.0
    network: Network = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.network is None:
            self.network = Network(self.model)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def source(self) -> str:
        """Where the model came from: hub id or folder."""
        return str(getattr(self.model.config, "_name_or_path", "") or type(self.model).__name__)

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
        """Token ids of a prompt; a template that writes the begin token itself does not get a second one."""
        bos = getattr(self.tokenizer, "bos_token", None)
        ids: list[int] = self.tokenizer(text, add_special_tokens=not (bos and text.startswith(bos)))[
            "input_ids"
        ]
        return ids

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts of token rows, special tokens left out."""
        texts: list[str] = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        return texts

    @property
    def head(self) -> Any:
        """The LM head (``weight`` [V,D] and perhaps ``bias``)."""
        return self.network.head

    def _inputs(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The model's inputs, and where in its flattened output each token's prediction is.

        Returns:
            the inputs; ``[N]``: indices for the response tokens, in the order of ``mask_BT.nonzero()``;
            ``[M]``: the same for the prompt tokens but each row's first.
        """
        device = self.device
        if self.packs:
            packed = pack(batch)
            inputs = {
                "input_ids": packed.ids_RL.to(device), "attention_mask": packed.mask_R1LL.to(device),
                "position_ids": packed.position_RL.to(device),
            }  # fmt: skip
            return inputs, packed.response_at_N.to(device), packed.prompt_at_M.to(device)
        # what follows the last token is never asked for
        ids = torch.cat([batch.prompt_BP, batch.response_BT], 1)[:, :-1].to(device)
        mask = torch.cat([batch.prompt_mask_BP, batch.mask_BT], 1)[:, :-1].to(device)
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)  # padding on either side changes nothing
        inputs = {"input_ids": ids, "attention_mask": mask.long(), "position_ids": positions}
        width_P, width_L = batch.prompt_BP.shape[1], ids.shape[1]
        places = []
        for mask_BX, start in (
            (batch.mask_BT, width_P),
            (_predicted_prompt(batch.prompt_mask_BP), 0),
        ):
            row, column = mask_BX.nonzero(as_tuple=True)
            places.append((row * width_L + column + start - 1).to(device))
        return inputs, places[0], places[1]

    @property
    def packs(self) -> bool:
        """Whether rollouts are packed: needs an attention that takes any mask, in every layer."""
        config = self.model.config
        if not getattr(self.model, "_supports_sdpa", False) or getattr(config, "alibi", False):
            return False
        layers = getattr(config, "layer_types", None) or ()
        whole_prefix = all(kind == "full_attention" for kind in layers) and not (
            not layers and getattr(config, "sliding_window", None)
        )
        return whole_prefix and getattr(config, "_attn_implementation", None) == "sdpa"

    def stats(self, batch: Batch, wanted: Iterable[TokenStat]) -> dict[str, Tensor]:
        """``{name: [B,T]}`` (``[B,P]`` for prompt statistics) under the current weights; 0 on padding.

        Differentiable when gradients are enabled. Returned on the CPU, where all stages work.
        """
        wanted = tuple(dict.fromkeys(wanted))
        inputs, response_at_N, prompt_at_M = self._inputs(batch)
        regions = {
            "response": (response_at_N, batch.mask_BT, batch.response_BT),
            "prompt": (prompt_at_M, _predicted_prompt(batch.prompt_mask_BP), batch.prompt_BP),
        }
        asked = {region: [s for s in wanted if s.on == region] for region in regions}
        values = self.network(
            inputs,
            [
                (at, ids_BX[mask_BX].to(self.device), asked[region])
                for region, (at, mask_BX, ids_BX) in regions.items()
                if asked[region]
            ],
            self.temperature,
        )
        out: dict[str, Tensor] = {}
        for region, (_, mask_BX, _) in regions.items():
            for stat in asked[region]:
                value_N = values[stat.name].cpu()
                out[stat.name] = torch.zeros(mask_BX.shape, dtype=value_N.dtype).masked_scatter(
                    mask_BX, value_N
                )
        return out

    @torch.no_grad()
    def scores(self, batch: Batch, wanted: Iterable[TokenStat], micro_rows: int) -> dict[str, Tensor]:
        """:meth:`stats` without gradients, ``micro_rows`` rows at a time, divided over the processes."""
        wanted, here = tuple(wanted), world()
        parts = micro_batches((batch.length_B + batch.prompt_mask_BP.sum(1)).tolist(), micro_rows, here.size)
        # an empty part is a pass too: the processes gather weights together
        mine = [self.stats(batch.rows(part or [0]), wanted) for part in parts[here.rank]]
        self.network.freed()
        out: dict[str, Tensor] = {}
        for rank_parts, values in zip(parts, here.all_gather(mine), strict=True):
            for part, value in zip(rank_parts, values, strict=True):
                for name, value_BX in value.items() if part else ():
                    if name not in out:
                        out[name] = value_BX.new_zeros(len(batch), value_BX.shape[1])
                    out[name][part] = value_BX
        return out

    def frozen_copy(self) -> Policy:
        """A copy whose weights no longer change (the reference policy)."""
        copied = Policy(copy.deepcopy(self.model).requires_grad_(False), self.tokenizer, self.temperature)
        copied.network.compute, copied.network.chunk_mib = self.network.compute, self.network.chunk_mib
        return copied

    def at_temperature(self, temperature: float) -> Policy:
        """The same network with statistics at another temperature."""
        return Policy(self.model, self.tokenizer, temperature, self.network)

    def held(self) -> dict[str, Any]:
        """What is trained by name, as this process holds it: masters, not what passes make of them."""
        state = self.model.state_dict(keep_vars=True)
        return state if self.network.masters is None else self.network.masters.state(state)

    def weights(self) -> dict[str, Tensor]:
        """The weights that are trained by name, on the CPU."""
        return {k: whole(v.detach()).cpu() for k, v in self.held().items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        if self.network.masters is not None:
            self.network.masters.load(self.model, weights)
        else:
            own = self.model.state_dict()
            self.model.load_state_dict({k: share(v, own[k]) if k in own else v for k, v in weights.items()})

    def save(self, folder: Path) -> None:
        """A plain Hugging Face folder, every file as readable as the user's umask allows."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        # safetensors writes for the owner alone, which shuts out everybody else on a shared file system
        for weights in folder.glob("*.safetensors"):
            shutil.copymode(folder / "config.json", weights)


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
    attention: str = "auto",
) -> Policy:
    """Load model and tokenizer from a hub id or a local folder.

    Args:
        attention: back end, a name of transformers'; ``auto`` is sdpa where the model has it.

    Raises:
        UserError: nothing there, no tokenizer, no end token, or logits this harness does not model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), revision=revision)
        how = {} if attention == "auto" else {"attn_implementation": attention}
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(path), revision=revision, dtype=getattr(torch, dtype), **how
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
