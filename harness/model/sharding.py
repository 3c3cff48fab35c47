"""The policy's network as one module, whole or sharded over processes by PyTorch's FSDP2.

In this order: :meth:`Network.recompute`, then :meth:`Network.compute_in`, then :meth:`Network.shard`, so that
FSDP2 wraps a layer that recomputes itself, and gathers and casts its weights once for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.distributed.world import world
from harness.model.head import PLAIN, HeadCurve
from harness.model.logits import chunk_rows, token_stats
from harness.model.own import (
    Ways,
    head_of,
    hidden_states,
    layer_number,
    layers_of,
    layers_read,
    text_config,
)
from harness.model.precision import Masters
from harness.stages.token_stats import TokenStat
from harness.util.errors import UserError

#: Indices of hidden states, the tokens that follow them, and what is asked for there.
Asked = tuple[Tensor, Tensor, Sequence[TokenStat]]


class Network(torch.nn.Module):
    """Backbone and head in one forward pass, so that sharding gathers their weights for all of it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.sharded = False
        self.masters: Masters | None = None
        self.compute: torch.dtype | None = None  # of the passes, where the weights have another
        self.chunk_mib = 64
        self.curve: HeadCurve = PLAIN  # this and the next are found out when the model is loaded
        self.ways = Ways()

    @property
    def head(self) -> Any:
        return head_of(self.model)

    def forward(
        self, inputs: Mapping[str, Any], asked: Sequence[Asked], temperature: float,
        hidden_at: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """``{stat: [N]}``: the statistics asked for at positions of the flattened hidden states.

        With ``hidden_at``, ``{"hidden": [N,D]}`` of those positions too, as they enter the head.
        """
        places = [(at, target, read) for at, target, stats in asked for read in self._places(stats)]
        numbers = {number for *_, (number, _) in places if number is not None}
        with layers_read(self.model, numbers) as below:
            top = hidden_states(self.model, {**inputs, "use_cache": False})[0]
        head = self.head
        out = {} if hidden_at is None else {"hidden": top.flatten(0, 1)[hidden_at]}
        chunk = chunk_rows(head.weight.shape[0], self.chunk_mib << 20)
        for at_N, target_N, (number, stats) in places:
            hidden_XD = (top if number is None else below[number]).flatten(0, 1)
            out |= token_stats(
                hidden_XD[at_N], head.weight, target_N, stats, bias_V=getattr(head, "bias", None),
                temperature=temperature, chunk=chunk, curve=self.curve,
            )  # fmt: skip
        return out

    def _places(self, stats: Sequence[TokenStat]) -> list[tuple[int | None, list[TokenStat]]]:
        """Statistics by the number of the layer that they are read behind; None is the model's own end."""
        found: dict[int | None, list[TokenStat]] = {}
        for stat in stats:
            found.setdefault(layer_number(self.model, stat.layer), []).append(stat)
        return list(found.items())

    def check_layer(self, layer: float) -> None:
        """Refuse a layer that the head cannot read.

        Raises:
            UserError: there is none of that number, or it is wider or narrower than what the head takes.
        """
        number = layer_number(self.model, layer)
        width = getattr(text_config(self.model.config), "hidden_size", None)
        if number is not None and width != self.head.weight.shape[1]:
            raise UserError(
                f"the head of {type(self.model).__name__} takes {self.head.weight.shape[1]} numbers, and its "
                f"layers give {width}: it cannot read them; use another model or method"
            )

    def recompute(self) -> None:
        """Keep only the inputs of each layer for the backward pass, which computes the rest again."""
        for layer in layers_of(self.model):
            layer.forward = partial(_checkpointed, layer.forward)

    def compute_in(self, compute: torch.dtype) -> None:
        """Make every pass in ``compute``; what is trained and stepped on keeps the type it has."""
        if self.sharded or self.masters is not None:
            raise RuntimeError("the type of the passes is set once, before the weights are sharded")
        self.compute = compute

    def ready(self) -> None:
        """Cast the weights for the passes, where no sharding does it; only what is trained needs masters."""
        if self.compute is None or self.sharded:
            return
        if any(p.requires_grad for p in self.parameters()):
            self.masters = Masters(self.model, self.compute)
        else:
            for parameter in self.parameters():
                parameter.data = parameter.data.to(self.compute)

    def trainable(self) -> list[torch.nn.Parameter]:
        """What the optimiser steps on, and where the gradients are."""
        if self.masters is not None:
            return self.masters.trainable()
        return [p for p in self.model.parameters() if p.requires_grad]

    def stepped(self) -> None:
        """The optimiser has changed what is trained."""
        if self.masters is not None:
            self.masters.cast()

    def shard(self) -> None:
        """Shard the weights over all processes; gradients are summed: the loss divides by global counts."""
        if not self.ways.pad:  # as many passes as lengths, and the processes have to make equally many
            raise UserError(
                f"{type(self.model).__name__} takes rows of one length only, which processes cannot share; "
                "start one process"
            )
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        device = next(self.parameters()).device.type
        mesh = init_device_mesh(device, (world().size,))
        kept = next(self.parameters()).dtype
        how: dict[str, Any] = {"mesh": mesh}
        if self.compute is not None:
            how["mp_policy"] = MixedPrecisionPolicy(param_dtype=self.compute, reduce_dtype=kept)
        for layer in layers_of(self.model):
            fully_shard(layer, **how)
        fully_shard(self, **how)
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
        """One pass, so that this module is the root before the sampler calls the model alone."""
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


def _checkpointed(forward: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **more)
    from torch.utils.checkpoint import checkpoint

    # no dropout anywhere, so there is no random state to keep
    return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **more)


def whole(value: Tensor) -> Tensor:
    """A tensor's full value, whether it is sharded or not; all processes must ask."""
    full = getattr(value, "full_tensor", None)
    return full() if full else value


def share(value: Tensor, like: Tensor) -> Tensor:
    """This process's share of a full ``value``, sharded as ``like`` is; the first process's value counts."""
    mesh = getattr(like, "device_mesh", None)
    if mesh is None or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    local = value.to(device=like.device, dtype=like.dtype)
    return distribute_tensor(local, mesh, like.placements)  # type: ignore[attr-defined]


def whole_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """An optimiser's ``state_dict`` with the full value of everything sharded; all processes must ask."""
    slots = {
        i: {k: whole(v) if isinstance(v, Tensor) else v for k, v in slot.items()}
        for i, slot in state["state"].items()
    }
    return {**state, "state": slots}


def shared_state(state: Mapping[str, Any], parameters: Sequence[Tensor]) -> dict[str, Any]:
    """The inverse of :func:`whole_state`: each process's share, as the parameters are sharded."""
    slots = {
        i: {k: share(v, parameters[int(i)]) if isinstance(v, Tensor) else v for k, v in slot.items()}
        for i, slot in state["state"].items()
    }
    return {**state, "state": slots}
