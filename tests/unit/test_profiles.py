"""Templates and profiles: what a model is given, how it is sampled, and what counts as another profile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.evaluation import profiles
from harness.grading.graders import GRADERS
from harness.problems import templates
from harness.problems.templates import TEMPLATES, Templated
from harness.rollout.engines.text import encode
from harness.util.errors import UserError
from tests.helpers.math_files import write_sets
from tests.helpers.tiny import LetterBenchmark, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer()


def qwen_like() -> Any:
    made = build_tokenizer()
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return made


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_holds_the_question_once(name: str) -> None:
    template, model = templates.find(name), qwen_like()
    template.check(model)
    question = "What is $\\frac{1}{2}$ of {4}?"
    text = template.render(question, model)
    assert text.count(question) == 1 and "{question}" not in text
    assert template.grader in GRADERS
    if template.system:
        assert text.index(template.system) < text.index(question)


def test_functional_strings_are_those_of_the_papers(tokenizer: Any) -> None:
    boxed = "Please reason step by step, and put your final answer within \\boxed{}."
    assert templates.find("qwen-math").render("Q") == (
        f"<|im_start|>system\n{boxed}<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    )
    assert templates.find("r1").render("Q").endswith("\nUser: Q\nAssistant: <think>")
    assert templates.find("r1").stop_texts == ("</answer>",)
    assert templates.find("bare").render("Q") == "Q"
    assert templates.find("chat-boxed").render("Q", tokenizer) == f"<|user|>Q\n{boxed}<|end|><|assistant|>"
    dapo = templates.find("dapo").render("Q", tokenizer)
    assert "should be of the form Answer: $Answer (without quotes)" in dapo and "\n\nQ\n\n" in dapo
    ours = {name for name, t in TEMPLATES.items() if t.wording == "ours"}
    assert ours == {"plain", "r1", "dapo-boxed", "think-boxed"}


def test_only_what_needs_a_chat_template_asks_for_one(tokenizer: Any) -> None:
    base = build_tokenizer()
    base.chat_template = None
    for name, template in TEMPLATES.items():
        if template.chat:
            with pytest.raises(
                UserError, match=f"template '{name}' needs a chat template.*use template=plain"
            ):
                template.check(base)
        elif not template.tokens:
            template.check(base)
    with pytest.raises(UserError, match=re.escape("the token <|im_start|>, which")):
        templates.find("qwen-math").check(base)


def test_a_begin_token_of_the_chat_template_stays_the_only_one() -> None:
    from tokenizers.processors import TemplateProcessing

    model = build_tokenizer()
    model.add_special_tokens({"bos_token": "<|begin|>"})
    model.chat_template = "{{ bos_token }}" + model.chat_template
    model._tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", model.bos_token_id)]
    )
    for name in ("chat-boxed", "plain"):
        ids = encode(model, templates.find(name).render("the dog", model))
        assert ids[0] == model.bos_token_id and ids.count(model.bos_token_id) == 1


def test_a_training_set_takes_a_template(tmp_path: Path, tokenizer: Any) -> None:
    from harness.registry import benchmarks as registry

    plain = registry.load_from("gsm8k", str(tmp_path), write_sets(tmp_path, ("gsm8k",)))
    dapo = Templated(plain, templates.find("dapo"), tokenizer)
    before, after = plain.problems("test"), dapo.problems("test")
    assert [p.id for p in before] == [p.id for p in after] and dapo.splits() == plain.splits()
    assert after[0].prompt == templates.find("dapo").render(str(before[0].meta["question"]), tokenizer)
    assert dapo.fingerprint() != plain.fingerprint()
    # the template's grader judges: DAPO's reads the last line, not a box
    assert dapo.verify(after[0], "Answer: 2").correct and not dapo.verify(after[0], "\\boxed{2}").correct
    assert [v.correct for v in dapo.verify_all(after, ["Answer: 2", "Answer: 3", "Answer: 6"])] == [
        True,
        False,
        True,
    ]
    with pytest.raises(UserError, match="has a prompt of its own; leave data.template empty"):
        Templated(LetterBenchmark(), templates.find("plain"), tokenizer).problems("train")  # type: ignore[arg-type]


def test_the_standard_profile_is_the_documented_one() -> None:
    standard = profiles.find("standard")
    assert [(d.name, d.temperature, d.top_p, d.small, d.large) for d in standard.draws] == [
        ("avg", 0.6, 0.95, 64, 8), ("pass", 1.0, 1.0, 64, 8),
    ]  # fmt: skip
    assert [standard.tokens(context) for context in (4096, 32768, None)] == [3072, 8192, 8192]
    dapo = profiles.find("dapo")
    assert (dapo.draws[0].temperature, dapo.draws[0].top_p, dapo.tokens(4096)) == (1.0, 0.7, 20480)
    assert dapo.grader == "math-dapo" and dapo.draws[0].small == 32


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_profile_is_complete(name: str) -> None:
    profile = profiles.find(name)
    assert profile.template in TEMPLATES and profile.grader in GRADERS and profile.note
    assert any(d.small for d in profile.draws) and any(d.large for d in profile.draws)
    record = profile.as_record()
    assert record["hash"] == profile.hash and record["template"]["text"] == TEMPLATES[profile.template].text


def test_no_two_profiles_share_a_hash() -> None:
    assert len({p.hash for p in profiles.PROFILES.values()}) == len(profiles.PROFILES)


def test_changes_make_another_profile() -> None:
    standard = profiles.find("standard")
    assert profiles.find("standard", {"pass.temperature": "1.0"}) == standard  # nothing changed
    for changes in (
        {"n": "16"}, {"avg.n": "16"}, {"pass.temperature": "0.8"}, {"max_tokens": "512"}, {"limit": "3"},
        {"limit": "3@0"},
        {"template": "bare"}, {"grader": "math-dapo"}, {"sampling": "avg"}, {"avg.top_p": "0.9"},
    ):  # fmt: skip
        changed = profiles.find("standard", changes)
        assert changed.hash != standard.hash and changed.label == "standard+changes"
        assert dict(changed.changes) == changes
    assert [d.small for d in profiles.find("standard", {"pass.n": "128"}).draws] == [64, 128]
    assert profiles.find("standard", {"template": "dapo"}).grader == "math-dapo"
    assert profiles.find("oat", {"template": "r1"}).grader == "math-verify-boxed"  # both read a box
    both = {"grader": "integer", "template": "dapo"}
    assert profiles.find("standard", both).grader == "integer"
    mentor = profiles.find("mentor", {"n": "4"})
    assert [(d.small, d.large) for d in mentor.draws] == [(4, 0), (0, 4)]  # sets left out stay left out


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("standart", {}, "unknown profile 'standart'; did you mean standard"),
        ("standard", {"n": "0"}, "n=0 must be a whole number of at least 1"),
        ("standard", {"temperature": "1"}, "samples in 2 ways; say avg.temperature or pass.temperature"),
        ("oat", {"temperature": "-1"}, "temperature=-1 is below 0; 0 is greedy"),
        ("oat", {"top_p": "1.5"}, "outside (0, 1]"),
        ("oat", {"temperature": "warm"}, "temperature=warm is not a number"),
        ("standard", {"template": "chatml"}, "unknown template 'chatml'"),
        ("standard", {"sampling": "greedy"}, "unknown sampling of profile standard 'greedy'"),
        ("standard", {"limit": "@1"}, "limit= must be a whole number of at least 1"),
        ("standard", {"limit": "0@1"}, "limit=0 must be a whole number of at least 1"),
        ("standard", {"limit": "20@"}, "the seed behind @ must be a whole number, e.g. limit=20@1"),
        ("standard", {"limit": "20@one"}, "limit=N without it takes the first N problems"),
        ("standard", {"avgn": "3"}, "unknown profile setting 'avgn'"),
    ],
)
def test_mistakes_name_the_remedy(name: str, changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        profiles.find(name, changes)


def test_a_seed_of_the_limit_is_told_and_absent_otherwise() -> None:
    """Profiles without one keep the hash that they had before there was one."""
    first, drawn, other = (profiles.find("oat", {"limit": text}) for text in ("20", "20@3", "20@4"))
    assert len({first.hash, drawn.hash, other.hash}) == 3
    assert "limit_seed" not in first.as_record() and drawn.as_record()["limit_seed"] == 3
    assert first.as_record()["limit"] == drawn.as_record()["limit"] == 20
    assert drawn.as_record()["changes"] == {"limit": "20@3"}
    assert profiles.find("standard").hash == "69318dd8a077"


def test_k_needs_twice_as_many_samples() -> None:
    profiles.check_ks((1, 4), 8, "math500")
    with pytest.raises(UserError, match="k=8 needs at least 16 samples a problem, but math500 has n=8"):
        profiles.check_ks((1, 8), 8, "math500")
    assert profiles.ks_of(64, ()) == (1, 2, 4, 8, 16, 32) and profiles.ks_of(8, ()) == (1, 2, 4)
    assert profiles.ks_of(1, ()) == (1,) and profiles.ks_of(64, (3,)) == (3,)
