"""The sizes of a model, from its ``config.json`` or from a table of models that are often trained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.util.errors import UserError
from harness.util.files import read_json

#: Families whose layers :mod:`harness.model.memory.estimate` knows, and what is special about each: biases
#: of the attention's inputs; a norm of queries and keys, for each head or over all of them.
FAMILIES = {
    "qwen2": (True, ""),
    "qwen3": (False, "head"),
    "llama": (False, ""),
    "mistral": (False, ""),
    "olmo2": (False, "all"),
}


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder with gated MLPs; what ``config.json`` calls them stands in :func:`from_config`."""

    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    positions: int
    tied: bool

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of the keys, and of the values, of a token in one layer."""
        return self.kv_heads * self.head_dim

    @property
    def layer_params(self) -> int:
        """Parameters of one layer."""
        bias, norm = FAMILIES[self.family]
        attention = 2 * self.hidden * self.q_width + 2 * self.hidden * self.kv_width
        biases = self.q_width + 2 * self.kv_width if bias else 0
        norms = {"": 0, "head": 2 * self.head_dim, "all": self.q_width + self.kv_width}[norm]
        return attention + biases + norms + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def outer_params(self) -> int:
        """Embedding, final norm, and the head where it is not the embedding."""
        return self.vocab * self.hidden * (1 if self.tied else 2) + self.hidden

    @property
    def params(self) -> int:
        return self.layers * self.layer_params + self.outer_params


def _known(*sizes: Any) -> ModelShape:
    return ModelShape(*sizes)


#: Each line as in the ``config.json`` of the model's repository on the Hugging Face hub.
KNOWN: dict[str, ModelShape] = {
    "Qwen/Qwen2.5-0.5B": _known("qwen2", 24, 896, 4864, 14, 2, 64, 151936, 32768, True),
    "Qwen/Qwen2.5-1.5B": _known("qwen2", 28, 1536, 8960, 12, 2, 128, 151936, 131072, True),
    "Qwen/Qwen2.5-7B": _known("qwen2", 28, 3584, 18944, 28, 4, 128, 152064, 131072, False),
    "Qwen/Qwen2.5-Math-1.5B": _known("qwen2", 28, 1536, 8960, 12, 2, 128, 151936, 4096, True),
    "Qwen/Qwen2.5-Math-7B": _known("qwen2", 28, 3584, 18944, 28, 4, 128, 152064, 4096, False),
    "Qwen/Qwen3-4B": _known("qwen3", 36, 2560, 9728, 32, 8, 128, 151936, 40960, True),
    "Qwen/Qwen3-4B-Base": _known("qwen3", 36, 2560, 9728, 32, 8, 128, 151936, 32768, True),
    "Qwen/Qwen3-8B-Base": _known("qwen3", 36, 4096, 12288, 32, 8, 128, 151936, 32768, False),
    "allenai/OLMo-2-0425-1B": _known("olmo2", 16, 2048, 8192, 16, 16, 128, 100352, 4096, False),
}


def from_config(config: Mapping[str, Any], name: str) -> ModelShape:
    """The sizes in a ``config.json``.

    Raises:
        UserError: a family whose layers are not known here.
    """
    family = str(config.get("model_type", ""))
    if family not in FAMILIES:
        raise UserError(
            f"the memory of model '{name}' of the family '{family}' cannot be planned; "
            f"known are {', '.join(sorted(FAMILIES))}"
        )
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    return ModelShape(
        family=family, layers=int(config["num_hidden_layers"]), hidden=hidden,
        intermediate=int(config["intermediate_size"]), heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads), vocab=int(config["vocab_size"]),
        positions=int(config.get("max_position_embeddings") or 0),
        tied=bool(config.get("tie_word_embeddings", False)),
    )  # fmt: skip


def read_config(path: str, revision: str | None = None) -> dict[str, Any] | None:
    """``config.json`` of a local folder or of a hub model that has been fetched; None where neither is."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return dict(read_json(folder / "config.json")) if (folder / "config.json").is_file() else None
    root = Path(os.environ.get("HF_HUB_CACHE") or _hub_home() / "hub").expanduser()
    repository = root / f"models--{path.replace('/', '--')}"
    reference = repository / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision or ""
    file = repository / "snapshots" / commit / "config.json"
    return dict(read_json(file)) if commit and file.is_file() else None


def _hub_home() -> Path:
    return Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()


def find_shape(path: str, revision: str | None = None) -> ModelShape:
    """The sizes of a model: from its files where they are here, else from :data:`KNOWN`.

    Args:
        path: local folder or hub id, names of shipped models resolved.

    Raises:
        UserError: neither fetched nor known, or of an unknown family.
    """
    config = read_config(path, revision)
    if config is not None:
        return from_config(config, path)
    if path in KNOWN:
        return KNOWN[path]
    raise UserError(
        f"the sizes of '{path}' are not known here; fetch it (entrobench prefetch), or give a local folder "
        f"with its config.json. Known without: {', '.join(KNOWN)}"
    )
