"""The tracker at Weights & Biases. Its run keeps its id in the run's folder, so a requeued run goes on there.

Account, project, entity and offline mode are wandb's own environment variables (``WANDB_API_KEY``,
``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_MODE``).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig, to_dict
from harness.records.record import RunResult
from harness.run.identity import run_id
from harness.util.errors import UserError
from harness.util.files import read_json, write_json

Row = Mapping[str, Any]
#: Name of the remote run; written before it is first opened.
ID_FILE = "wandb.json"
#: Seconds to wait for the service before the run goes on without it.
_WAIT_S = 60


class WandbTracker:
    """A run at Weights & Biases, resumed by the id in the folder.

    Raises:
        UserError: wandb is not installed.
    """

    def __init__(self, run: RunConfig, folder: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                "train.tracking=wandb needs the package wandb; pip install wandb, or leave it empty"
            ) from error
        path = folder / ID_FILE
        if not path.exists():
            # not the run's own id alone: the service never takes the id of a deleted run again
            write_json(path, {"id": f"{run_id(run)}-{secrets.token_hex(3)}"})
        self._run: Any = None
        self._open = lambda: wandb.init(
            project=os.environ.get("WANDB_PROJECT", "entrobench"), id=read_json(path)["id"],
            name=run_id(run), group=run.method_name, resume="allow", dir=str(folder), config=to_dict(run),
            settings={"init_timeout": _WAIT_S},
        )  # fmt: skip

    def send(self, row: Row) -> None:
        """Log ``row`` at its step; rows that the service has are left out."""
        remote = self._opened()
        if int(row["step"]) >= int(remote.step):  # the next step that the service has not got
            remote.log(dict(row), step=int(row["step"]))

    def summarise(self, result: RunResult) -> None:
        remote = self._opened()
        remote.summary.update({f"validation/{k}": v for k, v in result.validation.items()})
        for name, entry in result.evals.items():
            remote.summary[f"{name}/pass@1"] = sum(entry.correct) / (entry.n * len(entry.correct))

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()

    def _opened(self) -> Any:
        """Opened at the first row, so that a service out of reach is the tracker's failure alone."""
        if self._run is None:
            self._run = self._open()
        return self._run
