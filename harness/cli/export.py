"""``entrobench export RUN FOLDER``."""

from __future__ import annotations

from pathlib import Path

from harness.run import export as exporting


def export(run: str, folder: str, checkpoint: str) -> int:
    """Write a checkpoint of the run in folder ``run`` the Hugging Face way."""
    target = Path(folder).expanduser()
    step = exporting.export(Path(run).expanduser(), target, checkpoint=checkpoint)
    print(f"{target}: the weights after step {step}" if step else f"{target}: the weights before training")
    return 0
