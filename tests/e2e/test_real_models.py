"""The packaged models themselves: tokens, templates, greedy answers.

SmolLM2 is fetched where it is not here; the two large ones have to be prefetched.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import regex
import torch

from harness.model.gguf.cache import is_there
from harness.model.gguf.packages import PACKAGED
from harness.model.policy import Policy, load_policy
from harness.model.source import model_fingerprint, resolve_model
from tests.helpers import real

pytestmark = pytest.mark.slow
FRANCE = "The capital of France is"
TEXTS = [
    FRANCE, " leading  two   spaces\t\ttab\n\nnew 12345 1,234.5", "I'm you'LL DON'T  ", "\\frac{1}{2}x^2 + 3",
    "caf\u00e9 \u65e5\u672c\u8a9e \U0001f642 \u200b\u0e01", "x" * 40 + "  \r\n\r\n end ",
]  # fmt: skip
#: As llama.cpp documents how these two kinds cut texts: one pattern after the other.
CUTS = {
    "smollm2-135m": (
        r"\p{N}",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    ),
    "qwen2.5-coder-1.5b": (
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> Policy:
    if request.param == real.NAME:
        real.fetched()
    elif not is_there(PACKAGED[request.param].folder):
        pytest.skip(f"not here: entrobench prefetch-model {request.param}")
    dtype = "bfloat16" if request.param.startswith("qwen") else "float32"  # half of 7 GB of memory
    return load_policy(resolve_model(request.param, {}), dtype=dtype)


def with_model(*names: str) -> Callable[[Any], Any]:
    given = [pytest.param(name, marks=[pytest.mark.fetches] * (name == real.NAME)) for name in names]
    mark: Callable[[Any], Any] = pytest.mark.parametrize("model", given, indirect=True, scope="module")
    return mark


def written(policy: Policy) -> Any:
    return json.loads((Path(policy.model.config._name_or_path) / "tokenizer.json").read_text())


def pieces(text: str, patterns: tuple[str, ...]) -> list[str]:
    """``text`` cut wherever a pattern matches, matches and what is between them."""
    parts = [text]
    for pattern in patterns:
        cut = regex.compile(f"({pattern})")
        parts = [piece for part in parts for piece in cut.split(part) if piece]
    return parts


def byte_letters() -> dict[int, str]:
    """The letter that byte pairs write a byte as: itself where it is seen, else the next from 256 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in seen]
    return {b: chr(b) for b in seen} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def byte_pairs(
    text: str, patterns: tuple[str, ...], vocab: dict[str, int], ranks: dict[str, int]
) -> list[int]:
    letters, out = byte_letters(), []
    for piece in pieces(text, patterns):
        parts = [letters[b] for b in piece.encode()]
        while True:
            pairs = [(ranks[f"{a} {b}"], i) for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False))
                     if f"{a} {b}" in ranks]  # fmt: skip
            if not pairs:
                break
            at = min(pairs)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        out += [vocab[part] for part in parts]
    return out


@with_model("smollm2-135m", "qwen2.5-coder-1.5b")
def test_byte_pairs_by_definition(model: Policy, request: pytest.FixtureRequest) -> None:
    content = written(model)["model"]
    ranks = {" ".join(pair): i for i, pair in enumerate(content["merges"])}
    patterns = CUTS[request.node.callspec.params["model"]]
    for text in TEXTS:
        assert model.encode(text) == byte_pairs(text, patterns, content["vocab"], ranks), text
        assert model.decode([model.encode(text)]) == [text]


@with_model("gemma3-270m")
def test_sentence_pieces_by_definition(model: Policy) -> None:
    content = written(model)
    vocab, found = content["model"]["vocab"], {a["content"] for a in content["added_tokens"]}
    for text in TEXTS:
        # runs of spaces, tabs and ends of lines are words that are found beforehand
        parts = [p for p in regex.split(r"( {2,}|\t+|\n+)", text) if p]
        expected = [2]
        for part in parts:
            expected += [vocab[part]] if part in found else joined(part.replace(" ", "▁"), vocab)
        assert model.encode(text) == expected, text
        assert model.decode([expected]) == [text]


def joined(text: str, vocab: dict[str, int]) -> list[int]:
    """Best neighbours first; in Gemma's vocabulary the order of joined pieces is that of their ids."""
    parts = list(text)
    while True:
        pairs = [
            (vocab[a + b], i)
            for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False))
            if a + b in vocab
        ]
        if not pairs:
            break
        at = min(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    out: list[int] = []
    for part in parts:
        out += [vocab[part]] if part in vocab else [vocab[f"<0x{octet:02X}>"] for octet in part.encode()]
    return out


KNOWN = {
    "smollm2-135m": ([504, 3575, 282, 4649, 314], (2,), "<|im_end|>", "Q4_1"),
    "qwen2.5-coder-1.5b": ([785, 6722, 315, 9625, 374], (151645,), "<|im_end|>", "Q4_K_M"),
    "gemma3-270m": ([2, 818, 5279, 529, 7001, 563], (1,), "<eos>", "Q4_K_M"),
}


@with_model(*KNOWN)
def test_tokens_ends_and_origin(model: Policy, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["model"]
    ids, ends, end, label = KNOWN[name]
    assert model.encode(FRANCE) == ids
    assert (model.eos_id,) == ends and set(ends) <= set(model.eos_ids)  # chat ends may come on top
    assert model.tokenizer.eos_token == end
    if name == "smollm2-135m":  # the others are hashed whole as well, which takes long
        assert model_fingerprint(resolve_model(name, {}), None).endswith(f" (dequantised from {label})")


@with_model("smollm2-135m", "qwen2.5-coder-1.5b")
def test_turns_of_a_chat(model: Policy) -> None:
    turns = [{"role": "user", "content": "hi"}]
    text = model.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nYou are ")
    assert text.endswith("<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    ids = model.encode(text)
    start, end = model.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert (ids.count(start), ids.count(end)) == (3, 2)
    assert model.tokenizer.decode(ids) == text


@with_model("smollm2-135m", "qwen2.5-coder-1.5b", "gemma3-270m")
def test_greedy_continuations(model: Policy) -> None:
    """The two that follow instructions know the capital; the third, untuned and small, can count."""
    if model.tokenizer.chat_template:
        assert "Paris" in greedy(model, FRANCE)
    else:
        assert greedy(model, "1, 2, 3, 4, 5, 6,").startswith(" 7, 8, 9")


def greedy(policy: Policy, text: str) -> str:
    ids = torch.tensor([policy.encode(text)])
    out = policy.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    return policy.decode([out[0, ids.shape[1] :].tolist()])[0]


@with_model("smollm2-135m", "gemma3-270m")
def test_saved_and_read_again(model: Policy, tmp_path: Path) -> None:
    model.save(tmp_path)
    again = load_policy(tmp_path)
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert [again.encode(text) for text in TEXTS] == [model.encode(text) for text in TEXTS]
    assert again.eos_ids == model.eos_ids
    assert again.tokenizer.chat_template == model.tokenizer.chat_template
