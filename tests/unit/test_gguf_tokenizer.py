"""Tokenizers built from metadata split texts as the ones they were made of."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from harness.model.gguf.convert import convert
from harness.model.policy import load_policy
from harness.util.errors import UserError
from tests.helpers.gguf_files import tiny_model, write_model

CORPUS = [
    "The capital of France is Paris. What is 12 + 345? It's 357, isn't it?",
    "  indented\n\n\tlines with   spaces\r\n and café naïve über 日本語 🙂",
    "\\frac{1}{2}x^2 + \\sqrt{17} = 3.14159 DON'T stop; don't STOP",
]
TEXTS = [
    *CORPUS,
    "",
    " ",
    "a",
    "cafe\u0301 ",
    "1234567 12",
    "<|im_start|>user\nhi<|im_end|>\n",
    "unseen: ☃ ß",
]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def original(pre: str) -> Tokenizer:
    """A byte-pair tokenizer of the kind ``pre``, trained on the texts above."""
    from tokenizers import Regex

    made = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    if pre in ("qwen2", "llama-bpe"):
        cut: Any = pre_tokenizers.Split(Regex(QWEN if pre == "qwen2" else LLAMA3), "isolated")
        steps = [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    else:
        steps = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
        if pre == "smollm":
            steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    if pre == "qwen2":
        made.normalizer = normalizers.NFC()
    made.pre_tokenizer, made.decoder = pre_tokenizers.Sequence(steps), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        CORPUS * 3,
        trainers.BpeTrainer(
            vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        ),
    )
    return made


def metadata(made: Tokenizer, pre: str) -> dict[str, Any]:
    import json

    vocab = made.get_vocab()
    merges = json.loads(made.to_str())["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": sorted(vocab, key=lambda text: vocab[text]),
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(vocab) - 3), "tokenizer.ggml.scores": None,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges], "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }  # fmt: skip


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_byte_pairs(pre: str, tmp_path: Path) -> None:
    made = original(pre)
    values = metadata(made, pre)
    count = len(values["tokenizer.ggml.tokens"])
    values["tokenizer.ggml.tokens"] += [f"[PAD{count}]", f"[PAD{count + 1}]"]  # rows that have no word
    values["tokenizer.ggml.token_type"] += [5, 5]
    write_model(tmp_path / "m.gguf", tiny_model("llama", vocab_size=count + 2), "llama", metadata=values)
    convert(tmp_path / "m.gguf", tmp_path / "out")
    found = load_policy(tmp_path / "out")
    assert len(found.tokenizer) == count
    for text in TEXTS:
        ids = made.encode(text).ids
        assert found.encode(text) == ids, text
        assert found.tokenizer.decode(ids) == made.decode(ids, skip_special_tokens=False)
    assert found.eos_id == 2 and found.eos_ids == (0, 2)  # <|endoftext|> is a chat end, too
    assert found.decode([[*made.encode("hi").ids, 2]]) == ["hi"]


@pytest.mark.parametrize(("begin", "end"), [(True, False), (True, True), (False, False)])
def test_begin_and_end_tokens_stand_where_the_file_says(begin: bool, end: bool, tmp_path: Path) -> None:
    made = original("smollm")
    values = metadata(made, "smollm")
    values |= {"tokenizer.ggml.add_bos_token": begin, "tokenizer.ggml.add_eos_token": end}
    count = len(values["tokenizer.ggml.tokens"])
    write_model(tmp_path / "m.gguf", tiny_model("llama", vocab_size=count), "llama", metadata=values)
    convert(tmp_path / "m.gguf", tmp_path / "out")
    found = load_policy(tmp_path / "out").tokenizer
    inner = made.encode("two words").ids
    assert found("two words")["input_ids"] == [1] * begin + inner + [2] * end
    assert found("two words", add_special_tokens=False)["input_ids"] == inner


def test_merges_that_make_no_word_are_refused(tmp_path: Path) -> None:
    made = original("gpt-2")
    values = metadata(made, "gpt-2")
    model = tiny_model("llama", vocab_size=len(values["tokenizer.ggml.tokens"]))
    for merges, told in ((["q ☃"], "the merge 'q ☃'"), (None, "without merges")):
        write_model(tmp_path / "m.gguf", model, "llama", metadata=values | {"tokenizer.ggml.merges": merges})
        with pytest.raises(UserError, match=told):
            convert(tmp_path / "m.gguf", tmp_path / "out")


PIECES = (
    "▁ t h e a c p i l f o n s r F T . th he the ▁the ▁t ap cap ▁c ▁cap it al ▁of of an ce ance is ▁is is. "
    "tal capital ▁capital ital pit ca ▁F Fr ▁Fr ▁France rance ran nce"
).split()


def sentence_pieces(prefix: bool) -> dict[str, Any]:
    """A vocabulary with bytes, words found beforehand, and scores in an order of their own."""
    head = ["<unk>", "<s>", "</s>", "<pad>", "\n\n", "  "]
    octets = [f"<0x{i:02X}>" for i in range(256)]
    order = PIECES[16:]
    random.Random(5).shuffle(order)
    rank = {text: -float(i) for i, text in enumerate(order)}
    scores = [-1000.0] * 6 + [0.0] * 256 + [rank.get(text, -500.0 - i) for i, text in enumerate(PIECES)]
    return {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": [*head, *octets, *PIECES],
        "tokenizer.ggml.scores": scores, "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.token_type": [2, 3, 3, 3, 4, 4] + [6] * 256 + [1] * len(PIECES),
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 3, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": prefix,
    }  # fmt: skip


def joined(text: str, vocab: dict[str, int], scores: list[float]) -> list[int]:
    """What sentence pieces are by definition: the best neighbours join first; bytes for the rest."""
    parts = list(text)
    while True:
        pairs = [
            (scores[vocab[a + b]], -i)
            for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False))
            if a + b in vocab
        ]
        if not pairs:
            break
        at = -max(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    out: list[int] = []
    for part in parts:
        out += [vocab[part]] if part in vocab else [vocab[f"<0x{octet:02X}>"] for octet in part.encode()]
    return out


@pytest.mark.parametrize("prefix", [True, False])
def test_sentence_pieces(prefix: bool, tmp_path: Path) -> None:
    values = sentence_pieces(prefix)
    texts, scores = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.scores"]
    write_model(tmp_path / "m.gguf", tiny_model("llama", vocab_size=len(texts)), "llama", metadata=values)
    convert(tmp_path / "m.gguf", tmp_path / "out")
    found = load_policy(tmp_path / "out")
    vocab = {text: i for i, text in enumerate(texts) if i > 5}
    chosen = random.Random(11)
    words = [
        "the",
        "capital",
        "of",
        "France",
        "is",
        "is.",
        "that",
        "ran",
        "fence",
        "an",
        "hé☃",
        "thethe",
        "alital",
    ]
    for _ in range(60):
        text = " ".join(chosen.choices(words, k=chosen.randint(1, 6)))
        pieces = joined(("▁" if prefix else "") + text.replace(" ", "▁"), vocab, scores)
        assert found.encode(text) == [1, *pieces], text
        assert found.decode([[1, *pieces, 2]]) == [text]
    assert found.encode("a  a\n\n")[-1] == 4
    assert 5 in found.encode("a  a")


def test_spaces_that_are_found_beforehand_may_be_written_either_way(tmp_path: Path) -> None:
    values = sentence_pieces(False)
    values["tokenizer.ggml.tokens"] = [t if t != "  " else "▁▁" for t in values["tokenizer.ggml.tokens"]]
    count = len(values["tokenizer.ggml.tokens"])
    write_model(tmp_path / "m.gguf", tiny_model("llama", vocab_size=count), "llama", metadata=values)
    convert(tmp_path / "m.gguf", tmp_path / "out")
    assert 5 in load_policy(tmp_path / "out").encode("a  a")
