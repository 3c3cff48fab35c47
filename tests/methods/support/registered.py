"""Every registered entry, and the settings at which the shared tests try it."""

from __future__ import annotations

from functools import cache
from typing import Any

from harness.registry import methods as registry
from harness.stages.base import Stages
from harness.stages.method import Method
from tests.methods.support.cases import CASES

NAMES = list(registry.entries())
OPTIONS = {name: values for cases in CASES.values() for name, values in cases.options.items()}
ACTIVE_HERE = {name: values for cases in CASES.values() for name, values in cases.active.items()}
SETTINGS = [(name, values) for name in NAMES for values in [{}, *OPTIONS.get(name, [])]]


@cache
def loaded(name: str) -> type[Method]:
    """The class of an entry; to find it every folder of entries is read."""
    return registry.load(name)


def make(name: str, options: dict[str, Any]) -> Stages:
    """The stages of an entry at ``options``."""
    return loaded(name)(**options).stages()
