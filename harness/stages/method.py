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


@dataclass(frozen=True)
class FineTuning(Method):
    """A method that trains on demonstrations, as a run of its own or before another method's (``sft.steps``).

    A subclass gives its loss; its :meth:`validate` calls this one's.
    """

    def validate(self, run: RunConfig) -> None:
        """
        Raises:
            UserError: settings of rollouts that a run without rollouts would not heed.
        """
        name, rollout = run.method_name, run.rollout
        if run.train.token_budget is not None:
            raise UserError(
                f"method '{name}' generates no tokens, so train.token_budget={run.train.token_budget} would "
                "never be used up; leave it out and set train.steps"
            )
        for key in ("engine", "lag"):
            if getattr(rollout, key) != getattr(type(rollout)(), key):
                raise UserError(
                    f"method '{name}' trains on demonstrations and draws no rollouts; leave rollout.{key} out"
                )
        if run.train.random_reward:
            raise UserError(f"method '{name}' asks for no verdicts; leave train.random_reward out")


def refuse_single_update(run: RunConfig, keeps: str) -> None:
    """Refuse a run whose rollouts are trained on once, where the old policy is the current one.

    Args:
        keeps: what that leads to, for the message: ``every ratio at 1, so GSPO is GRPO``.

    Raises:
        UserError: one minibatch and one epoch.
    """
    if run.train.minibatches * run.train.epochs == 1:
        raise UserError(f"one update per rollout keeps {keeps}; raise train.minibatches")
