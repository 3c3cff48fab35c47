"""Prompts and ends of responses are read by real vLLM as they are everywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.model.policy import load_policy
from harness.problems.problem import Problem
from harness.rollout.engine_sampler import EngineSampler
from harness.rollout.engines.base import open_engine
from harness.rollout.roll_out import roll_out
from harness.stages.batch import Batch
from harness.stages.requests import Prompt
from tests.helpers.tiny import build_model, build_tokenizer
from tests.vllm_engine.conftest import OPTIONS

PROMPTS = [Prompt(Problem(text, text), i) for i, text in enumerate(("the fox", "say a word"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer closes texts, has a chat end, and an ordinary piece that looks like an end."""
    from tokenizers.processors import TemplateProcessing

    made = tmp_path_factory.mktemp("ends")
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["</s>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|user|> $A <|end|>", special_tokens=[("<|user|>", 2), ("<|end|>", 1)]
    )
    model = build_model(
        tokenizer, scale=0.2, hidden_size=64, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=512,
    )  # fmt: skip
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def opened(folder: Path) -> Iterator[Any]:
    engine = open_engine("vllm", str(folder), **OPTIONS)
    yield engine
    engine.close()


def rolled_out(opened: Any, folder: Path, stop_texts: tuple[str, ...] = ()) -> tuple[Any, Batch]:
    policy = load_policy(folder)
    policy.stop_texts = stop_texts
    keys = [(p.group, i) for p in PROMPTS for i in range(40)]
    by = EngineSampler(policy, "vllm", "same-samples", lambda: opened)
    return policy, roll_out(policy, PROMPTS, 40, keys=keys, temperature=1.0, max_tokens=30, by=by)


def test_it_reads_prompts_and_ends_as_training_does(opened: Any, folder: Path) -> None:
    policy = load_policy(folder)
    piece, chat_end = policy.tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"])
    assert opened.end_ids == policy.eos_ids == (1, chat_end)
    for text in ("the fox", "<|user|>the fox", "the fox<|end|>", "</s>"):
        assert opened.encode(text) == policy.encode(text)
    assert opened.encode("the fox")[0] == 2 and opened.encode("the fox")[-1] != 1
    assert piece not in opened.end_ids


def test_rollouts_end_at_chat_ends(opened: Any, folder: Path) -> None:
    policy, batch = rolled_out(opened, folder)
    chat_end = policy.tokenizer.convert_tokens_to_ids("<|im_end|>")
    lasts = [int(ids[mask][-1]) for ids, mask in zip(batch.response_BT, batch.mask_BT, strict=True)]
    assert lasts.count(chat_end) == int((batch.response_BT[batch.mask_BT] == chat_end).sum()) > 0
    assert [bool(cut) for cut in batch.truncated_B] == [last not in policy.eos_ids for last in lasts]


def test_rollouts_end_at_stop_texts(opened: Any, folder: Path) -> None:
    _, plain = rolled_out(opened, folder)
    policy, batch = rolled_out(opened, folder, ("er", "s"))
    ended = [text.endswith(("er", "s")) for text in batch.texts]
    assert sum(ended) > 5 and not batch.truncated_B[ended].any()
    for row, text in enumerate(batch.texts):
        assert "er" not in text[:-1] and "s" not in text[:-1]
        ids = batch.response_BT[row][batch.mask_BT[row]].tolist()
        assert ids == plain.response_BT[row][plain.mask_BT[row]].tolist()[: len(ids)]
        assert policy.decode([ids])[0].startswith(text)
