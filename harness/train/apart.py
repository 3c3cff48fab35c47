"""Rows one behind the other, each with a prompt of its own, so that a gradient tells them apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.model.attention import layout_of
from harness.model.made import Each
from harness.model.packing import pack
from harness.stages.batch import Batch
from harness.train.spans import Spans, groups_of


@dataclass(frozen=True)
class Apart:
    """Shape letters: ``L`` tokens of all rows, ``N`` of them predict a response token.

    Attributes:
        inputs: of the model's forward pass.
        ids_L: the tokens; the last of a response is left out, since nothing follows it.
        row_L: each token's row.
        read_N: the tokens that predict.
        spans, read_spans: where in ``L`` and in ``N`` the rows' tokens are, rows in the same groups.
        each: which tokens rows have in common.
    """

    inputs: dict[str, Any]
    ids_L: Tensor
    row_L: Tensor
    read_N: Tensor
    spans: list[Spans]
    read_spans: list[Spans]
    each: Each

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> Apart:
        """Rows in their order, each of one response token at least."""
        packed = pack(batch)
        prompts, lengths = batch.prompt_mask_BP.sum(1).tolist(), batch.length_B.tolist()
        fed = [prompt + length - 1 for prompt, length in zip(prompts, lengths, strict=True)]
        before = packed.prompt_at_M.split([n - 1 for n in prompts])
        behind = packed.response_at_N.split(lengths)
        of_L = torch.cat([part for row in zip(before, behind, strict=True) for part in row])
        row_L = torch.repeat_interleave(torch.arange(len(fed)), torch.tensor(fed))
        at_L = torch.arange(len(of_L)) - (torch.tensor(fed).cumsum(0) - torch.tensor(fed))[row_L]
        ids_L = packed.ids_1L[0, of_L].to(device)
        groups = groups_of(fed)
        return cls(
            {
                "input_ids": ids_L[None],
                "position_ids": packed.position_1L[:, of_L].to(device),
                "layout": layout_of(fed, [[0]] * len(fed)).to(device),
                "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
                "use_cache": False,
            },
            ids_L,
            row_L.to(device),
            (at_L >= torch.tensor(prompts)[row_L] - 1).nonzero()[:, 0].to(device),
            Spans.of(fed, groups, device),
            Spans.of(lengths, groups, device),
            Each.of(packed.layout.to(device), of_L.to(device)),
        )
