"""Whether R = -a exp(H) + b may be read as a law of a row: what was tested, and what breaks it.

The law (arXiv 2505.22617) is about training on verdicts in which nothing holds the entropy up. In its paper
GRPO, RLOO, REINFORCE++ and PRIME lie on one curve; entropy control, a KL penalty and old rollouts break it.
"""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter
from pathlib import Path

from harness.registry import cards, methods
from harness.report.analysis.levels import INACTIVE
from harness.report.analysis.scores import mean_of
from harness.report.data.groups import Group
from harness.util.errors import UserError

#: What a card may say: tested by the law's paper, or what holds the entropy up; nothing where neither is so.
WORDS = ("tested", "controls entropy", "KL penalty")
UNTESTED = "not tested by the paper"


def why_not(group: Group, reference: Group | None) -> str:
    """Why the law does not apply to a row, or :data:`UNTESTED`; empty where it does."""
    record = group.records[0]
    if record.train.get("random_reward"):
        return "trained on coin flips"
    if record.target_tracking_error is not None:
        return "aims at a target"
    activity = mean_of(group.records, attrgetter("activity"))
    stands = _stands(group.method) if group.role == "method" else ""
    # a method that changed not one token controlled nothing
    if stands not in ("", "tested") and activity != 0.0:
        return stands
    if float(record.hyperparameters.get("kl_coef") or 0.0) > 0:
        return "KL penalty"
    if record.settings.rollout.get("lag") or group.track == "off-policy":
        return "off-policy"
    if reference is None:
        return "no row of plain training to compare with"
    alike = record.method_hash == reference.records[0].method_hash
    if alike or stands == "tested" or (activity is not None and activity < INACTIVE):
        return ""
    return UNTESTED


@lru_cache(maxsize=1024)
def _stands(method: str) -> str:
    """What the method's card says today (older records do not), one of :data:`WORDS` or nothing.

    What one part of a composition does to the entropy the whole does; a part's being tested is not passed on.
    """
    try:
        entry = methods.find(method)
    except UserError:
        return ""  # of another checkout
    if not isinstance(entry, methods.ComposedEntry):
        return card_word(entry.card_path, method.partition("@")[2])
    words = [_stands(part.name) for part in (entry.base, *(part for _, part in entry.parts))]
    return next((word for word in words if word in WORDS[1:]), "")


def card_word(card: Path, variant: str) -> str:
    """``entropy_law`` of a card's header, its own for a variant where there is one; empty without any."""
    if not card.exists():
        return ""
    header, _ = cards.read_header(card, variant)
    word = str(header.get("entropy_law") or "")
    if word and word not in WORDS:
        raise UserError(f"{card.name}: entropy_law '{word}' is not one of {', '.join(WORDS)}")
    return word
