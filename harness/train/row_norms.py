"""``[B]``: the norm of the gradient of each row's summed log-prob, of many rows in one pass.

A linear layer that is given a_t and whose output has the gradient b_t has the gradient G = sum_t b_t a_t^T,
and |G|^2 = sum_ts (a_t . a_s)(b_t . b_s) (Li et al. 2022, arXiv 2110.05679). So no gradient of a weight is
made: rows stand in one packed row, each with a prompt of its own, and every layer shows its inputs and output
gradients: one of ours (:mod:`harness.model.fused`) in its backward pass, others to hooks. What is known so:
linear layers, RMS norms, the input embedding and the head, tied or not.
A model with any other weight, one that recomputes its activations, and a row too long for one tile of logits
take a pass a row.

Shape letters: ``R`` rows of a pass by ``T`` tokens of the longest, ``L`` tokens of all, ``S`` response tokens
of the longest, ``N`` of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.model.fused import is_fused
from harness.model.log_prob import LogProbEntropy, Tile, tile_cells, tiles
from harness.model.logits import chunk_rows
from harness.model.made import Made
from harness.model.own import hidden_states, layers_of
from harness.model.packing import packed_tokens
from harness.model.policy import Policy
from harness.stages.batch import Batch
from harness.stages.token_stats import LOGP
from harness.train.apart import Apart
from harness.train.spans import RowSquares, Spans, gram, wide

#: Tokens that a pass may have in any case: fewer take hardly less time or memory.
SMALL = 1024


class Unfit(Exception):
    """A layer is used in another way than once, on all tokens."""


def row_grad_norms(
    policy: Policy, batch: Batch, micro_rows: int | None = None, micro_tokens: int | None = None
) -> Tensor:
    """``[B]``: norm of the gradient of each row's summed log-prob at the current weights.

    Args:
        micro_rows, micro_tokens: of an update's pass; one of this has no more tokens, or few.
    """
    if not policy.packs:
        return torch.stack([alone(policy, batch.rows([i])) for i in range(len(batch))])
    layers = Layers.of(policy)
    norms = torch.zeros(len(batch), dtype=torch.promote_types(policy.head.weight.dtype, torch.float32))
    for part in _parts(policy, batch, micro_rows or len(batch), micro_tokens):
        rows = batch.rows(part)
        found: Tensor | None = None
        if layers is not None and _one_tile(policy, int(rows.mask_BT.sum())):
            try:
                found = together(policy, layers, rows)
            except Unfit:  # the next rows would meet the same layers
                layers = None
        if found is None:
            found = torch.stack([alone(policy, rows.rows([i])) for i in range(len(part))])
        norms[part] = found.to(norms)
    return norms


def alone(policy: Policy, row: Batch) -> Tensor:
    """The norm of one row, by a gradient of every weight."""
    parameters = [p for p in policy.model.parameters() if p.requires_grad]
    row = row.trimmed()
    with torch.enable_grad():
        logp_BT = policy.stats(row, [LOGP])["logp"]
        grads = torch.autograd.grad((logp_BT * row.mask_BT).sum(), parameters, allow_unused=True)
    return torch.stack([wide(g).norm() for g in grads if g is not None]).norm().cpu()


def _cells(policy: Policy) -> tuple[int, int]:
    """Tokens of the vocabulary, and logits that may be held at once."""
    vocab = policy.head.weight.shape[0]
    return vocab, chunk_rows(vocab, policy.network.chunk_mib << 20) * vocab


def _one_tile(policy: Policy, positions: int) -> bool:
    vocab, cells = _cells(policy)
    return len(next(tiles(positions, vocab, tile_cells(cells, policy.device, positions)), ())) == 1


def _parts(policy: Policy, batch: Batch, micro_rows: int, micro_tokens: int | None) -> list[list[int]]:
    """Rows that have a response, those of equal length together: as many as an update's pass has tokens and a
    tile has positions."""
    prompt, response = batch.prompt_mask_BP.sum(1).tolist(), batch.length_B.tolist()
    order = sorted((i for i, n in enumerate(response) if n), key=lambda i: prompt[i] + response[i])
    all_tokens = sum(prompt[i] + response[i] for i in order)
    limit = micro_tokens or 1 << 62
    if all_tokens > SMALL:
        share = min(1.0, micro_rows / len(batch))
        limit = min(limit, max(SMALL, round(packed_tokens(batch) * share)))
    if order and all_tokens <= limit and _one_tile(policy, sum(response)):
        return [order]
    parts: list[list[int]] = []
    tokens = positions = 0
    for row in order:
        more = prompt[row] + response[row]
        fits = parts and tokens + more <= limit and _one_tile(policy, positions + response[row])
        if not fits:
            parts.append([])
            tokens = positions = 0
        parts[-1].append(row)
        tokens, positions = tokens + more, positions + response[row]
    return parts


@dataclass(frozen=True)
class Layers:
    """The modules that hold a model's trainable weights, by kind."""

    linear: list[nn.Linear]
    norm: list[nn.Module]
    embedding: nn.Embedding
    head: nn.Linear
    last: nn.Module

    @classmethod
    def of(cls, policy: Policy) -> Layers | None:
        """None where a weight is none of these kinds."""
        model, head = policy.model, policy.head
        embedding = model.get_input_embeddings()
        if not policy.packs or policy.network.sharded or type(embedding) is not nn.Embedding:
            return None
        if type(head) is not nn.Linear or any(
            "forward" in vars(layer) and not is_fused(layer) for layer in layers_of(model)
        ):
            return None
        if embedding.max_norm is not None or embedding.scale_grad_by_freq:
            return None
        found = cls([], [], embedding, head, layers_of(model)[-1])
        for module in model.modules():
            own = [name for name, p in module.named_parameters(recurse=False) if p.requires_grad]
            if not own or module in (embedding, head):
                continue
            if type(module) is nn.Linear:
                found.linear.append(module)
            elif type(module).__name__.endswith("RMSNorm") and _scales(module):
                found.norm.append(module)
            else:
                return None
        return found


def _scales(module: nn.Module) -> bool:
    """Whether it multiplies what it is given by one vector; torch's own norm takes no other shape."""
    names = [name for name, p in module.named_parameters() if p.ndim == 1]
    return names == ["weight"] == [n for n, _ in module.named_parameters()] and not isinstance(
        module, nn.RMSNorm
    )


class Squares:
    """``[R]`` squared norms, added up while a pass goes forward and backward.

    Attributes:
        all, read: over all tokens, and over those whose prediction is read.
    """

    def __init__(self, layers: Layers, rows: Apart, count: int) -> None:
        self.layers, self.each = layers, rows.each
        self.all = RowSquares(count, rows.spans, rows.row_L)
        self.read = RowSquares(count, rows.read_spans, rows.row_L[rows.read_N])
        #: Nobody reads what the last layer gives at other tokens.
        self.each_last = replace(rows.each, read_N=rows.read_N)
        self.embedded: Tensor | None = None
        self._scales: list[Tensor] = []
        #: Whether weight and bias are trained.
        self.learned: dict[nn.Module, tuple[bool, bool]] = {
            m: (m.weight.requires_grad, m.bias is not None and m.bias.requires_grad) for m in layers.linear
        }
        self._met = 0

    def _of(self, value: Tensor) -> RowSquares:
        return self.all if len(value) == len(self.all.row_L) else self.read

    def check(self) -> None:
        if self._met != len(self.layers.linear) + len(self.layers.norm) + 1:
            raise Unfit

    def _meet(self, value: Tensor) -> None:
        self._met += 1
        if value.shape[:2] != (1, len(self.all.row_L)):
            raise Unfit

    def embedding(self, _: nn.Module, given: Any, out: Tensor) -> Tensor:
        """The backward pass ends here."""
        self._meet(out)
        self.embedded = out.detach().requires_grad_()
        return self.embedded

    def norm(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        """Give each token a vector of its own."""
        self._meet(given[0])
        weight = module._parameters["weight"]
        assert weight is not None
        own = weight.detach().expand(len(self.all.row_L), *(1,) * (given[0].ndim - 3), -1).requires_grad_()
        self._scales.append(own)
        module._parameters["weight"] = own  # type: ignore[assignment]

    def linear(self, module: nn.Linear, given: Tensor, out: Tensor) -> None:
        self._meet(given)
        out.register_hook(lambda grad: self._linear(module, given[0], grad[0]))

    def made_by(self, layer: nn.Module) -> Made:
        """A layer of ours shows all in its backward pass."""
        modules = dict(layer.named_modules(remove_duplicate=False))

        def linear(name: str, grad_LY: Tensor, given_LX: Tensor) -> None:
            module = modules[name]
            if module in self.learned:
                self._met += 1
                self._linear(module, given_LX, grad_LY)

        def norm(name: str, grad: Tensor) -> None:
            if modules[name] in self.layers.norm:
                self._met += 1
                self._norm(grad if grad.ndim == 2 else grad.sum(1))

        return Made(linear, lambda _: None, norm, self.each_last if layer is self.layers.last else self.each)

    def _linear(self, module: nn.Module, given_LX: Tensor, grad_LY: Tensor) -> None:
        weight, bias = self.learned[module]
        if bias:
            self._of(grad_LY).vectors(grad_LY)
        if weight:
            self._of(grad_LY).products(given_LX, grad_LY)

    def _norm(self, grad_LD: Tensor) -> None:
        self._of(grad_LD).vectors(grad_LD)

    def finished(self) -> Tensor:
        """After the backward pass."""
        for scale in self._scales:
            if scale.grad is not None:
                self._norm(scale.grad.flatten(1))
        return self.all.finished() + self.read.finished()


@contextmanager
def _watched(layers: Layers, squares: Squares) -> Iterator[None]:
    """While open, weights get no gradient and layers show what they are given."""
    modules: list[nn.Module] = [*layers.linear, *layers.norm, layers.embedding, layers.head]
    kept = [(module, name, p) for module in modules for name, p in module.named_parameters(recurse=False)]
    handles = [layers.embedding.register_forward_hook(squares.embedding)]
    handles += [norm.register_forward_pre_hook(squares.norm) for norm in layers.norm]
    for linear in layers.linear:
        handles.append(linear.register_forward_hook(_shown(squares)))
    try:
        for module, name, p in kept:
            module._parameters[name] = p.detach()  # type: ignore[assignment]
        yield
    finally:
        for module, name, p in kept:
            module._parameters[name] = p
        for handle in handles:
            handle.remove()


def _shown(squares: Squares) -> Callable[..., None]:
    return lambda module, given, out: squares.linear(module, given[0], out)


class HeadSquares:
    """What the head's tiles add for some rows: products of output gradients, and their values at tokens.

    ``ids_RT`` are the tokens; None where nobody asks.
    """

    def __init__(self, spans: Spans, ids_RT: Tensor | None) -> None:
        self.spans, self.ids_RT = spans, ids_RT
        self.gram_RSS: Tensor | float = 0.0
        self.bias_R: Tensor | float = 0.0
        self.at_RST: Tensor | float = 0.0

    def __call__(self, tile: Tile, grad_NC: Tensor) -> None:
        cut_RSC = self.spans.kept(grad_NC)
        self.gram_RSS = self.gram_RSS + gram(cut_RSC)
        self.bias_R = self.bias_R + cut_RSC.sum(1).square().sum(1)
        if self.ids_RT is not None:
            at = self.ids_RT - tile.column
            inside = (at >= 0) & (at < tile.width)
            index = at.clamp(0, tile.width - 1)[:, None].expand(-1, cut_RSC.shape[1], -1)
            self.at_RST = self.at_RST + cut_RSC.gather(2, index) * inside[:, None]


def together(policy: Policy, layers: Layers, batch: Batch) -> Tensor:
    """``[R]``: the norms of rows, each of one response token at least, in one pass.

    Raises:
        Unfit: a layer is used in another way than once, on all tokens.
    """
    head, embedding = layers.head, layers.embedding
    learned, tied = embedding.weight.requires_grad, embedding.weight is head.weight
    rows = Apart.of(batch, policy.device)
    policy.passed_tokens += len(rows.ids_L)
    squares = Squares(layers, rows, len(batch))
    seen = [
        HeadSquares(answers, rows.ids_L[spans.at_RT] if tied else None)
        for answers, spans in zip(rows.read_spans, rows.spans, strict=True)
    ]

    def show(tile: Tile, grad_NC: Tensor) -> None:
        for part in seen:
            part(tile, grad_NC)

    made_by = {"made_by": squares.made_by} if any(map(is_fused, layers_of(policy.model))) else {}
    with torch.enable_grad(), _watched(layers, squares):
        hidden_ND = hidden_states(policy.model, {**rows.inputs, **made_by})[0][0, rows.read_N]
        logp_N, _ = LogProbEntropy.apply(
            hidden_ND, head.weight, head.bias, batch.response_BT[batch.mask_BT].to(policy.device),
            policy.temperature, _cells(policy)[1], policy.network.curve, True, False, show,
        )  # fmt: skip
        logp_N.sum().backward()
    squares.check()
    for part, where in zip(seen, rows.spans, strict=True):
        answer_RSD = part.spans.kept(hidden_ND.detach())
        if head.weight.requires_grad:
            squares.all.add(part.gram_RSS * gram(answer_RSD), where.rows)
        if head.bias is not None and head.bias.requires_grad:
            squares.all.add(torch.as_tensor(part.bias_R)[:, None], where.rows)
        if learned:
            assert squares.embedded is not None and squares.embedded.grad is not None
            ids_RT, first_RTD = rows.ids_L[where.at_RT], where.kept(squares.embedded.grad[0])
            if embedding.padding_idx is not None:  # its vector is never learned from
                first_RTD = first_RTD * (ids_RT != embedding.padding_idx)[..., None]
            squares.all.add(gram(first_RTD) * (ids_RT[:, :, None] == ids_RT[:, None]), where.rows)
            if tied:
                squares.all.add(2 * part.at_RST * gram(answer_RSD, first_RTD), where.rows)
    return squares.finished().clamp(min=0).sqrt().cpu()
