"""``entrobench eval``: a model on benchmarks by a profile, stored samples graded again, or a run finished."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cli.evaluation_display import EvaluationDisplay
from harness.cli.run import evaluate as finish_run
from harness.evaluation.regrade import read_record, regrade
from harness.evaluation.request import parse, read_ks
from harness.evaluation.session import Session, check_stored_ks
from harness.evaluation.table import lines
from harness.grading.pool import PoolFailed
from harness.rollout.engines.base import EngineDied
from harness.util.errors import UserError


def evaluate(words: Sequence[str], regrade: bool) -> int:
    """What ``entrobench eval WORDS`` asks for; a first word without ``=`` is a folder."""
    folder = Path(words[0]).expanduser() if words and "=" not in words[0] else None
    settings = list(words[1:] if folder else words)
    if folder is None:
        if not settings:
            raise UserError(
                "say what to evaluate: model=… benchmark=… (see entrobench eval --help), or a run's folder"
            )
        return _regrade_requested(settings) if regrade else _draw(settings)
    if (folder / "record.json").is_file():
        return _regrade(folder, settings) if regrade else _stored(folder, settings)
    if regrade:
        raise UserError(f"{folder} is not an evaluation's folder (no record.json in it)")
    if any(word.startswith("benchmark=") for word in settings):
        return _draw([f"model={folder}", *settings])
    if settings:
        raise UserError(
            f"'{settings[0]}' changes nothing in a finished run; add benchmark=… to evaluate its last weights"
        )
    return finish_run(str(folder))


def _draw(settings: Sequence[str]) -> int:
    request = parse(settings)
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bar()  # it would run through our own display
    set_verbosity_error()
    session = Session(request, warn=_warn)
    try:
        record = session.run(
            EvaluationDisplay, on_start=lambda: print(f"samples and record: {session.folder}", flush=True)
        )
    except (EngineDied, PoolFailed) as error:
        print(f"entrobench: {error}; the same command goes on from what is finished", file=sys.stderr)
        return 1
    _show(record, session.folder, request.ks)
    return 0


def _regrade_requested(settings: Sequence[str]) -> int:
    """``eval model=… --regrade``: the folder that these settings have."""
    session = Session(parse(settings))
    return _regrade(session.folder, [f"k={k}" for k in session.request.ks])


def _regrade(folder: Path, settings: Sequence[str]) -> int:
    record, target, changed = regrade(folder, settings)
    for name, count in changed.items():
        print(f"{name}: {count} verdicts changed")
    _show(record, target, _ks(settings))
    return 0


def _stored(folder: Path, settings: Sequence[str]) -> int:
    """The scores of an evaluation that is there, perhaps for other ks."""
    if strange := [word for word in settings if not word.startswith("k=")]:
        raise UserError(f"'{strange[0]}' needs new samples; give it with model=… and benchmark=…")
    record, ks = read_record(folder), _ks(settings)
    check_stored_ks(record, ks)
    _show(record, folder, ks)
    return 0


def _ks(settings: Sequence[str]) -> tuple[int, ...]:
    return read_ks(",".join(word[2:] for word in settings if word.startswith("k=")))


def _show(record: dict[str, Any], folder: Path, ks: Sequence[int]) -> None:
    print("\n".join(lines(record, ks)))
    print(f"record: {folder / 'record.json'}")


def _warn(text: str) -> None:
    print(f"entrobench: {text}", file=sys.stderr, flush=True)
