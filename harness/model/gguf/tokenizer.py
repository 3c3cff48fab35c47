"""The tokenizer that a GGUF file describes, as ``tokenizer.json`` and ``tokenizer_config.json``.

Written from the metadata alone, so that it is the same under every version of transformers: what
transformers reads out of such a file differs by version, its end tokens too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.model.gguf.header import GgufFile
from harness.util.errors import UserError

_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 2, 3, 4, 5, 6

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BEHIND_DIGITS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_DIGITS = {"type": "Digits", "individual_digits": True}


def _bytes(regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex}


def _split(pattern: str) -> list[dict[str, Any]]:
    rule = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [rule, _bytes(False)]


#: ``tokenizer.ggml.pre`` -> how a text is cut before pairs are merged, whether it is composed (NFC).
_CUTS: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "gpt-2": ([_bytes(True)], False),
    "smollm": ([_DIGITS, _bytes(True)], False),
    "qwen2": (_split(f"{_CONTRACTIONS}{_WORDS}\\p{{N}}{_BEHIND_DIGITS}"), True),
    "llama-bpe": (_split(f"{_CONTRACTIONS}{_WORDS}\\p{{N}}{{1,3}}{_BEHIND_DIGITS}"), False),
}
#: Of these, a piece that is a word of the vocabulary is taken whole, however pairs would merge.
_WHOLE_WORDS = {"llama-bpe"}


def tokenizer_files(file: GgufFile) -> dict[str, dict[str, Any]]:
    """``tokenizer.json`` and ``tokenizer_config.json``, as values.

    Raises:
        UserError: no tokenizer in the file, one of another kind, or one that contradicts itself.
    """
    words = _Words(file)
    kind = str(file.metadata.get("tokenizer.ggml.model", ""))
    if kind == "gpt2":
        body = _byte_pairs(words)
    elif kind == "llama":
        body = _sentence_pieces(words)
    else:
        raise UserError(
            f"{file.path.name} has a tokenizer of the kind '{kind}', which cannot be converted; known are "
            "gpt2 (byte pairs) and llama (sentence pieces)"
        )
    head = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": words.added()}
    return {"tokenizer.json": head | body, "tokenizer_config.json": _config(words)}


def token_ids(file: GgufFile) -> dict[str, Any]:
    """``generation_config.json``: begin, end and padding tokens; several ends where a turn has its own."""
    words = _Words(file)
    ends = [words.id(name) for name in ("eos", "eot", "eom")]
    known = list(dict.fromkeys(i for i in ends if i is not None))
    found: dict[str, Any] = {"bos_token_id": words.id("bos"), "pad_token_id": words.id("padding")}
    found["eos_token_id"] = known if len(known) > 1 else next(iter(known), None)
    return {name: value for name, value in found.items() if value is not None}


class _Words:
    """The vocabulary, with what each word is for."""

    def __init__(self, file: GgufFile) -> None:
        self.file, data = file, file.metadata
        texts = data.get("tokenizer.ggml.tokens")
        if not isinstance(texts, list) or not texts:
            raise UserError(f"{file.path.name} holds no vocabulary (tokenizer.ggml.tokens); use another file")
        kinds = data.get("tokenizer.ggml.token_type") or [1] * len(texts)
        if len(kinds) != len(texts):
            raise self.wrong(f"{len(kinds)} token types for {len(texts)} tokens")
        if data.get("tokenizer.ggml.model") == "llama":  # they are looked for in texts as people write them
            texts = [
                text.replace("▁", " ") if kind == _USER_DEFINED else text
                for text, kind in zip(texts, kinds, strict=True)
            ]
        pads = len(texts)  # rows that only round the embedding up have no word
        while pads and kinds[pads - 1] == _UNUSED and texts[pads - 1] == f"[PAD{pads - 1}]":
            pads -= 1
        self.texts: Sequence[str] = texts[:pads]
        self.kinds: Sequence[int] = kinds[:pads]
        self.vocab = {text: i for i, text in enumerate(self.texts)}
        if len(self.vocab) != len(self.texts):
            raise self.wrong("a token comes twice")

    def wrong(self, what: str) -> UserError:
        return UserError(f"{self.file.path.name} has a broken tokenizer ({what}); use another file")

    def id(self, name: str) -> int | None:
        """The id of the begin (``bos``), end (``eos``), … token."""
        found = self.file.metadata.get(f"tokenizer.ggml.{name}_token_id")
        if found is None:
            return None
        if not isinstance(found, int) or not 0 <= found < len(self.texts):
            raise self.wrong(f"the {name} token is {found} of {len(self.texts)}")
        return found

    def flag(self, name: str, default: bool) -> bool:
        return bool(self.file.metadata.get(f"tokenizer.ggml.{name}", default))

    def added(self) -> list[dict[str, Any]]:
        """Tokens found in a text before anything else; control tokens are special, and left out of texts."""
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        named = {self.id(name) for name in ("bos", "eos", "unknown", "padding", "eot", "eom")}
        return [
            {"id": i, "content": self.texts[i], **plain, "special": kind != _USER_DEFINED}
            for i, kind in enumerate(self.kinds)
            if kind in (_CONTROL, _USER_DEFINED, _UNKNOWN) or i in named
        ]

    def around(self) -> dict[str, Any] | None:
        """The step that puts begin and end token around a text, where the file says so."""
        parts: dict[str, list[dict[str, Any]]] = {"A": [], "B": []}
        named: dict[str, Any] = {}
        for name, sequence in (("bos", None), ("", "A"), ("", "B"), ("eos", None)):
            if sequence:
                parts[sequence].append({"Sequence": {"id": sequence, "type_id": int(sequence == "B")}})
            elif self.flag(f"add_{name}_token", False):
                token = self.id(name)
                if token is None:
                    raise self.wrong(f"add_{name}_token without a {name} token")
                text = self.texts[token]
                named[text] = {"id": text, "ids": [token], "tokens": [text]}
                for key, number in (("A", 0), ("B", 1)):
                    parts[key].append({"SpecialToken": {"id": text, "type_id": number}})
        if not named:
            return None
        both = parts["A"] + parts["B"]
        return {
            "type": "TemplateProcessing", "single": parts["A"], "pair": both, "special_tokens": named
        }  # fmt: skip


def _config(words: _Words) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": words.file.metadata.get(f"{words.file.architecture}.context_length"),
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad")):
        token = words.id(name)
        if token is not None:
            found[f"{key}_token"] = words.texts[token]
    template = words.file.metadata.get("tokenizer.chat_template")
    return found | ({"chat_template": template} if template else {})


def _model(words: _Words, merges: list[list[str]], **own: Any) -> dict[str, Any]:
    return {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        **own, "vocab": words.vocab, "merges": merges,
    }  # fmt: skip


def _byte_pairs(words: _Words) -> dict[str, Any]:
    data = words.file.metadata
    pre = str(data.get("tokenizer.ggml.pre", ""))
    if pre not in _CUTS:
        raise UserError(
            f"{words.file.path.name} cuts texts the way '{pre}', which cannot be converted; known are "
            f"{', '.join(_CUTS)}"
        )
    steps, compose = _CUTS[pre]
    merges = []
    for line in data.get("tokenizer.ggml.merges") or ():
        cut = line.find(" ", 1)
        pair = [line[:cut], line[cut + 1 :]]
        if cut < 0 or not all(part in words.vocab for part in (*pair, "".join(pair))):
            raise words.wrong(f"the merge {line!r:.40} is not of its vocabulary")
        merges.append(pair)
    if not merges:
        raise words.wrong("byte pairs without merges")
    around = words.around()
    ends = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "normalizer": {"type": "NFC"} if compose else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": around or ends,
        "decoder": ends | {"trim_offsets": True},
        "model": _model(words, merges, ignore_merges=pre in _WHOLE_WORDS),
    }


def _sentence_pieces(words: _Words) -> dict[str, Any]:
    scores = words.file.metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) < len(words.texts):
        raise words.wrong("sentence pieces without scores")
    unknown = words.id("unknown")
    prefix = words.flag("add_space_prefix", True)
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    decoder = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []),
    ]
    return {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*([{"type": "Prepend", "prepend": "▁"}] if prefix else []), space],
        },
        "pre_tokenizer": None,
        "post_processor": words.around(),
        "decoder": {"type": "Sequence", "decoders": decoder},
        "model": _model(
            words, _merges(words, scores), fuse_unk=True, byte_fallback=_BYTE in words.kinds,
            unk_token=None if unknown is None else words.texts[unknown],
        ),
    }  # fmt: skip


def _merges(words: _Words, scores: Sequence[float]) -> list[list[str]]:
    """Pairs in the order in which sentence pieces join: the better the score of the whole, the earlier.

    Tokens that are found in texts beforehand, and bytes, are joined from nothing.
    """
    apart = {i for i, kind in enumerate(words.kinds) if kind in (_CONTROL, _USER_DEFINED, _UNKNOWN, _BYTE)}
    vocab: Mapping[str, int] = {text: i for text, i in words.vocab.items() if i not in apart}
    found: list[tuple[float, int, int, str, str]] = []
    for text, whole in vocab.items():
        for cut in range(1, len(text)):
            left, right = vocab.get(text[:cut]), vocab.get(text[cut:])
            if left is not None and right is not None:
                found.append((-scores[whole], left, right, text[:cut], text[cut:]))
    found.sort(key=lambda pair: pair[:3])
    return [[left, right] for _, _, _, left, right in found]
