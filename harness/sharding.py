"""The policy's network as one module, whole or sharded over processes by PyTorch's FSDP2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from harness.tokenstats import TokenStat, token_stats

#: Indices of hidden states, the tokens that follow them, and what is asked for there.
Asked = tuple[Tensor, Tensor, Sequence[TokenStat]]


class Network(torch.nn.Module):
    """Backbone and head in one forward pass, so that sharding gathers their weights for all of it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.sharded = False

    @property
    def head(self) -> Any:
        return self.model.get_output_embeddings()

    def forward(
        self, inputs: Mapping[str, Tensor], asked: Sequence[Asked], temperature: float
    ) -> dict[str, Tensor]:
        """``{stat: [N]}``: the statistics asked for at positions of the flattened hidden states."""
        hidden_XD = self.model.base_model(**inputs, use_cache=False)[0].flatten(0, 1)
        head, out = self.head, dict[str, Tensor]()
        for at_N, target_N, stats in asked:
            out |= token_stats(
                hidden_XD[at_N], head.weight, target_N, stats, bias_V=getattr(head, "bias", None),
                temperature=temperature,
            )  # fmt: skip
        return out

    def shard(self) -> None:
        """Shard the weights over all processes; gradients are summed: the loss divides by global counts."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        from harness.parallel import world

        device = next(self.parameters()).device.type
        mesh = init_device_mesh(device, (world().size,))
        for layer in self.model.base_model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(self, mesh=mesh)
        for part in self._parts():
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
        self.sharded = True
        self._start()

    def _parts(self) -> list[Any]:
        from torch.distributed.fsdp import FSDPModule

        return [module for module in self.modules() if isinstance(module, FSDPModule)]

    @torch.no_grad()
    def _start(self) -> None:
        """One pass, so that this module is the root before the sampler calls the backbone alone."""
        device = next(self.parameters()).device
        ids = torch.zeros(1, 1, dtype=torch.long, device=device)
        self({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, (), 1.0)
        self.freed()

    def freed(self) -> None:
        """Give back what a pass without gradients leaves gathered: an update would make it stale."""
        if self.sharded:
            self.reshard()  # type: ignore[operator]

    def sums_gradients(self, on: bool) -> None:
        """Whether the next backward pass sums gradients over the processes (the last micro-batch's does)."""
        if self.sharded:
            self.set_requires_gradient_sync(on)  # type: ignore[operator]

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """All weights on every process, so that each may make as many passes as it needs."""
        if not self.sharded:
            yield
            return
        parts = self._parts()
        for part in parts:
            part.unshard()
            part.set_reshard_after_forward(False, recurse=False)
        try:
            yield
        finally:
            for part in parts:
                part.set_reshard_after_forward(part is not self, recurse=False)
                part.reshard()


def whole(value: Tensor) -> Tensor:
    """A tensor's full value, whether it is sharded or not; all processes must ask."""
    full = getattr(value, "full_tensor", None)
    return full() if full else value
