"""Vectors of texts, for stages that ask how alike two responses are.

``hashed-ngrams`` is built in: counts of character n-grams, which see spelling but no meaning. Any other name
is a sentence-embedding model: its folder, or its name on the hub, where it has been fetched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.util.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

HASHED = "hashed-ngrams"
#: Texts -> ``[N,D]`` float64, not normalised.
Embedder = Callable[[Sequence[str]], "Tensor"]
LENGTHS = (3, 4, 5)
BUCKET_BITS = 12
#: Of a longer text the end is kept: so many characters, or so many tokens of a model.
LAST_CHARACTERS, LAST_TOKENS = 64_000, 16_000
#: How a folder of the sentence-transformers kind says that token vectors become one.
POOLING_FILE = "1_Pooling/config.json"
_POOLINGS = {
    "pooling_mode_lasttoken": "last", "pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first",
}  # fmt: skip
_STEP, _MIX, _SHIFT = np.uint64(1099511628211), np.uint64(0x9E3779B97F4A7C15), np.uint64(29)


def hashed_ngrams(texts: Sequence[str]) -> Tensor:
    """Counts of the 3-, 4- and 5-grams of characters by bucket, ``[N,4096]`` float64; 0 for shorter texts."""
    counts = np.zeros((len(texts), 1 << BUCKET_BITS))
    for row, text in zip(counts, texts, strict=True):
        last = text[-LAST_CHARACTERS:].encode("utf-32-le", "surrogatepass")
        code = np.frombuffer(last, dtype="<u4").astype(np.uint64) + np.uint64(1)
        for n in LENGTHS:
            if len(code) < n:
                continue
            windows = len(code) - n + 1
            hashed = np.zeros(windows, dtype=np.uint64)
            for at in range(n):  # modulo 2^64
                hashed = hashed * _STEP + code[at : at + windows]
            hashed = (hashed ^ (hashed >> _SHIFT)) * _MIX
            bucket = (hashed >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
            row += np.bincount(bucket, minlength=len(row))
    return torch.from_numpy(counts)


def cosine(embedding_ND: Tensor) -> Tensor:
    """Cosine of each pair of rows, ``[N,N]``; 0 for a vector of zeros."""
    unit = embedding_ND / embedding_ND.norm(dim=1, keepdim=True).clamp(min=1e-8)
    return unit @ unit.T


def embedder(name: str) -> Embedder:
    """The embedder of this name; a model is loaded with its first use, once in a process.

    Raises:
        UserError: as :func:`check_embedder`.
    """
    if name == HASHED:
        return hashed_ngrams
    model = _loaded(str(check_embedder(name)))
    return lambda texts: torch.stack([model(text) for text in texts])


def check_embedder(name: str) -> Path | None:
    """The folder of the model ``name``; None for the built-in embedder. Loads nothing.

    Raises:
        UserError: no such model is on this machine, or it is none that embeds sentences.
    """
    if name == HASHED:
        return None
    folder = Path(name).expanduser()
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(name, local_files_only=True))
        except (OSError, ValueError) as error:  # nothing fetched; no name of the hub
            raise UserError(
                f"method.embedder={name}: there is no such folder, and no such model has been fetched; run "
                f"'hf download {name}', or take method.embedder={HASHED}"
            ) from error
    missing = [file for file in ("config.json", POOLING_FILE) if not (folder / file).is_file()]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        raise UserError(
            f"method.embedder={name}: {folder} has no {', '.join(missing)}, so it is no sentence-embedding "
            f"model; name another one, or take method.embedder={HASHED}"
        )
    _pooling(folder)
    return folder


def _pooling(folder: Path) -> str:
    told = json.loads((folder / POOLING_FILE).read_text(encoding="utf-8"))
    chosen = [how for key, how in _POOLINGS.items() if told.get(key)]
    if len(chosen) != 1:
        raise UserError(
            f"method.embedder={folder}: its {POOLING_FILE} asks for no single one of {', '.join(_POOLINGS)}; "
            f"name another model, or take method.embedder={HASHED}"
        )
    return chosen[0]


@lru_cache(maxsize=2)
def _loaded(folder: str) -> Callable[[str], Tensor]:
    """A model that embeds one text at a time: no padding, so that no other text changes its vector."""
    from transformers import AutoModel, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(folder, truncation_side="left", trust_remote_code=False)
    model: Any = AutoModel.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
    model = model.to(device).eval()
    how, most = _pooling(Path(folder)), getattr(model.config, "max_position_embeddings", LAST_TOKENS)

    @torch.no_grad()
    def vector(text: str) -> Tensor:
        tokens = tokenizer(
            text or " ", return_tensors="pt", truncation=True, max_length=min(LAST_TOKENS, most)
        )
        hidden_TD = model(**tokens.to(device)).last_hidden_state[0].double().cpu()
        return hidden_TD.mean(0) if how == "mean" else hidden_TD[-1 if how == "last" else 0]

    return vector
