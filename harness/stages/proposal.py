"""The hook between gradient and step: an optimiser step that is about to be made, and what it would do."""

from __future__ import annotations

from typing import Protocol


class ProposedStep(Protocol):
    """The change p of the weights that the optimiser proposes, its moments and weight decay included.

    A stage that sets ``needs_proposal`` sees it after the gradient is clipped and the learning rate is set.
    """

    @property
    def length(self) -> float:
        """Length of p: its 2-norm over all trained weights."""

    def spread(self) -> float:
        """The largest of ``max_k a_k - min_k a_k`` over the minibatch's response tokens.

        a is the derivative of a token's logits, divided by the loss temperature, along p / |p| at the weights
        before the step; 0 where p is. Takes two forward passes when it is first asked for, or a few more.
        """
