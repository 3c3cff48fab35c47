"""SFT, then RL as one run: the phase on demonstrations as settings of its own, checked and identified.

The steps on demonstrations come first and are numbered first. They are those of a run of the fine-tuning
method that :func:`phase_of` gives; :mod:`harness.run.phases` carries them out. No torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from harness.config.fields import check_ranges
from harness.config.schema import RolloutConfig, RunConfig, SftConfig
from harness.config.values import made, typed, types_of
from harness.registry import methods
from harness.run.measuring import frontier_limit
from harness.stages.method import FineTuning
from harness.util.errors import UserError, unknown

#: Settings of the phase that a run of its own has in ``train``.
_TRAINED_BY = ("steps", "minibatches", "epochs", "lr", "warmup_steps")


def phase_of(run: RunConfig, load: Callable[[str], Any] = methods.load) -> RunConfig:
    """The phase on demonstrations of ``run``, as a run: its method and settings, nothing of rollouts.

    Raises:
        UserError: ``sft.method`` is no fine-tuning method, or ``sft.settings`` are not its own.
    """
    sft, plain = run.sft, RolloutConfig()
    cls = load(sft.method)
    if not issubclass(cls, FineTuning):
        raise UserError(
            f"sft.method={sft.method} trains on rollouts; take a method of the track sft-then-rl, e.g. sft"
        )
    rollout = replace(
        run.rollout, prompts_per_step=sft.batch, group_size=1, temperature=plain.temperature,
        engine=plain.engine, engine_settings=[], lag=plain.lag, ratio_to=plain.ratio_to,
        correction=plain.correction, correction_cap=plain.correction_cap,
    )  # fmt: skip
    train = replace(
        run.train, token_budget=None, random_reward=False, diagnostics=[],
        **{name: getattr(sft, name) for name in _TRAINED_BY},
    )  # fmt: skip
    limit = frontier_limit(run)  # points of both phases are of the same problems
    return replace(
        run, method=made(cls, _settings(cls, sft)), method_name=sft.method, rollout=rollout, train=train,
        sft=SftConfig(), eval=replace(run.eval, frontier_problems="all" if limit is None else str(limit)),
    )  # fmt: skip


def _settings(cls: type, sft: SftConfig) -> dict[str, Any]:
    """``sft.settings`` as checked values of the hyper-parameters of ``cls``."""
    known, values = types_of(cls), dict[str, Any]()
    for word in sft.settings:
        key, sign, value = (part.strip() for part in word.partition("=" if "=" in word else ":"))
        if not sign:
            raise UserError(f"'{word}' in sft.settings is not a setting; write e.g. [alpha:0.5]")
        if key not in known:
            raise unknown("hyper-parameter", key, known, f"of method '{sft.method}' in sft.settings")
        values[key] = typed(f"sft.settings: {key}", None if value == "null" else value, known[key])
    return values


def check_fine_tuning(run: RunConfig, load: Callable[[str], Any] = methods.load) -> None:
    """Refuse settings of fine-tuning that make no sense.

    Raises:
        UserError: names the remedy.
    """
    sft, tunes = run.sft, isinstance(run.method, FineTuning)
    if not sft.steps:
        for f in fields(SftConfig):
            if getattr(sft, f.name) != getattr(SftConfig(), f.name):
                raise UserError(
                    f"sft.{f.name} changes nothing without steps on demonstrations; leave it out, or set "
                    "sft.steps"
                )
        if run.data.demonstrations and not tunes:
            raise UserError(
                f"method '{run.method_name}' reads no demonstrations; leave data.demonstrations out, or set "
                "sft.steps"
            )
        return
    if tunes:
        raise UserError(
            f"method '{run.method_name}' trains on demonstrations itself; name the method that follows with "
            "method=…, or leave out sft.steps"
        )
    if sft.minibatches > sft.batch:
        raise UserError(
            f"sft.minibatches={sft.minibatches} exceeds the {sft.batch} demonstrations of a step; lower it "
            "or raise sft.batch"
        )
    phase = phase_of(run, load)
    check_ranges(phase.method, "sft.settings:")
    phase.method.validate(phase)


def sft_parts(run: RunConfig, name: str, method_hash: str) -> dict[str, Any]:
    """What the phase of ``run`` adds to what identifies it."""
    phase = phase_of(run)
    own = {key: value for key, value in asdict(run.sft).items() if key != "settings"}
    return own | {"method": name, "method_hash": method_hash, "hyperparameters": asdict(phase.method)}


def file_digest(path: str) -> str:
    """sha256 of a file of demonstrations.

    Raises:
        UserError: there is none.
    """
    place = Path(path).expanduser()
    try:
        seen = os.stat(place)
        return _digest(place, seen.st_mtime_ns, seen.st_size)
    except OSError as error:
        raise UserError(
            f"cannot read data.demonstrations={path}: {error.strerror}; name a file of JSON lines"
        ) from error


@cache
def _digest(path: Path, _changed_ns: int, _size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
