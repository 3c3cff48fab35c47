"""The one batch type: what a training step knows about its rollouts.

Shape letters: ``B`` rollouts (rows), ``P`` prompt positions (left-padded), ``T`` response positions
(right-padded). A row's response starts at column 0 of every ``_BT`` tensor, so position ``t`` of
``logp_BT`` is the log-probability of response token ``t``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import torch

from harness.problems.problem import Problem, Verdict

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Rollouts of one step; every stage returns a new one, none changes it in place.

    Attributes:
        prompt_BP: prompt token ids, left-padded (int64).
        prompt_mask_BP: true on prompt tokens.
        response_BT: response token ids, right-padded (int64); the end token is part of the response.
        mask_BT: true on response tokens.
        group_B: index of the rollout group; advantages and filters work per group.
        sample_B: index of the rollout within its group.
        temperature_B: sampling temperature of the row.
        truncated_B: true where the row met the token limit before an end token.
        rollout_logp_BT: log-prob of the sampled token under the engine that sampled it, full softmax
            at the loss temperature (not the sampling temperature when the two differ).
        problems: problem of each row.
        texts: text the verifier judges, for each row.
        verdicts: the verifier's verdicts; kept apart from the reward, which a method may shape.
        old: statistics under the policy before the update, by name (``logp``, ``entropy`` …), ``[B,T]``
            (prompt statistics ``[B,P]``).
        ref_logp_BT: log-prob under the frozen reference policy, when a stage needs it.
        reward_B: reward after shaping; token-level rewards live in ``reward_BT`` and are summed here.
        advantage_BT: credit of each token.
        loss_mask_BT: tokens that train (default: ``mask_BT``).
        count_mask_BT: tokens and rows that denominators count (default: ``loss_mask_BT``).
        segment_BT: number of the segment that a response token belongs to, from 0 in every response, when a
            stage has cut responses into segments (int64); anything on padding.
        correction_BT: weight of each token's policy loss that makes up for rollouts of another policy
            (:mod:`harness.train.off_policy`), or None.
        draw_BT: uniform numbers in [0,1), fresh in every optimiser step, when a stage needs them.
        token_tags: free values of each response token by name, ``[B,T]``.
        tags: free per-row values (``parent``, ``level``, ``is_replay`` …), each ``[B]``. ``extra`` marks rows
            that plain GRPO would not have had (refills, branches, replays): the activity measure counts
            them. ``judged`` is 0 where the verdict is a placeholder, which the metrics leave out.
    """

    prompt_BP: Tensor
    prompt_mask_BP: Tensor
    response_BT: Tensor
    mask_BT: Tensor
    group_B: Tensor
    sample_B: Tensor
    temperature_B: Tensor
    truncated_B: Tensor
    rollout_logp_BT: Tensor
    problems: tuple[Problem, ...]
    texts: tuple[str, ...]
    verdicts: tuple[Verdict, ...] | None = None
    old: Mapping[str, Tensor] = field(default_factory=dict)
    ref_logp_BT: Tensor | None = None
    reward_B: Tensor | None = None
    reward_BT: Tensor | None = None
    advantage_BT: Tensor | None = None
    loss_mask_BT: Tensor | None = None
    count_mask_BT: Tensor | None = None
    segment_BT: Tensor | None = None
    draw_BT: Tensor | None = None
    correction_BT: Tensor | None = None
    tags: Mapping[str, Tensor] = field(default_factory=dict)
    token_tags: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.response_BT.shape[0]

    @property
    def correct_B(self) -> Tensor:
        """1.0 where the verdict is right, else 0.0. Raises if the batch is not verified yet."""
        if self.verdicts is None:
            raise ValueError(
                "the batch has no verdicts yet: yield Verify(batch) in the rollout program first"
            )
        return torch.tensor([float(v.correct) for v in self.verdicts])

    @property
    def length_B(self) -> Tensor:
        """Response length in tokens, end token included."""
        return self.mask_BT.sum(1)

    @property
    def train_mask_BT(self) -> Tensor:
        return self.mask_BT if self.loss_mask_BT is None else self.loss_mask_BT

    @property
    def denominator_mask_BT(self) -> Tensor:
        return self.train_mask_BT if self.count_mask_BT is None else self.count_mask_BT

    def advantages(self) -> Tensor:
        """``advantage_BT``, present from the advantage stage on."""
        if self.advantage_BT is None:
            raise ValueError("no advantages yet: they are set by the advantage stage")
        return self.advantage_BT

    def reference_logp(self) -> Tensor:
        """``ref_logp_BT``, present where a stage sets ``needs_reference``."""
        if self.ref_logp_BT is None:
            raise ValueError("the batch carries no reference log-probs: the stage must set needs_reference")
        return self.ref_logp_BT

    def rewards(self) -> Tensor:
        """``reward_B``, present from the reward stage on."""
        if self.reward_B is None:
            raise ValueError("no rewards yet: they are set by the reward stage")
        return self.reward_B

    def with_(self, **changes: Any) -> Batch:
        """A copy with ``changes`` (named like the attributes)."""
        return replace(self, **changes)

    def tag(self, name: str, default: float = 0.0) -> Tensor:
        """The tag ``name``, or ``default`` on every row, ``[B]``."""
        return self.tags.get(name, torch.full((len(self),), default))

    def with_tags(self, **tags: Tensor) -> Batch:
        return replace(self, tags={**self.tags, **tags})

    def with_token_tags(self, **tags: Tensor) -> Batch:
        return replace(self, token_tags={**self.token_tags, **tags})

    def rows(self, index: Tensor | Sequence[int]) -> Batch:
        """The rows of ``index`` (int64 indices or a bool mask of length B), in that order."""
        index = torch.as_tensor(index)
        index = index.nonzero().flatten() if index.dtype == torch.bool else index.long()
        chosen = index.tolist()

        def pick(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return value[index]
            if isinstance(value, tuple):
                return tuple(value[i] for i in chosen)
            if isinstance(value, Mapping):
                return {k: v[index] for k, v in value.items()}
            return value

        return Batch(**{f.name: pick(getattr(self, f.name)) for f in fields(self)})

    def plain(self) -> dict[str, Any]:
        """The batch as tensors and plain values, for the state of a component; see :meth:`from_plain`."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "problems": [(p.id, p.prompt, p.answer, dict(p.meta), p.solution) for p in self.problems],
            "verdicts": None if self.verdicts is None else [(v.status, v.canonical) for v in self.verdicts],
            "old": dict(self.old),
            "tags": dict(self.tags),
            "token_tags": dict(self.token_tags),
        }

    @classmethod
    def from_plain(cls, state: Mapping[str, Any]) -> Batch:
        """The inverse of :meth:`plain`."""
        problems = tuple(Problem(*values) for values in state["problems"])
        verdicts = None if state["verdicts"] is None else tuple(Verdict(*v) for v in state["verdicts"])
        return cls(**{**state, "problems": problems, "verdicts": verdicts})

    def trimmed(self) -> Batch:
        """Without the columns that are padding in every row (cheaper, never different)."""
        t = int(self.mask_BT.any(0).nonzero().max()) + 1 if bool(self.mask_BT.any()) else 1
        p_cols = self.prompt_mask_BP.any(0).nonzero()
        p0 = int(p_cols.min()) if len(p_cols) else 0
        width_T, width_P = self.mask_BT.shape[1], self.prompt_mask_BP.shape[1]
        if t == width_T and p0 == 0:
            return self

        def cut(name: str, value: Tensor) -> Tensor:
            if name.startswith("prompt_"):
                return value[:, p0:] if value.shape[1] == width_P else value
            return value[:, :t] if value.ndim == 2 and value.shape[1] == width_T else value

        changes: dict[str, Any] = {
            f.name: cut(f.name, getattr(self, f.name))
            for f in fields(self)
            if isinstance(getattr(self, f.name), torch.Tensor) and getattr(self, f.name).ndim == 2
        }
        for name in ("old", "token_tags"):
            changes[name] = {k: cut(k, v) for k, v in getattr(self, name).items()}
        return replace(self, **changes)


def concat(batches: Sequence[Batch]) -> Batch:
    """Stack ``batches`` row-wise, padding prompts on the left and responses on the right.

    Optional fields must be set in all batches or in none; tags missing in some are filled with 0, old
    statistics that some lack are left out.
    """
    if len(batches) == 1:
        return batches[0]
    width_P = max(b.prompt_BP.shape[1] for b in batches)
    width_T = max(b.response_BT.shape[1] for b in batches)

    def stack(name: str, values: Sequence[Tensor]) -> Tensor:
        if values[0].ndim == 1:
            return torch.cat(list(values))
        if name.startswith("prompt_"):
            return torch.cat([torch.nn.functional.pad(v, (width_P - v.shape[1], 0)) for v in values])
        return torch.cat([torch.nn.functional.pad(v, (0, width_T - v.shape[1])) for v in values])

    merged: dict[str, Any] = {}
    for f in fields(Batch):
        values = [getattr(b, f.name) for b in batches]
        if f.name == "tags":
            names = {k for v in values for k in v}
            merged["tags"] = {
                k: torch.cat(
                    [v[k] if k in v else torch.zeros(len(b)) for v, b in zip(values, batches, strict=True)]
                )
                for k in sorted(names)
            }
        elif f.name in ("old", "token_tags"):
            kept = [k for k in values[0] if f.name != "old" or all(k in v for v in values)]
            merged[f.name] = {k: stack(k, [v[k] for v in values]) for k in kept}
        elif all(v is None for v in values):
            merged[f.name] = None
        elif any(v is None for v in values):
            raise ValueError(f"cannot stack batches: field '{f.name}' is set in some of them only")
        elif isinstance(values[0], torch.Tensor):
            merged[f.name] = stack(f.name, values)
        else:
            merged[f.name] = tuple(x for v in values for x in v)
    return Batch(**merged)
