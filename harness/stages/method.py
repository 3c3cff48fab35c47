"""What a method is: a frozen dataclass of flat hyper-parameters that composes stages, and its card."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.util.errors import UserError

if TYPE_CHECKING:
    from harness.config.schema import RunConfig
    from harness.stages.base import Stages


@dataclass(frozen=True)
class Method:
    """Base of all methods.

    Subclasses are frozen dataclasses whose fields are made by :func:`~harness.config.fields.hp`. They
    implement :meth:`stages`, and may refuse combinations in :meth:`validate`. ``@register`` sets ``name``.
    """

    name: ClassVar[str] = ""

    def stages(self) -> Stages:
        """The stages of one run; called once, so components made here carry the run's state."""
        raise NotImplementedError

    def validate(self, run: RunConfig) -> None:
        """Refuse what makes no sense in this run, before any work.

        Raises:
            UserError: says what is wrong and names the remedy.
        """

    def hyperparameters(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def refuse_single_update(run: RunConfig, keeps: str) -> None:
    """Refuse a run whose rollouts are trained on once, where the old policy is the current one.

    Args:
        keeps: what that leads to, for the message: ``every ratio at 1, so GSPO is GRPO``.

    Raises:
        UserError: one minibatch and one epoch.
    """
    if run.train.minibatches * run.train.epochs == 1:
        raise UserError(f"one update per rollout keeps {keeps}; raise train.minibatches")
