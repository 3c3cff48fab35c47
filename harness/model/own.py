"""A model's own forward pass, up to its head: what every family computes there is its own code's business.

The head's products are never made for all positions at once, so its input is caught on the way; what the
model does with the products afterwards is a curve that :mod:`harness.model.agreement` finds out at loading.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.util.errors import UserError

#: What a model's code makes of ``answer`` where its head should have been: hidden states in, anything out.
Answer = Callable[[Tensor], Tensor]


def text_config(config: Any) -> Any:
    """The part of a configuration that is about text: itself, or ``text_config`` of a wrapper's."""
    get = getattr(config, "get_text_config", None)
    return get(decoder=True) if get else config


def context_of(config: Any) -> int | None:
    """Positions that a model has, or None where its configuration names no limit."""
    text = text_config(config)
    for key in ("max_position_embeddings", "n_positions", "max_seq_len"):
        try:
            value = getattr(text, key, None)
        except NotImplementedError:  # a family without a limit says so in this way
            continue
        if isinstance(value, int) and value > 0:
            return value
    return None


def vocabulary_of(model: Any) -> int:
    """Ids that the embedding has a row for."""
    embedding = model.get_input_embeddings()
    rows = getattr(embedding, "num_embeddings", None)
    return int(rows if rows is not None else embedding.weight.shape[0])


def head_of(model: Any) -> Any:
    """The module that turns hidden states into one number for each token of the vocabulary."""
    return model.get_output_embeddings()


def layers_of(model: Any) -> Any:
    """The list of the text part's layers, whatever its family calls it.

    Raises:
        ValueError: nothing that looks like it.
    """
    get = getattr(model, "get_decoder", None)
    for part in (model.base_model, get() if get else None):
        for name in ("layers", "h", "blocks", "block", "layer"):
            found = getattr(part, name, None)
            if isinstance(found, torch.nn.ModuleList):
                return found
    raise ValueError(f"the layers of {type(model).__name__} were not found")


def layer_number(model: Any, layer: float | None) -> int | None:
    """The number, from 1, of the decoder layer that a statistic's ``layer`` means.

    None means the model's own logits: for None, and for the last layer, behind which the final norm stands.

    Raises:
        UserError: the model has fewer layers, or none that can be told apart.
    """
    if layer is None:
        return None
    try:
        count = len(layers_of(model))
    except ValueError as error:
        raise UserError(f"{error}, so none of them can be read; use another model or method") from error
    number = max(1, round(layer * count)) if layer < 1 else int(layer)
    if number > count:
        raise UserError(
            f"layer {number} is asked for, and {type(model).__name__} has {count}; use 1 to {count}, or a "
            "share below 1"
        )
    return None if number == count else number


@contextmanager
def layers_read(model: Any, numbers: Collection[int]) -> Iterator[dict[int, Tensor]]:
    """While open, the sums behind the layers of these numbers, from 1, are kept as passes make them."""
    seen: dict[int, Tensor] = {}

    def keep(number: int) -> Callable[..., None]:
        def hook(_: Any, __: Any, out: Any) -> None:
            seen[number] = out[0] if isinstance(out, tuple) else out

        return hook

    layers = layers_of(model) if numbers else ()
    handles = [layers[number - 1].register_forward_hook(keep(number)) for number in numbers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _caught(head: Any, answer: Answer) -> Iterator[list[Tensor]]:
    """While open, ``head`` keeps what it is given and hands on ``answer`` of it in place of its products."""
    seen: list[Tensor] = []

    def take(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        seen.append(hidden)
        return answer(hidden)

    kept = head.__dict__.get("forward")
    head.forward = take
    try:
        yield seen
    finally:
        if kept is None:
            del head.forward
        else:
            head.forward = kept


def hidden_states(model: Any, inputs: Mapping[str, Any], answer: Answer | None = None) -> tuple[Tensor, Any]:
    """Hidden states ``[R,L,D]`` as they enter the head, and the model's own output.

    Packed rows go the shorter way where there is one (:mod:`harness.model.around`); there is no output then.

    Args:
        inputs: of the model's ``forward``.
        answer: stands for the head's products; by default one number a position, which nobody reads.

    Raises:
        ValueError: the model's pass does not go through its head, or more than once.
    """
    around = vars(model).get("packed_pass")
    if (
        around is not None
        and answer is None
        and "layout" in inputs
        and (hidden := around(inputs)) is not None
    ):
        return hidden, None
    with _caught(head_of(model), answer or _first) as seen:
        output = model(**inputs)
    if len(seen) != 1:
        raise ValueError(f"its forward pass goes through its head {len(seen)} times")
    return seen[0], output


def _first(hidden: Tensor) -> Tensor:
    return hidden.detach()[..., :1]


@dataclass(frozen=True)
class Ways:
    """What a model's own code stands, found out when it is loaded.

    Attributes:
        pack: many rollouts in one row, kept apart by an attention of ours (:mod:`harness.model.attention`).
        fuse: packed rows go through layers of ours (:mod:`harness.model.fused`).
        pad: rows of unequal length; without it every length has a pass of its own.
        cache: keys and values of earlier tokens; without it a row is read from its start for every token.
        share: rows that grow read their prompt's keys and values in one place, by the same attention.
    """

    pack: bool = False
    fuse: bool = False
    pad: bool = True
    cache: bool = True
    share: bool = False
