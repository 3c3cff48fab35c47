"""One reading of text: prompts as tokens, where responses end, in training, evaluation and engines alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.model.policy import Policy, load_policy
from harness.model.text import CHAT_ENDS, encode, end_ids, stop_ids
from harness.problems.problem import Problem
from harness.rollout import stopping
from harness.rollout.engines.base import GenerationRequest, Sampling
from harness.rollout.engines.hf import HfEngine
from harness.rollout.progress import Counters, step_context
from harness.rollout.roll_out import roll_out
from harness.stages.batch import Batch
from harness.stages.requests import Prompt
from tests.helpers.tiny import build_model, build_tokenizer, small_run, tiny_policy

FRONT, END = "<|pad|>", "<|end|>"


def closing(front: Sequence[str], back: Sequence[str], begin: str | None = None) -> Any:
    """A tokenizer that puts ``front`` before and ``back`` behind every text."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = build_tokenizer()
    if begin:
        tokenizer.add_special_tokens({"bos_token": begin})
    around = [*front, "$A", *back]
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (*front, *back)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=" ".join(around), special_tokens=ids
    )
    return tokenizer


def with_tokens(*tokens: str, **settings: Any) -> Any:
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    for key, value in settings.items():
        setattr(tokenizer, key, value)
    return tokenizer


@pytest.mark.parametrize(
    ("front", "back", "begin"),
    [
        ((), (), None),
        ((), (), FRONT),
        ((FRONT,), (), FRONT),
        ((FRONT,), (END,), FRONT),
        ((), (END,), None),
        (("<|user|>", FRONT), (END, "<|user|>"), FRONT),
    ],
)
@pytest.mark.parametrize("written", ["", "front", "end", "both"])
def test_training_and_engines_read_a_prompt_alike(
    front: tuple[str, ...], back: tuple[str, ...], begin: str | None, written: str
) -> None:
    tokenizer = closing(front, back, begin)
    said = "".join(front) if written in ("front", "both") else ""
    text = f"{said}the fox{END if written in ('end', 'both') else ''}"
    policy = Policy(build_model(tokenizer), tokenizer)
    bare = tokenizer(text, add_special_tokens=False)["input_ids"]
    added = [] if said else tokenizer.convert_tokens_to_ids(list(front))
    assert policy.encode(text) == [*added, *bare]
    assert HfEngine(policy).encode(text) == encode(tokenizer, text) == policy.encode(text)


def test_a_template_that_writes_the_last_token_in_front_only_gets_the_others() -> None:
    tokenizer = closing(("<|user|>", FRONT), (), FRONT)
    user, pad = tokenizer.convert_tokens_to_ids(["<|user|>", FRONT])
    assert encode(tokenizer, f"{FRONT}the fox")[:3] == [user, pad, encode(tokenizer, "the fox")[2]]


def test_an_end_looked_up_by_its_text_has_to_be_special() -> None:
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["</s>"])  # an ordinary piece of the vocabulary
    piece, end = tokenizer.convert_tokens_to_ids(["</s>", END])
    assert stop_ids(tokenizer, len(tokenizer)) == (end,)
    policy = Policy(build_model(tokenizer), tokenizer)
    assert policy.eos_ids == (end,)
    policy.model.generation_config.eos_token_id = [end, piece]
    assert policy.eos_ids == tuple(sorted((end, piece))), "the generation config names it"
    special = with_tokens("</s>")
    assert stop_ids(special, len(special)) == tuple(sorted(special.convert_tokens_to_ids(["</s>", END])))
    assert stop_ids(special, special.convert_tokens_to_ids("</s>")) == (end,), "it has no embedding"


@pytest.mark.parametrize("token", CHAT_ENDS)
def test_every_known_chat_end_counts_for_policies_and_engines(token: str) -> None:
    tokenizer = with_tokens(token)
    policy = Policy(build_model(tokenizer), tokenizer)
    ids = end_ids(tokenizer, policy.model.generation_config, len(tokenizer))
    assert tokenizer.convert_tokens_to_ids(token) in ids
    assert policy.eos_ids == ids == HfEngine(policy).policy.eos_ids


def test_the_token_that_the_chat_template_closes_an_answer_with_is_an_end() -> None:
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }} <|over|>\n{% endfor %}"
    tokenizer = with_tokens("<|over|>", chat_template=template)
    assert tokenizer.convert_tokens_to_ids("<|over|>") in stop_ids(tokenizer, len(tokenizer))
    broken = with_tokens("<|over|>", chat_template="{{ raise_exception('no answers here') }}")
    assert tokenizer.convert_tokens_to_ids("<|over|>") not in stop_ids(broken, len(broken))


def test_a_token_that_ends_a_message_within_a_turn_ends_no_response() -> None:
    turns = "{% for m in messages %}{{ m.role }}<|end|>{{ m.content }}<|over|>{% endfor %}"
    tokenizer = with_tokens("<|over|>", chat_template=turns, eos_token="<|over|>")
    end, over = tokenizer.convert_tokens_to_ids([END, "<|over|>"])
    assert stop_ids(tokenizer, len(tokenizer)) == (over,)
    tokenizer.chat_template = None
    assert stop_ids(tokenizer, len(tokenizer)) == (end,), "nothing says that its turns end otherwise"


def test_stages_see_the_tokenizers_own_end() -> None:
    policy = tiny_policy()
    policy.model.generation_config.eos_token_id = [0, 1]
    assert policy.eos_ids == (0, 1)
    assert step_context(small_run(), policy, Counters()).eos_id == policy.tokenizer.eos_token_id == 1


def rolled_out(policy: Policy, *, n: int = 40, max_tokens: int = 40) -> Batch:
    prompts = [Prompt(Problem(text, text), i) for i, text in enumerate(("the fox", "say a word"))]
    keys = [(p.group, i) for p in prompts for i in range(n)]
    return roll_out(policy, prompts, n, keys=keys, temperature=1.0, max_tokens=max_tokens)


def evaluated(policy: Policy, sampling: Sampling, n: int = 40) -> list[Any]:
    engine = HfEngine(Policy(policy.model, policy.tokenizer), batch_rows=2 * n)
    wanted = [
        GenerationRequest((group, i), tuple(engine.encode(text)), (group, i))
        for group, text in enumerate(("the fox", "say a word"))
        for i in range(n)
    ]
    done = {c.request.tag: c for c in engine.generate(wanted, sampling)}
    return [done[request.tag] for request in wanted]


def assert_alike(batch: Batch, completions: Sequence[Any]) -> None:
    for row, completion in enumerate(completions):
        assert batch.response_BT[row][batch.mask_BT[row]].tolist() == list(completion.token_ids)
        assert batch.texts[row] == completion.text
        assert bool(batch.truncated_B[row]) == (completion.stop_reason == "length")


def test_training_ends_at_a_chat_end_as_evaluation_does() -> None:
    tokenizer = with_tokens("<|im_end|>")
    policy = Policy(build_model(tokenizer, scale=0.2), tokenizer)
    chat_end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    batch = rolled_out(policy)
    lasts = [int(ids[mask][-1]) for ids, mask in zip(batch.response_BT, batch.mask_BT, strict=True)]
    assert lasts.count(chat_end) > 3, "some rollouts end there"
    assert int((batch.response_BT[batch.mask_BT] == chat_end).sum()) == lasts.count(chat_end)
    assert not any(batch.truncated_B[i] for i, last in enumerate(lasts) if last == chat_end)
    assert_alike(batch, evaluated(policy, Sampling(1.0, 1.0, 40)))


@pytest.mark.parametrize("look_every", [1, 3, 1000])
def test_training_ends_at_a_stop_text_as_evaluation_does(
    look_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "LOOK_EVERY", look_every)
    stops = ("er", "s", " th")
    policy = tiny_policy()
    plain = rolled_out(policy)
    policy.stop_texts = stops
    batch = rolled_out(policy)
    assert_alike(batch, evaluated(policy, Sampling(1.0, 1.0, 40, stop_texts=stops)))
    ended = [text.endswith(stops) for text in batch.texts]
    assert 5 < sum(ended) and not batch.truncated_B[ended].any()
    for row, text in enumerate(batch.texts):
        assert plain.texts[row].startswith(text), "what comes before the stop text is what was drawn"
        assert sum(text[:-1].count(stop) for stop in ("er", "s")) == 0
    assert (batch.rollout_logp_BT[~batch.mask_BT] == 0).all()


def test_the_sampler_stops_early(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    policy = tiny_policy()
    policy.model.base_model.register_forward_hook(lambda *_: passes.append(1))
    policy.stop_texts = tuple("etaoinshrdluqwycfgmpbvkxjz ")
    monkeypatch.setattr(stopping, "LOOK_EVERY", 4)
    rolled_out(policy, n=4, max_tokens=60)
    assert len(passes) < 30, "nobody waits for the token limit"


def test_statistics_at_another_temperature_keep_the_stop_texts() -> None:
    policy = tiny_policy()
    policy.stop_texts = ("</answer>",)
    assert policy.at_temperature(0.5).stop_texts == ("</answer>",)


def test_what_is_saved_reads_alike(tmp_path: Path) -> None:
    tokenizer = with_tokens("<|im_end|>", "<|over|>")
    build_model(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy = load_policy(tmp_path)
    assert policy.eos_ids == stop_ids(tokenizer, len(tokenizer))
