"""Evaluation profiles: template, sampling, token limit and grader under one name, as the papers used them.

A score without its profile says little: another template alone moves a base model by 10 to 20 points. Every
record holds the whole profile, and no table mixes two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.problems import templates
from harness.statistics import printable_ks
from harness.util.errors import UserError, unknown

#: ``standard`` lets a response use this share of the model's context, and at most this many tokens.
CONTEXT_SHARE, MOST_TOKENS = 0.75, 8192


@dataclass(frozen=True)
class Draws:
    """One way of sampling, with samples of its own.

    Attributes:
        name: ``avg`` (pass@1 and maj@k are read off it) or ``pass`` (pass@k is).
        temperature: 0 is greedy.
        small, large: samples a problem on small sets (AIME, AMC) and on the others; 0 leaves such sets out.
    """

    name: str
    temperature: float
    top_p: float
    small: int
    large: int

    def n(self, small: bool) -> int:
        return self.small if small else self.large


@dataclass(frozen=True)
class Profile:
    """How a model is evaluated.

    Attributes:
        max_tokens: limit of a response; None is fixed by the model: three quarters of its context, at most
            8192.
        stop_texts: end a response besides the template's own stop texts.
        limit: problems of each set; None for all of them.
        limit_seed: they are drawn with this seed; None takes the first ones.
        changes: what the user set differently from the named profile; a profile with changes is another one.
    """

    name: str
    template: str
    draws: tuple[Draws, ...]
    max_tokens: int | None
    grader: str
    note: str
    stop_texts: tuple[str, ...] = ()
    limit: int | None = None
    limit_seed: int | None = None
    changes: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """The name, with ``+changes`` where the user changed it."""
        return f"{self.name}+changes" if self.changes else self.name

    def tokens(self, max_positions: int | None) -> int:
        """The token limit of a response for a model with ``max_positions`` of context."""
        if self.max_tokens is not None:
            return self.max_tokens
        return min(MOST_TOKENS, int(CONTEXT_SHARE * max_positions)) if max_positions else MOST_TOKENS

    def as_record(self) -> dict[str, Any]:
        """All of it, the template's words included."""
        body = self._values() | {"template": asdict(templates.find(self.template))}
        return body | {"label": self.label, "hash": self.hash, "changes": dict(self.changes)}

    @property
    def hash(self) -> str:
        """12 hex digits of what influences the numbers; note, name and the list of changes do not."""
        body = {k: v for k, v in self._values().items() if k not in ("name", "note", "changes")}
        body["template"] = templates.digest(templates.find(self.template))
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]

    def _values(self) -> dict[str, Any]:
        """All fields; a seed that nothing is drawn with is none, as in records from before there was one."""
        body = asdict(self)
        if self.limit_seed is None:
            del body["limit_seed"]
        return body


def _one(temperature: float, top_p: float, small: int, large: int) -> tuple[Draws, ...]:
    return (Draws("avg", temperature, top_p, small, large),)


_ALL = (
    Profile(
        "standard", "plain", (Draws("avg", 0.6, 0.95, 64, 8), Draws("pass", 1.0, 1.0, 64, 8)), None,
        "math-verify", "this project's own: pass@1 as avg@n at T 0.6, pass@k at T 1, where diversity shows",
    ),
    Profile(
        "dapo", "dapo", _one(1.0, 0.7, 32, 32), 20480, "math-dapo",
        "DAPO and the papers on verl's recipes: avg@32 at T 1, top-p 0.7, answer after 'Answer:'",
    ),
    Profile(
        "cure", "dapo-boxed", _one(0.6, 0.7, 32, 1), 3584, "math-verify",
        "CURE and NFT: AIME and AMC 32 times, the others once; their graders are several, ours is one",
    ),
    Profile(
        "steer-val", "chat-boxed", _one(1.0, 0.7, 32, 1), 3072, "math-verify",
        "STEER's validation; how often its sets are repeated is not stated, 32 on AIME and AMC is ours",
    ),
    Profile(
        "oat", "qwen-math", _one(0.0, 1.0, 1, 1), 3000, "math-verify-boxed",
        "Dr. GRPO, GMPO, SEED-GRPO, Prompt Augmentation: greedy, boxed; template=r1 and bare are used too",
    ),
    Profile(
        "qwen-math", "qwen-math", _one(0.0, 1.0, 1, 1), 2048, "math-verify",
        "Qwen2.5-Math's and SimpleRL's script: greedy; its grader has tolerances that ours has not",
    ),
    Profile(
        "sage", "system-boxed", _one(0.6, 0.95, 16, 16), 8192, "math-verify-boxed",
        "SAGE: avg@16 at T 0.6; an answer counts in a box only",
    ),
    Profile(
        "mentor", "think-boxed", (Draws("avg", 0.6, 1.0, 32, 0), Draws("greedy", 0.0, 1.0, 0, 1)), 8192,
        "math-verify", "MENTOR: avg@32 at T 0.6 on AIME and AMC, greedy elsewhere; top-p is not stated",
    ),
    Profile(
        "r1-distill", "chat-boxed", _one(0.6, 0.95, 64, 4), 32768, "math-verify",
        "open-r1 and SPO-tree on R1-distilled models; they take 4 to 64 samples by set",
    ),
    Profile(
        "siri", "chat-boxed", _one(0.6, 1.0, 64, 64), 16384, "math-verify",
        "SIRI: avg@64 at T 0.6 with 16K tokens; top-p is not stated",
    ),
)  # fmt: skip
PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in _ALL}

#: What may be changed on the command line; a draw's settings also as ``avg.n=16``.
OF_PROFILE = ("template", "max_tokens", "grader", "limit")
OF_DRAWS = ("n", "temperature", "top_p")


def find(name: str, changes: Mapping[str, str] | None = None) -> Profile:
    """The profile called ``name`` with ``changes``, checked.

    Args:
        changes: e.g. ``{"n": "16", "pass.temperature": "0.8", "sampling": "avg", "max_tokens": "4096"}``.

    Raises:
        UserError: unknown name or key, or a value that makes no sense; the message names the remedy.
    """
    if name not in PROFILES:
        raise unknown("profile", name, PROFILES)
    named = profile = PROFILES[name]
    # a template may bring another grader, so a grader of the user's own is set after it
    for key, value in sorted((changes or {}).items(), key=lambda item: item[0] != "template"):
        profile = _changed(profile, key, value)
    templates.find(profile.template)
    if profile.hash == named.hash:
        return named
    return replace(profile, changes=tuple(sorted((changes or {}).items())))


def _changed(profile: Profile, key: str, value: str) -> Profile:
    if key == "sampling":
        chosen = tuple(d for d in profile.draws if d.name == value)
        if not chosen:
            raise unknown(f"sampling of profile {profile.name}", value, [d.name for d in profile.draws])
        return replace(profile, draws=chosen)
    if key == "template":
        grader = templates.find(value).grader
        same = grader == templates.find(profile.template).grader
        return replace(profile, template=value, grader=profile.grader if same else grader)
    if key == "grader":
        return replace(profile, grader=value)
    if key == "max_tokens":
        return replace(profile, max_tokens=whole(key, value))
    if key == "limit":
        return _limited(profile, value)
    which, _, setting = key.rpartition(".")
    if setting not in OF_DRAWS or which not in ("", *(d.name for d in profile.draws)):
        known = [
            *OF_PROFILE,
            "sampling",
            *OF_DRAWS,
            *(f"{d.name}.{s}" for d in profile.draws for s in OF_DRAWS),
        ]
        raise unknown("profile setting", key, known)
    draws = tuple(_set(d, setting, value) if which in ("", d.name) else d for d in profile.draws)
    if (
        not which
        and setting != "n"
        and len({replace(d, name="", small=0, large=0) for d in profile.draws}) > 1
    ):
        names = " or ".join(f"{d.name}.{setting}" for d in profile.draws)
        raise UserError(
            f"profile {profile.name} samples in {len(draws)} ways; say {names} instead of {setting}"
        )
    return replace(profile, draws=draws)


def _limited(profile: Profile, value: str) -> Profile:
    """``profile`` with ``limit=N`` (the first N problems) or ``limit=N@SEED`` (N that are drawn)."""
    count, sign, seed = value.partition("@")
    if sign and not (seed.isascii() and seed.isdigit()):
        raise UserError(
            f"limit={value}: the seed behind @ must be a whole number, e.g. limit={count or 100}@1; limit=N "
            "without it takes the first N problems"
        )
    return replace(profile, limit=whole("limit", count), limit_seed=int(seed) if sign else None)


def _set(draws: Draws, setting: str, value: str) -> Draws:
    if setting == "n":
        n = whole("n", value)
        return replace(draws, small=n if draws.small else 0, large=n if draws.large else 0)
    try:
        number = float(value)
    except ValueError as error:
        raise UserError(f"{setting}={value} is not a number") from error
    if setting == "temperature" and not number >= 0:
        raise UserError(f"temperature={value} is below 0; 0 is greedy")
    if setting == "top_p" and not 0 < number <= 1:
        raise UserError(f"top_p={value} is outside (0, 1]; 1 is the full softmax")
    return replace(draws, temperature=number) if setting == "temperature" else replace(draws, top_p=number)


def whole(key: str, value: str) -> int:
    """``value`` as a whole number of at least 1."""
    if not value.isdigit() or int(value) < 1:
        raise UserError(f"{key}={value} must be a whole number of at least 1")
    return int(value)


def check_ks(ks: Sequence[int], n: int, where: str) -> None:
    """Refuse a k that ``n`` samples cannot tell.

    Raises:
        UserError: names the least n that can.
    """
    for k in ks:
        if 2 * k > n:
            raise UserError(
                f"k={k} needs at least {2 * k} samples a problem, but {where} has n={n}; "
                f"say n={2 * k} or more, or k={n // 2 or 1} or less"
            )


def ks_of(n: int, wanted: Sequence[int]) -> tuple[int, ...]:
    """The ks to print from ``n`` samples: those ``wanted``, else the powers of two up to n/2."""
    return tuple(wanted) or printable_ks(n, (1, 2, 4, 8, 16, 32, 64, 128, 256)) or (1,)
