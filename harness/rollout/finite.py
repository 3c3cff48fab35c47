"""NaN and infinity in what a model says: told at the first token, where sampling would go on for ever."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.util.errors import UserError


def not_finite(model: str, key: tuple[object, ...], token: int) -> UserError:
    """What to say of ``model`` where its logits or log-probs are no numbers.

    Args:
        key: of the response (what it is for, seed, problem, sample).
        token: its number in the response, from 1.
    """
    return UserError(
        f"the logits of model '{model}' hold NaN or infinity at token {token} of a response "
        f"({', '.join(map(str, key))}): its weights are damaged, diverged in training, or overflow in their "
        "type; take an earlier checkpoint or another copy, or a wider dtype"
    )


def check_log_probs(logps: Sequence[float], model: str, key: tuple[object, ...]) -> None:
    """Refuse log-probs of a response's tokens that are no numbers.

    Raises:
        UserError: names the model, the response and the token.
    """
    if not all(map(math.isfinite, logps)):
        raise not_finite(model, key, 1 + next(i for i, logp in enumerate(logps) if not math.isfinite(logp)))
