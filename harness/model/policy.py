"""The policy: a Hugging Face causal language model, its tokenizer, and its token statistics on a batch."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.distributed.world import micro_batches, world
from harness.model import text
from harness.model.agreement import check_agreement
from harness.model.checks import check_kind
from harness.model.loading import load_model
from harness.model.own import context_of, vocabulary_of
from harness.model.packing import pack, row_lengths
from harness.model.sharding import Network, share, whole
from harness.problems.templates import render_chat
from harness.stages.batch import Batch
from harness.stages.token_stats import TokenStat
from harness.util import heap, progress


@dataclass(eq=False)
class Policy:
    """Model and tokenizer; ``temperature`` divides the logits of every statistic (the loss temperature).

    Attributes:
        stop_texts: texts that end a response besides the end tokens: those of the training template.
        passed_tokens: that went through the network in :meth:`stats`, copies and padding included.
    """

    model: Any
    tokenizer: Any
    temperature: float = 1.0
    network: Network = None  # type: ignore[assignment]
    stop_texts: tuple[str, ...] = ()
    passed_tokens: int = 0

    def __post_init__(self) -> None:
        if self.network is None:
            self.network = Network(self.model)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def vocabulary(self) -> int:
        """Ids that the embedding has a row for."""
        return vocabulary_of(self.model)

    @property
    def source(self) -> str:
        """Where the model came from: hub id or folder."""
        return str(getattr(self.model.config, "_name_or_path", "") or type(self.model).__name__)

    @property
    def pad_id(self) -> int:
        """What stands where nothing is: the pad token, if it was added to the embedding as well."""
        pad = int(self.tokenizer.pad_token_id)
        return pad if pad < self.vocabulary else 0

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """All token ids that end a response, in training and evaluation; see :mod:`harness.model.text`."""
        own = text.own_end_ids(self.tokenizer, getattr(self.model, "generation_config", None))
        return tuple(sorted({*own, *self._chat_ends}))

    @cached_property
    def _chat_ends(self) -> tuple[int, ...]:
        return text.stop_ids(self.tokenizer, self.model.get_input_embeddings().num_embeddings)

    @property
    def eos_id(self) -> int:
        """The tokenizer's own end token, which stages see."""
        return int(self.tokenizer.eos_token_id)

    @property
    def max_positions(self) -> int | None:
        return context_of(self.model.config)

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a prompt."""
        return text.encode(self.tokenizer, prompt)

    def encode_inside(self, text_inside: str) -> list[int]:
        """Token ids of a text that stands inside a sequence."""
        return text.encode_inside(self.tokenizer, text_inside)

    def chat(self, turns: Sequence[Mapping[str, str]]) -> str:
        """``turns`` by the model's own chat template, up to where it is to answer.

        Raises:
            UserError: it has none, or refuses them.
        """
        return render_chat(self.tokenizer, turns)

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts of token rows, special tokens left out."""
        return text.decode(self.tokenizer, rows)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Texts of single tokens, special ones too."""
        return text.pieces(self.tokenizer, ids)

    @property
    def head(self) -> Any:
        """The LM head (``weight`` [V,D] and perhaps ``bias``)."""
        return self.network.head

    def _inputs(self, batch: Batch) -> tuple[dict[str, Any], Tensor, Tensor]:
        """The model's inputs, and where in its flattened output each token's prediction is.

        Returns:
            the inputs; ``[N]``: indices for the response tokens, in the order of ``mask_BT.nonzero()``;
            ``[M]``: the same for the prompt tokens but each row's first.
        """
        device = self.device
        if self.packs:
            packed = pack(batch)
            self.passed_tokens += packed.ids_1L.numel()
            inputs = {
                "input_ids": packed.ids_1L.to(device), "position_ids": packed.position_1L.to(device),
                "layout": packed.layout.to(device),
                # the layout says all; a mask of four dimensions keeps transformers from making one
                "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
            }  # fmt: skip
            return inputs, packed.response_at_N.to(device), packed.prompt_at_M.to(device)
        if not self.network.ways.pad:
            return self._unpadded(batch)
        # what follows the last token is never asked for
        ids = torch.cat([batch.prompt_BP, batch.response_BT], 1)[:, :-1].to(device)
        mask = torch.cat([batch.prompt_mask_BP, batch.mask_BT], 1)[:, :-1].to(device)
        self.passed_tokens += ids.numel()
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

    def _unpadded(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """:meth:`_inputs` of rows that are equally long, prompt and response each."""
        rows = len(batch)
        prompt = batch.prompt_BP[batch.prompt_mask_BP].view(rows, -1)
        ids = torch.cat([prompt, batch.response_BT[batch.mask_BT].view(rows, -1)], 1)[:, :-1]
        self.passed_tokens += ids.numel()
        width, start = ids.shape[1], prompt.shape[1] - 1
        at = torch.arange(rows)[:, None] * width + torch.arange(width)
        device = self.device
        return (
            {"input_ids": ids.to(device)},
            at[:, start:].flatten().to(device),
            at[:, :start].flatten().to(device),
        )

    def _equally_long(self, batch: Batch) -> list[list[int]]:
        """Rows by the lengths of their prompts and responses."""
        groups: dict[tuple[int, int], list[int]] = {}
        lengths = zip(batch.prompt_mask_BP.sum(1).tolist(), batch.mask_BT.sum(1).tolist(), strict=True)
        for row, length in enumerate(lengths):
            groups.setdefault(length, []).append(row)
        return list(groups.values())

    @property
    def packs(self) -> bool:
        """Whether rollouts are packed: needs an attention that can be exchanged, in every layer."""
        return self.network.ways.pack

    def stats(self, batch: Batch, wanted: Iterable[TokenStat]) -> dict[str, Tensor]:
        """``{name: [B,T]}`` (``[B,P]`` for prompt statistics) under the current weights; 0 on padding.

        Differentiable when gradients are enabled. Returned on the CPU, where all stages work.
        """
        wanted = tuple(dict.fromkeys(wanted))
        if not self.network.ways.pad and len(groups := self._equally_long(batch)) > 1:
            return _scattered(groups, [self.stats(batch.rows(rows), wanted) for rows in groups])
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
    def scores(
        self, batch: Batch, wanted: Iterable[TokenStat], micro_rows: int, micro_tokens: int | None = None
    ) -> dict[str, Tensor]:
        """:meth:`stats` without gradients, ``micro_rows`` rows at a time, divided over the processes."""
        wanted, here = tuple(wanted), world()
        lengths, shared = row_lengths(batch)
        parts = micro_batches(lengths, micro_rows, here.size, tokens=micro_tokens, shared=shared)
        # an empty part is a pass too: the processes gather weights together
        mine = []
        for part in parts[here.rank]:
            mine.append(self.stats(batch.rows(part or [0]), wanted))
            progress.tell(len(mine), len(parts[here.rank]))
        self.network.freed()
        out: dict[str, Tensor] = {}
        for rank_parts, values in zip(parts, here.all_gather(mine), strict=True):
            for part, value in zip(rank_parts, values, strict=True):
                for name, value_BX in value.items() if part else ():
                    if name not in out:
                        out[name] = value_BX.new_zeros(len(batch), value_BX.shape[1])
                    out[name][part] = value_BX
        return out

    @torch.no_grad()
    def hidden(self, batch: Batch) -> Tensor:
        """``[N,D]``: what the head is given at each response token, in no order that is promised."""
        if not self.network.ways.pad and len(groups := self._equally_long(batch)) > 1:
            return torch.cat([self.hidden(batch.rows(rows)) for rows in groups])
        inputs, response_at_N, _ = self._inputs(batch)
        return self.network(inputs, (), self.temperature, response_at_N)["hidden"]  # type: ignore[no-any-return]

    def frozen_copy(self) -> Policy:
        """A copy whose weights no longer change (the reference policy)."""
        copied = Policy(copy.deepcopy(self.model).requires_grad_(False), self.tokenizer, self.temperature)
        for name in ("compute", "chunk_mib", "curve", "ways"):
            setattr(copied.network, name, getattr(self.network, name))
        return copied

    def at_temperature(self, temperature: float) -> Policy:
        """The same network with statistics at another temperature."""
        return Policy(self.model, self.tokenizer, temperature, self.network, self.stop_texts)

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


def _scattered(groups: Sequence[list[int]], values: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The statistics of groups of rows in the rows' own order."""
    order = torch.tensor([row for group in groups for row in group]).argsort()
    return {name: torch.cat([value[name] for value in values])[order] for name in values[0]}


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
        UserError: nothing there, weights that are not whole, no tokenizer, no end token, or a model whose
            own code computes something else than this harness does.
    """
    model, tokenizer = load_model(str(path), revision, dtype, attention)
    check_kind(model, str(path))
    model.to(device)
    model.eval()  # no dropout: old and current log-probs must be of the same function
    policy = Policy(model, tokenizer, temperature)
    check_agreement(policy.at_temperature(1.0), str(path))
    heap.give_back()  # what reading a model and trying it out leaves is not used again
    return policy
