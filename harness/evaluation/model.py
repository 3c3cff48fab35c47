"""Which weights are evaluated: of a hub id, a folder, a shipped model, or the last ones of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.model.source import model_fingerprint, model_label, resolve_model
from harness.util.errors import UserError
from harness.util.files import read_json
from harness.util.intact import damage


@dataclass(frozen=True)
class Weights:
    """Where model and tokenizer are, and the checkpoint whose weights replace the model's.

    Attributes:
        fingerprint: hash of the files, or ``id@revision`` of a hub model.
        label: what tables and folders call it.
    """

    path: str
    revision: str | None
    label: str
    fingerprint: str
    checkpoint: Path | None = None

    def describe(self) -> dict[str, Any]:
        """For the record, with the hub commit where there is one."""
        body: dict[str, Any] = {"path": self.path, "revision": self.revision, "fingerprint": self.fingerprint}
        if self.checkpoint is not None:
            body |= {"run": self.label, "checkpoint": self.checkpoint.name}
        elif not Path(self.path).is_dir():
            from transformers import AutoConfig

            body["commit"] = getattr(
                AutoConfig.from_pretrained(self.path, revision=self.revision, trust_remote_code=False),
                "_commit_hash",
                None,
            )
        return body

    def load(self) -> Mapping[str, Any] | None:
        """The checkpoint's weights by name; None where the model's own are evaluated.

        Raises:
            UserError: the checkpoint is not what was written.
        """
        if self.checkpoint is None:
            return None
        if wrong := damage(self.checkpoint):
            raise UserError(f"checkpoint {self.checkpoint} is {wrong}; restore it, or remove it")
        import torch

        state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
        weights: Mapping[str, Any] = state["weights"]
        return weights


def vocabulary(weights: Weights) -> int:
    """How many tokens the model has embeddings of.

    Raises:
        UserError: there is no model configuration.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(weights.path, revision=weights.revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"cannot load model '{weights.path}': {reason} (give a hub id, or a local folder)"
        ) from error
    return int(config.get_text_config().vocab_size)


def is_run_folder(path: Path) -> bool:
    """Whether ``path`` is the folder of a training run (a model's folder has another ``config.json``)."""
    try:
        return "identity" in read_json(path / "config.json")
    except (OSError, ValueError, TypeError):
        return False


def find_weights(name: str, revision: str | None, shipped: Mapping[str, Path]) -> Weights:
    """What ``model=name`` means.

    Raises:
        UserError: nothing there, or a run whose last weights are not there.
    """
    folder = Path(name).expanduser()
    if folder.is_dir() and is_run_folder(folder):
        return _of_run(folder, shipped)
    path = resolve_model(name, shipped)
    label = model_label(name, path, shipped)
    return Weights(path, revision, label, model_fingerprint(path, revision))


def _of_run(folder: Path, shipped: Mapping[str, Path]) -> Weights:
    model = read_json(folder / "config.json")["config"]["model"]
    checkpoints = sorted((folder / "checkpoints").glob("step-*.pt"))
    if not checkpoints:
        raise UserError(
            f"run {folder.name} has no weights: checkpoints/step-*.pt is missing; train it again, or copy "
            "its checkpoints folder here"
        )
    if not (folder / "result.json").exists():
        raise UserError(f"run {folder.name} is not finished; entrobench eval {folder} finishes it first")
    path = resolve_model(str(model["path"]), shipped)
    fingerprint = (
        f"{model_fingerprint(path, model['revision'])}+{folder.resolve().name}+{checkpoints[-1].stem}"
    )
    return Weights(path, model["revision"], folder.resolve().name, fingerprint, checkpoints[-1])
