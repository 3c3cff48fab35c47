"""Runs of settings as a person types them."""

from __future__ import annotations

from harness.config.hydra import parse
from harness.config.schema import RunConfig
from harness.run.compose import compose


def composed(*words: str) -> RunConfig:
    """The run of ``key=value`` words, e.g. ``composed("method=steer", "train.lr=2e-4")``."""
    return compose(parse(words))
