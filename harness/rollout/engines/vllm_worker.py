"""What runs beside the model inside a vLLM worker: named in ``worker_extension_cls``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


class WorkerExtension:
    """Methods that vLLM mixes into its worker and that ``collective_rpc`` reaches by name."""

    model_runner: Any

    def entrobench_checksum(self) -> str:
        """The weights' checksum, as text: it does not fit a signed 64-bit number."""
        from harness.rollout.engines.weights import checksum

        return str(checksum(_held(self.model_runner.get_model())))


def _held(model: nn.Module) -> Iterator[Tensor]:
    """The model's weights, also those that vLLM's CPU kernels keep in a packed form of their own.

    A packed matrix is read by multiplying it with the unit matrix, which is exact.
    """
    import torch

    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            multiply = getattr(module, "cpu_linear", None) if name == "weight" else None
            if weight.numel() or multiply is None:
                yield weight
            else:
                size: Any = getattr(module, "input_size_per_partition", None) or module.input_size
                yield multiply(torch.eye(int(size), dtype=weight.dtype), weight, None)
