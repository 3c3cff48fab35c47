"""What an evaluation is asked to do: ``key=value`` words, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.evaluation import profiles
from harness.grading.graders import GRADERS
from harness.registry import benchmarks
from harness.rollout.engines.base import ENGINES, option_value
from harness.util.errors import UserError, unknown

#: What may stand before ``=``, with what it means; the profile's own settings come on top.
KEYS = {
    "model": "hub id, local folder, a model that a benchmark ships, or a run's folder (its last weights)",
    "revision": "hub revision of the model",
    "benchmark": "one or several sets, comma-separated; name:split for another split than test",
    "profile": "named protocol",
    "engine": "hf or vllm",
    "dtype": "auto, float32, bfloat16 or float16",
    "device": "auto, cpu or cuda",
    "data_dir": "folder (or file) with the sets, instead of the hub",
    "accept_data": "set:digest of a set whose content differs and is wanted all the same",
    "k": "comma-separated ks of pass@k and maj@k; default powers of two up to n/2",
    "seed": "seed of the draws",
    "out": "folder in which the evaluation gets a folder of its own",
}
_PROFILE_KEYS = ("template", "max_tokens", "grader", "limit", "sampling", "n", "temperature", "top_p")


@dataclass(frozen=True)
class EvaluationRequest:
    """A checked request; ``words`` are the ``key=value`` it was made of, without ``out``."""

    model: str
    benchmarks: tuple[str, ...]
    profile: profiles.Profile
    revision: str | None = None
    engine: str = "hf"
    dtype: str = "auto"
    device: str = "auto"
    data_dir: str | None = None
    accept_data: str = ""
    ks: tuple[int, ...] = ()
    seed: int = 0
    out: str = "evaluations"
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()


def parse(words: Sequence[str]) -> EvaluationRequest:
    """The request that ``words`` make.

    Raises:
        UserError: an unknown key or name, a value that makes no sense, or no model or benchmark.
    """
    given = _pairs(words)
    plain = {key: value for key, value in given.items() if key in KEYS}
    engine_options = {
        key.partition(".")[2]: option_value(value)
        for key, value in given.items()
        if key.startswith("engine.")
    }
    changes = {k: v for k, v in given.items() if k not in plain and not k.startswith("engine.")}
    for key in changes:
        if key.rpartition(".")[2] not in _PROFILE_KEYS:
            raise unknown("setting", key, [*KEYS, *_PROFILE_KEYS, "engine.<option>"])
    for key in ("model", "benchmark"):
        if not plain.get(key):
            raise UserError(f"no {key}; say {key}=… ({KEYS[key]})")
    names = tuple(dict.fromkeys(name.strip() for name in plain["benchmark"].split(",") if name.strip()))
    known = benchmarks.names()
    for name in names:
        if name.partition(":")[0] not in known:
            raise unknown("benchmark", name.partition(":")[0], known)
    place = plain.get("data_dir")
    if place and len(names) > 1 and Path(place).expanduser().is_file():
        raise UserError(f"data_dir={place} is one file for {len(names)} sets; give the folder, or one set")
    profile = profiles.find(plain.get("profile", "standard"), changes)
    _check_engine(plain.get("engine", "hf"), profile)
    return EvaluationRequest(
        model=plain["model"], benchmarks=names, profile=profile, engine_options=engine_options,
        ks=read_ks(plain.get("k", "")),
        seed=_seed(plain.get("seed", "0")),
        words=tuple(f"{key}={value}" for key, value in given.items() if key not in ("out", "k")),
        **{k: plain[k] for k in ("revision", "engine", "dtype", "device", "data_dir", "accept_data", "out")
           if k in plain},
    )  # type: ignore[arg-type]  # fmt: skip


def read_ks(text: str) -> tuple[int, ...]:
    """The ks of ``1,8,32``."""
    return tuple(sorted({profiles.whole("k", k.strip()) for k in text.split(",") if k.strip()}))


def _pairs(words: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise UserError(f"'{word}' is not a setting; write key=value, e.g. benchmark=aime24,math500")
        if key in given:
            raise UserError(f"{key} is given twice; give it once (several benchmarks: benchmark=a,b)")
        given[key] = value
    return given


def _seed(value: str) -> int:
    if not value.isdigit():
        raise UserError(f"seed={value} must be a whole number")
    return int(value)


def _check_engine(engine: str, profile: profiles.Profile) -> None:
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if profile.grader not in GRADERS:
        raise unknown("grader", profile.grader, GRADERS)
