"""vLLM for real, on a CPU: what is drawn, where it stops, and the log-probs that come with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency

from harness.rollout.engines.base import Completion, GenerationRequest, Sampling, open_engine
from harness.util.errors import UserError

PROMPTS = ((5, 6, 7, 8), (9, 10), (11, 12, 13))
PLAIN = Sampling(1.0, 1.0, 12)


def requests(
    n: int = 6, prompts: tuple[tuple[int, ...], ...] = PROMPTS, seed: object = "test"
) -> list[GenerationRequest]:
    return [
        GenerationRequest((seed, p, i), prompt, (p, i)) for p, prompt in enumerate(prompts) for i in range(n)
    ]


def drawn(engine: Any, wanted: list[GenerationRequest], sampling: Sampling = PLAIN) -> dict[Any, Completion]:
    return {c.request.tag: c for c in engine.generate(wanted, sampling)}


def test_it_says_what_it_is(engine: Any) -> None:
    told = engine.describe()
    assert (told["engine"], told["dtype"], told["tested"]) == ("vllm", "float32", True)
    assert engine.max_positions == 512
    assert engine.determinism == "same-samples"


def test_every_request_is_answered(engine: Any) -> None:
    wanted = requests(30)  # more than run side by side
    got = drawn(engine, wanted)
    assert set(got) == {r.tag for r in wanted}
    for completion in got.values():
        assert 1 <= len(completion.token_ids) <= 12
        assert len(completion.logps) == len(completion.token_ids)
        assert all(logp < 0 for logp in completion.logps)
        assert completion.text == engine.tokenizer.decode(completion.token_ids, skip_special_tokens=True)
        assert (completion.stop_reason == "end") == (completion.token_ids[-1] == 1)
        assert completion.stop_reason == "end" or len(completion.token_ids) == 12


def test_completions_come_as_they_finish_and_requests_are_read_as_needed(engine: Any) -> None:
    read = []

    def source() -> Iterator[GenerationRequest]:
        for request in requests(200, PROMPTS[:1]):
            read.append(request)
            yield request

    stream = engine.generate(source(), Sampling(1.0, 1.0, 100))
    first = next(stream)
    assert len(first.token_ids) < 100, "the short ones do not wait for the long ones"
    assert len(read) == 2 * engine.batch_rows
    stream.close()
    assert len(drawn(engine, requests(1))) == 3, "what was left over is gone"


def test_samples_of_a_prompt_differ_and_are_reproducible(engine: Any) -> None:
    first, again = drawn(engine, requests(30)), drawn(engine, requests(30))
    assert {t: c.token_ids for t, c in first.items()} == {t: c.token_ids for t, c in again.items()}
    for prompt in range(len(PROMPTS)):
        assert len({first[prompt, i].token_ids for i in range(30)}) >= 25
    other = drawn(engine, requests(30, seed="other"))
    assert sum(other[t].token_ids == first[t].token_ids for t in first) <= 3


def test_a_sample_is_the_same_alone_and_in_a_batch(engine: Any) -> None:
    """What the level same-samples claims: a sample depends on its key, not on what is drawn beside it."""
    together = drawn(engine, requests(12), Sampling(0.8, 0.95, 24))
    for request in reversed(requests(12)):
        (alone,) = engine.generate([request], Sampling(0.8, 0.95, 24))
        assert alone.token_ids == together[request.tag].token_ids
        assert alone.logps == pytest.approx(together[request.tag].logps, abs=1e-4)


def forward(hf: Any, completion: Completion, temperature: float = 1.0) -> list[float]:
    """Log-probs of a completion's tokens by one transformers forward pass."""
    ids = torch.tensor([[*completion.request.prompt_ids, *completion.token_ids]])
    start = len(completion.request.prompt_ids)
    with torch.no_grad():
        logp = (hf.policy.model(ids).logits[0] / temperature).log_softmax(1)
    return logp[start - 1 : -1].gather(1, ids[0, start:, None])[:, 0].tolist()


@pytest.mark.parametrize("sampling", [PLAIN, Sampling(0.6, 0.95, 40), Sampling(0.0, 1.0, 12)])
def test_log_probs_agree_with_transformers(engine: Any, hf: Any, sampling: Sampling) -> None:
    """Full softmax at temperature 1, however the sample was drawn."""
    for completion in drawn(engine, requests(8), sampling).values():
        assert completion.logps == pytest.approx(forward(hf, completion), abs=1e-3)


def test_score_agrees_with_transformers(engine: Any, hf: Any) -> None:
    ids = list(range(4, 90))
    assert engine.score(ids) == pytest.approx(hf.score(ids), abs=1e-3)
    assert engine.score(ids) == pytest.approx(hf.score(ids), abs=1e-3), "no cached prefix shortens it"


def test_greedy_decoding_takes_the_tokens_that_hf_takes(engine: Any, hf: Any) -> None:
    greedy = Sampling(0.0, 1.0, 16)
    ours, theirs = drawn(engine, requests(1), greedy), drawn(hf, requests(1), greedy)
    assert {t: c.token_ids for t, c in ours.items()} == {t: c.token_ids for t, c in theirs.items()}


def test_entropies_of_the_likeliest_tokens_are_those_of_hf(engine: Any, hf: Any) -> None:
    """Also where the sampled token is none of them, which vLLM then tells besides."""
    greedy, hot = Sampling(0.0, 1.0, 16, top_entropy=50), Sampling(1.0, 1.0, 16, top_entropy=2)
    for sampling in (greedy, hot):
        ours, theirs = drawn(engine, requests(2), sampling), drawn(hf, requests(2), sampling)
        compared = [tag for tag, own in ours.items() if own.token_ids == theirs[tag].token_ids]
        assert sampling is hot or len(compared) == len(ours)
        for tag in compared:
            assert ours[tag].entropies == pytest.approx(theirs[tag].entropies, abs=1e-3)
        for own in ours.values():
            assert len(own.entropies) == len(own.token_ids) and min(own.entropies) >= 0
    assert max(max(own.entropies) for own in ours.values()) <= 2 / np.e + 1e-6, "two tokens have no more"
    with pytest.raises(UserError, match="engine=hf"):
        drawn(engine, requests(1), Sampling(0.0, 1.0, 16, top_entropy=101))


def test_stop_ids_are_told_from_end_tokens(engine: Any) -> None:
    plain = drawn(engine, requests(20))
    letter = max(range(4, 96), key=lambda i: sum(i in c.token_ids[:-1] for c in plain.values()))
    stopped = drawn(engine, requests(20), Sampling(1.0, 1.0, 12, stop_ids=(letter,)))
    assert {c.stop_reason for c in stopped.values()} == {"end", "stop", "length"}
    for tag, completion in stopped.items():
        whole = plain[tag].token_ids
        assert completion.token_ids == (whole[: whole.index(letter) + 1] if letter in whole else whole)
        assert (completion.stop_reason == "stop") == (letter in whole)


def test_stop_texts_end_a_response_as_with_hf(engine: Any, hf: Any) -> None:
    sampling = Sampling(1.0, 1.0, 12, stop_texts=("e", "the"))
    plain, stopped = drawn(engine, requests(20)), drawn(engine, requests(20), sampling)
    assert {c.stop_reason for c in stopped.values()} >= {"stop", "length"}
    for tag, completion in stopped.items():
        whole = plain[tag]
        if "e" in whole.text:
            assert completion.text == whole.text[: whole.text.index("e") + 1]
            assert completion.stop_reason == "stop"
            assert completion.token_ids == whole.token_ids[: len(completion.token_ids)]
            assert "e" not in engine.tokenizer.decode(completion.token_ids[:-1])
        else:
            assert (completion.token_ids, completion.stop_reason) == (whole.token_ids, whole.stop_reason)
    assert all(
        c.text.endswith("e") == (c.stop_reason == "stop") for c in drawn(hf, requests(20), sampling).values()
    )


def chi_square_p(own: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> float:
    """p-value of equal distributions of whole sequences; rare ones are pooled."""
    outcomes = sorted(set(own) | set(other))
    counts = np.array([[side.count(o) for o in outcomes] for side in (own, other)])
    common = counts.sum(0) >= 20
    table = np.column_stack([counts[:, common], counts[:, ~common].sum(1)])
    assert table.shape[1] >= 6
    return float(chi2_contingency(table[:, table.sum(0) > 0]).pvalue)


@pytest.mark.parametrize("sampling", [Sampling(1.0, 1.0, 1), Sampling(0.7, 0.9, 2)])
def test_same_distribution_as_hf(engine: Any, hf: Any, sampling: Sampling) -> None:
    wanted = requests(2000, PROMPTS[:1])
    sides = [[c.token_ids for c in side.generate(wanted, sampling)] for side in (engine, hf)]
    assert chi_square_p(*sides) > 0.01


def test_the_comparison_would_notice_another_temperature(engine: Any, hf: Any) -> None:
    wanted = requests(2000, PROMPTS[:1])
    own = [c.token_ids for c in engine.generate(wanted, Sampling(0.85, 1.0, 1))]
    other = [c.token_ids for c in hf.generate(wanted, Sampling(1.0, 1.0, 1))]
    assert chi_square_p(own, other) < 1e-3


def test_what_it_cannot_do_is_refused(engine: Any) -> None:
    with pytest.raises(UserError, match="set max_tokens to 412 or less"):
        list(engine.generate([GenerationRequest((1,), (5,) * 100)], Sampling(1.0, 1.0, 413)))
    with pytest.raises(UserError, match="stop id 96"):
        list(engine.generate(requests(), Sampling(1.0, 1.0, 5, stop_ids=(96,))))
    with pytest.raises(UserError, match="engine=hf"):
        list(engine.generate(requests(), Sampling(0.001, 1.0, 5)))
    with pytest.raises(UserError, match="outside the model's vocabulary of 96"):
        list(engine.generate([GenerationRequest((1,), (5, 1000))], PLAIN))
    assert len(drawn(engine, requests(1))) == 3, "a refused request does no harm"


def test_two_iterators_at_a_time_are_refused(engine: Any) -> None:
    stream = engine.generate(requests(), PLAIN)
    next(stream)
    with pytest.raises(RuntimeError, match="still being drawn"):
        engine.score([5, 6])
    stream.close()
    engine.score([5, 6])


def test_a_second_engine_in_this_process_is_refused(engine: Any, models: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="already open in this process"):
        open_engine("vllm", str(models(0)), device="cpu")
