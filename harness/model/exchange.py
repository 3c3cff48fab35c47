"""A model's own attention exchanged for another, by a name that transformers looks up.

What is put in its place is :mod:`harness.model.attention` where a layout is handed on with the inputs, else
transformers' sdpa attention as before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Under this name transformers finds :func:`attend`.
NAME = "entrobench"
#: What layers hand on where their attention is more than a softmax of products over what is visible.
#: Sparse families of transformers 5.23 hand on ``indices`` of the keys that are left, where the attention
#: does not go by the name of theirs.
NOT_PACKED = ("sliding_window", "softcap", "s_aux", "position_bias", "cache", "indices")


def take_over(model: Any) -> bool:
    """Let ``model`` attend by :func:`attend`, where its attention can be exchanged; whether it can.

    Without a layout nothing changes: it is transformers' sdpa attention then, with its masks.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    config = model.config
    if not getattr(model, "_supports_sdpa", False) or config._attn_implementation not in ("sdpa", NAME):
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return True


def give_back(model: Any) -> None:
    """Undo :func:`take_over`: some families' code asks for its attention by name."""
    model.set_attn_implementation("sdpa")


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Any = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """An attention of transformers: ``[1,L,H,D]`` from queries ``[1,H,L,D]``, keys and values ``[1,G,L,D]``.

    Args:
        layout: has ``attend``; None leaves everything to transformers' sdpa attention.

    Raises:
        ValueError: the layer's attention is something else than a softmax of products over what is visible.
    """
    if layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
    for name in NOT_PACKED:
        if more.get(name) is not None:
            raise ValueError(f"{type(module).__name__} attends with {name}, which packed rows do not know")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    width = v.shape[-1]
    if width < q.shape[-1]:  # the kernels know one size
        v = torch.nn.functional.pad(v, (0, q.shape[-1] - width))
    return layout.attend(module, q, k, v, scale)[None, ..., :width], None
