"""The first grader's symbolic part: math-verify, called inside a worker with its own timeouts off."""

from __future__ import annotations

import logging
from typing import Any, Literal

Status = Literal["right", "wrong", "unparsed"]

_config: Any = None


def load() -> None:
    """Import math-verify and grade one pair, so that its grammar is ready before workers are forked."""
    global _config
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig

    # No unit removal: its list makes "4t" a 4. Units are gone before (harness.grading.normalise).
    normalization = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="last", equations=False
    )
    _config = LatexExtractionConfig(boxed_match_priority=0, normalization_config=normalization)
    judge(gold=r"\frac{1}{2}", pred=r"\frac{2}{4}")


def judge(*, gold: str, pred: str) -> Status:
    """Whether two cleaned answers are equal to math-verify."""
    from math_verify import verify

    gold_parsed = _parse(gold)
    pred_parsed = _parse(pred)
    if not gold_parsed or not pred_parsed:
        return "unparsed"
    right = verify(gold_parsed, pred_parsed, timeout_seconds=None, strict=True, allow_set_relation_comp=True)
    return "right" if right else "wrong"


def _parse(cleaned: str) -> list[Any]:
    from math_verify import parse

    return list(
        parse(
            f"$\\boxed{{{cleaned}}}$",
            extraction_config=[_config],
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=None,
        )
    )
