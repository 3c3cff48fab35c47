"""What becomes of causal language model families: log-probs of their own code, or one line."""

from __future__ import annotations

import pytest

from tests.families.measure import Outcome, all_families, measure, measure_all

#: One of each kind: packed; windows; wrappers; soft caps; scales; learned positions; relative ones; experts;
#: no padding; no cache.
RIGHT = {
    "qwen3": "packed", "llama": "packed", "gemma2": "padded", "gemma3": "padded", "gemma4": "padded",
    "granite": "packed", "cohere2": "padded", "gpt2": "packed", "bloom": "padded", "mixtral": "padded",
    "gpt_oss": "padded", "bart": "by length", "openai-gpt": "padded, no cache", "llama4": "padded",
}  # fmt: skip
REFUSED = {
    "mamba": "carries a state", "falcon_mamba": "carries a state", "nemotron_h": "carries a state",
    "recurrent_gemma": "carries a state", "rwkv": "carries a state", "qwen3_next": "of kind linear_attention",
    "jamba": "carries a state", "xlnet": "reads from left to right",
}  # fmt: skip


#: Families that the first test has measured.
MEASURED: dict[str, Outcome] = {}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_family_is_wrong_or_ends_in_a_traceback() -> None:
    MEASURED.update({outcome.family: outcome for outcome in measure_all(all_families(), 2)})
    outcomes = MEASURED.values()
    assert [o for o in outcomes if o.kind not in ("right", "refused")] == []
    assert sum(o.kind == "refused" for o in outcomes) <= 50


@pytest.mark.parametrize(("family", "how"), RIGHT.items())
def test_the_numbers_are_those_of_the_models_own_code(family: str, how: str) -> None:
    outcome = MEASURED.get(family) or measure(family)
    assert (outcome.kind, outcome.how) == ("right", how), outcome


@pytest.mark.parametrize(("family", "why"), REFUSED.items())
def test_what_cannot_be_right_is_refused_in_one_line(family: str, why: str) -> None:
    outcome = MEASURED.get(family) or measure(family)
    assert outcome.kind == "refused" and why in outcome.said and "\n" not in outcome.said, outcome
