"""The built-in embedder, and a sentence-embedding model from a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.stages.embeddings import HASHED, check_embedder, cosine, embedder, hashed_ngrams
from harness.util.errors import UserError
from tests.helpers.tiny import build_tokenizer, save_tiny


def test_ngrams_see_spelling() -> None:
    same, swapped, other = hashed_ngrams(["the quick fox", "the fox quick", "12 = 3 x 4"])
    near = cosine(torch.stack([same, same, swapped, other]))
    assert near.diagonal().tolist() == pytest.approx([1.0] * 4)
    assert float(near[0, 1]) == pytest.approx(1.0) and 0.3 < float(near[0, 2]) < 1 > 0.2 > float(near[0, 3])
    assert same.sum() == 11 + 10 + 9  # windows of 13 characters


def test_short_and_odd_texts() -> None:
    vectors = hashed_ngrams(["", "ab", "abc", "\ud800\u4f60\U0001f600"])
    assert vectors.sum(1).tolist() == [0.0, 0.0, 1.0, 1.0]
    assert cosine(vectors)[0].tolist() == [0.0] * 4
    long = "x" * 10 + "y" * 64_000
    assert torch.equal(hashed_ngrams([long]), hashed_ngrams(["y" * 64_000]))  # the end is kept
    assert embedder(HASHED) is hashed_ngrams and check_embedder(HASHED) is None


def sentence_model(folder: Path, **pooling: bool) -> Path:
    save_tiny(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


@pytest.mark.parametrize("mode", ["lasttoken", "mean_tokens", "cls_token"])
def test_a_model_embeds_each_text_by_itself(tmp_path: Path, mode: str) -> None:
    from transformers import AutoModel

    folder = sentence_model(tmp_path, **{f"pooling_mode_{mode}": True})
    embed = embedder(str(folder))
    texts = ["the quick brown fox", "say a word", ""]
    found = embed(texts)
    assert found.dtype == torch.float64 and torch.equal(embed(texts[1:2]), found[1:2])
    model, ids = AutoModel.from_pretrained(folder).eval(), build_tokenizer()(texts[0], return_tensors="pt")
    with torch.no_grad():
        hidden = model(**ids).last_hidden_state[0].double()
    wanted = {"lasttoken": hidden[-1], "mean_tokens": hidden.mean(0), "cls_token": hidden[0]}[mode]
    torch.testing.assert_close(found[0], wanted, rtol=1e-5, atol=1e-6)


def test_what_is_missing_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hf download some/model"):
        check_embedder("some/model")
    with pytest.raises(UserError, match="take method.embedder=hashed-ngrams"):
        check_embedder("no name / of the hub")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"has no 1_Pooling/config.json, \*.safetensors"):
        check_embedder(str(tmp_path))
    with pytest.raises(UserError, match="no single one of pooling_mode_lasttoken"):
        check_embedder(str(sentence_model(tmp_path / "model", pooling_mode_max_tokens=True)))
