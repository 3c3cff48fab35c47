"""The live mirror: made from metrics.jsonl, one remote run across requeues, and never in the run's way."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.run import execute as runs
from harness.run.identity import identity
from harness.train.trainer import Trainer
from harness.util.errors import UserError
from tests.helpers.execution import configured
from tests.helpers.tiny import SMALL, tiny_folder


class FakeWandb:
    """The part of wandb that is used: runs by id, resumed where they were."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.broken = False

    def init(self, **asked: Any) -> Any:
        if self.broken:
            raise ConnectionError("no way to the service")
        self.asked.append(asked)
        rows = self.rows.setdefault(asked["id"], [])

        def log(row: dict[str, Any], step: int) -> None:
            assert step == row["step"] and (not rows or step > rows[-1]["step"])
            rows.append(row)
            remote.step = step + 1

        step = rows[-1]["step"] + 1 if rows else 0
        remote = SimpleNamespace(step=step, log=log, summary=self.summary, finish=lambda: None)
        return remote


@pytest.fixture(autouse=True)
def imported() -> None:
    """Libraries that look for wandb while they are imported do so before a test replaces it."""
    tiny_folder()


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def _run(folder: Path, *more: str) -> Any:
    base = [s for s in SMALL if s.partition("=")[0] not in ("train.steps", "train.checkpoint_every")]
    return configured([
        "method=grpo", f"model.path={tiny_folder()}", *base, "train.steps=4", "train.checkpoint_every=2",
        "eval.splits=[test_id]", f"runs_dir={folder}", *more,
    ])  # fmt: skip


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_one_remote_run_however_often_it_is_interrupted(
    wandb: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(tmp_path, "train.tracking=wandb")
    assert identity(run) == identity(_run(tmp_path)), "a mirror does not influence the numbers"
    step = Trainer.step

    def stopping(self: Trainer) -> Any:
        if self.counters.step == 3:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as killed:
        killed.setattr(Trainer, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            runs.execute(run)
    assert [row["step"] for rows in wandb.rows.values() for row in rows] == [0, 1, 2, 3]
    folder = runs.execute(run)  # goes on from step 2, so step 3 is taken again
    assert list(wandb.rows.values()) == [_rows(folder)]
    assert [asked["id"] for asked in wandb.asked] == [next(iter(wandb.rows))] * 2
    assert all(asked["resume"] == "allow" for asked in wandb.asked)
    entry = runs.result(folder).evals["test_id"]
    expected = sum(entry.correct) / (entry.n * len(entry.correct))
    assert wandb.summary["test_id/pass@1"] == pytest.approx(expected)


def test_a_failing_service_does_not_stop_the_run(wandb: FakeWandb, tmp_path: Path) -> None:
    wandb.broken = True
    with pytest.warns(UserWarning, match="given up, the run goes on: no way to the service"):
        folder = runs.execute(_run(tmp_path, "train.tracking=wandb"))
    assert [row["step"] for row in _rows(folder)] == [0, 1, 2, 3, 4]
    assert runs.status(folder)["state"] == "done"


def test_it_is_imported_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it fails
    with pytest.raises(UserError, match="pip install wandb"):
        runs.execute(_run(tmp_path / "asked", "train.tracking=wandb", "train.steps=1"))
    runs.execute(_run(tmp_path / "not", "train.steps=1"))
