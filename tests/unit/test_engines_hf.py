"""The engine hf: lazy batches, shared prompts, stops, keyed draws, log-probs, weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from harness.model.policy import Policy
from harness.rollout import sampler
from harness.rollout.engines.base import Completion, GenerationRequest, Sampling, open_engine
from harness.rollout.engines.hf import HfEngine
from harness.util.errors import UserError
from tests.helpers.tiny import build_model, build_tokenizer, tiny_folder, tiny_policy

PROMPTS = ((5, 6, 7, 8), (9, 10), (11, 12, 13))
PLAIN = Sampling(1.0, 1.0, 12)


def requests(n: int = 3, prompts: tuple[tuple[int, ...], ...] = PROMPTS) -> list[GenerationRequest]:
    return [
        GenerationRequest(("test", p, i), prompt, (p, i))
        for p, prompt in enumerate(prompts)
        for i in range(n)
    ]


def drawn(
    engine: HfEngine, wanted: list[GenerationRequest], sampling: Sampling = PLAIN
) -> dict[Any, Completion]:
    return {c.request.tag: c for c in engine.generate(wanted, sampling)}


@pytest.fixture
def engine() -> HfEngine:
    return HfEngine(tiny_policy(), batch_rows=5)


def test_open_engine_declares_what_it_is() -> None:
    engine = open_engine("hf", str(tiny_folder()), max_positions=100)
    assert engine.describe()["dtype"] == "float32", "on a CPU"
    assert engine.max_positions == 100
    assert (engine.name, engine.determinism) == ("hf", "bitwise")
    assert sampler.CAPABILITIES - {"token_temperature"} <= engine.capabilities
    assert engine.encode("the fox") == build_tokenizer()("the fox")["input_ids"]
    engine.close()
    engine.close()
    with pytest.raises(UserError, match="exceeds the model's context of 128"):
        open_engine("hf", str(tiny_folder()), max_positions=129)


def test_equals_the_sampler_whatever_the_blocks(engine: HfEngine) -> None:
    wanted = requests()
    out = sampler.sample(engine.policy, PROMPTS, 3, keys=[r.key for r in wanted], max_tokens=12)
    for rows in (1, 2, 4, 5, 100):
        got = drawn(HfEngine(engine.policy, batch_rows=rows), wanted)
        for i, request in enumerate(wanted):
            completion, mask = got[request.tag], out.mask_NT[i]
            assert completion.request is request
            assert list(completion.token_ids) == out.tokens_NT[i][mask].tolist()
            assert completion.logps == pytest.approx(out.logp_NT[i][mask].tolist(), abs=1e-5)
            assert completion.logp_sum == pytest.approx(sum(completion.logps))
            assert completion.stop_reason == ("length" if out.truncated_N[i] else "end")


def test_equal_requests_give_equal_bits(engine: HfEngine) -> None:
    assert drawn(engine, requests()) == drawn(engine, requests())


def test_runs_of_unequal_length_are_all_answered(engine: HfEngine) -> None:
    wanted = [r for r in requests(4) if r.tag not in {(0, 1), (2, 0), (2, 3)}]  # as after a kill
    whole, some = drawn(engine, requests(4)), drawn(engine, wanted)
    assert set(some) == {r.tag for r in wanted}
    assert all(some[tag].token_ids == whole[tag].token_ids for tag in some)


def test_a_prompt_is_prefilled_once(engine: HfEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    inner = engine.policy.model.base_model.forward

    def counted(*args: Any, **given: Any) -> Any:
        passes.append(given["input_ids"].numel())
        return inner(*args, **given)

    monkeypatch.setattr(engine.policy.model.base_model, "forward", counted)
    drawn(HfEngine(engine.policy, batch_rows=9), requests())
    assert passes[0] == sum(map(len, PROMPTS)) and max(passes[1:]) <= 9


def test_requests_are_read_as_they_are_needed(engine: HfEngine) -> None:
    read = []

    def source() -> Iterator[GenerationRequest]:
        for request in requests(100):
            read.append(request)
            yield request

    stream = engine.generate(source(), PLAIN)
    next(stream)
    assert len(read) == engine.batch_rows
    stream.close()


def test_stop_ids_and_end_tokens_are_told_apart(engine: HfEngine) -> None:
    plain = drawn(engine, requests(20))
    letter = max(range(4, 96), key=lambda i: sum(i in c.token_ids[:-1] for c in plain.values()))
    stopped = drawn(engine, requests(20), Sampling(1.0, 1.0, 12, stop_ids=(letter,)))
    assert {c.stop_reason for c in stopped.values()} == {"end", "stop", "length"}
    for tag, completion in stopped.items():
        whole = plain[tag].token_ids
        cut = whole[: whole.index(letter) + 1] if letter in whole else whole
        assert completion.token_ids == cut
        assert (completion.stop_reason == "stop") == (letter in whole)
        assert len(completion.logps) == len(cut)


def test_stop_texts_cut_tokens_text_and_logps(engine: HfEngine) -> None:
    plain = drawn(engine, requests(20))
    stopped = drawn(engine, requests(20), Sampling(1.0, 1.0, 12, stop_texts=("e", "the")))
    assert "stop" in {c.stop_reason for c in stopped.values()}
    for tag, completion in stopped.items():
        whole = plain[tag]
        assert completion.token_ids == whole.token_ids[: len(completion.token_ids)]
        assert len(completion.logps) == len(completion.token_ids)
        if "e" in whole.text:
            assert completion.text == whole.text[: whole.text.index("e") + 1]
            assert completion.stop_reason == "stop"
        else:
            assert completion == whole


def test_texts_hold_no_special_tokens(engine: HfEngine) -> None:
    for completion in drawn(engine, requests(20)).values():
        assert "<|" not in completion.text
        assert (completion.token_ids[-1] == 1) == (completion.stop_reason == "end")


def test_temperature_zero_takes_the_likeliest_token(engine: HfEngine) -> None:
    for completion in drawn(engine, requests(2), Sampling(0.0, 1.0, 6)).values():
        ids = [*completion.request.prompt_ids, *completion.token_ids]
        best = engine.policy.model(torch.tensor([ids])).logits[0].argmax(1).tolist()
        start = len(completion.request.prompt_ids)
        assert ids[start:] == best[start - 1 : -1]


def test_logps_are_those_of_a_forward_pass_at_the_stated_temperature() -> None:
    engine = HfEngine(tiny_policy(temperature=0.7))
    assert engine.logp_temperature == 0.7
    for completion in drawn(engine, requests(), Sampling(1.3, 0.9, 12)).values():
        ids = torch.tensor([[*completion.request.prompt_ids, *completion.token_ids]])
        logp = (engine.policy.model(ids).logits[0] / 0.7).log_softmax(1)
        start = len(completion.request.prompt_ids)
        want = logp[start - 1 : -1].gather(1, ids[0, start:, None])[:, 0].tolist()
        assert completion.logps == pytest.approx(want, abs=1e-4)


def test_score_is_the_log_prob_of_given_tokens(engine: HfEngine) -> None:
    ids = [5, 6, 7, 8, 20]
    logp = engine.policy.model(torch.tensor([ids])).logits[0].detach().log_softmax(1)
    assert engine.score(ids) == pytest.approx([float(logp[i, ids[i + 1]]) for i in range(4)])


def test_prompts_that_do_not_fit_are_refused(engine: HfEngine) -> None:
    with pytest.raises(UserError, match="set max_tokens to 28 or less"):
        list(
            engine.generate(
                [GenerationRequest((1,), tuple(range(5, 95)) + (5,) * 10)], Sampling(1.0, 1.0, 29)
            )
        )
    with pytest.raises(UserError, match="token 1000, outside the model's vocabulary of 96"):
        list(engine.generate([GenerationRequest((1,), (5, 1000))], PLAIN))
    with pytest.raises(UserError, match="no tokens"):
        list(engine.generate([GenerationRequest((1,), ())], PLAIN))
    with pytest.raises(UserError, match="stop id 96 is not in the model's vocabulary"):
        list(engine.generate(requests(), Sampling(1.0, 1.0, 5, stop_ids=(96,))))


def test_new_weights_are_drawn_from(engine: HfEngine) -> None:
    other = build_model(build_tokenizer(), seed=5)
    before = drawn(engine, requests())
    engine.load_weights(other.state_dict().items())
    fresh = tiny_policy()
    fresh.model.load_state_dict(other.state_dict())
    assert drawn(engine, requests()) == drawn(HfEngine(fresh, batch_rows=5), requests())
    assert drawn(engine, requests()) != before


def test_tied_weights_need_one_name() -> None:
    policy = tiny_policy()
    policy.model = build_model(build_tokenizer(), seed=1, tie_word_embeddings=True)
    donor = build_model(build_tokenizer(), seed=2, tie_word_embeddings=True)
    HfEngine(policy).load_weights((n, t) for n, t in donor.state_dict().items() if n != "lm_head.weight")
    assert all(torch.equal(policy.model.state_dict()[n], t) for n, t in donor.state_dict().items())


def test_weights_of_another_model_are_refused(engine: HfEngine) -> None:
    good = engine.policy.weights()
    with pytest.raises(UserError, match="no weight 'other'"):
        engine.load_weights([("other", torch.zeros(1))])
    with pytest.raises(UserError, match="has shape"):
        engine.load_weights([("lm_head.weight", torch.zeros(1, 2))])
    with pytest.raises(UserError, match="no values for 1 weights, such as 'lm_head.weight'"):
        engine.load_weights((n, t) for n, t in good.items() if n != "lm_head.weight")


def test_running_out_of_memory_names_the_knob(engine: HfEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sampler, "sample", full)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 79 * 2**30)
    with pytest.raises(UserError, match="79.0 GiB at the peak.*lower batch_rows .5."):
        drawn(engine, requests())


def test_long_responses_are_the_same_after_a_break_and_in_other_company() -> None:
    """64 samples of a problem over several blocks, then some of them again beside other prompts."""
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, scale=0.2, max_position_embeddings=2048)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] = 0  # the end is rare
    engine = HfEngine(Policy(model, tokenizer), batch_rows=40)
    prompt = tuple(5 + (7 * j + j * j % 3) % 80 for j in range(300))
    wanted = [GenerationRequest(("one problem", i), prompt, i) for i in range(64)]
    whole = drawn(engine, wanted, Sampling(1.0, 1.0, 1200))
    assert len({c.token_ids for c in whole.values()}) == 64
    assert max(len(c.token_ids) for c in whole.values()) > 600
    others = [GenerationRequest(("other", i), (*prompt[i:], *prompt), ("other", i)) for i in range(3)]
    for tag, completion in drawn(engine, [*others, *wanted[50::3]], Sampling(1.0, 1.0, 1200)).items():
        if isinstance(tag, int):
            assert completion.token_ids == whole[tag].token_ids
            assert completion.logps == pytest.approx(whole[tag].logps, abs=1e-3)
