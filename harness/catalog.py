"""How the harness reaches methods and benchmarks without importing them: by the registries' module names."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def methods() -> Any:
    """The method registry (``methods.registry``): ``entries()``, ``find(name)``, ``load(name)``."""
    return import_module("methods.registry")


def cards() -> Any:
    """Method cards (``methods.cards``): ``read_card(entry)``, ``read_header(path, variant)``."""
    return import_module("methods.cards")


def benchmarks() -> Any:
    """The benchmark registry (``benchmarks.registry``): ``names()``, ``load(name)``, ``shipped_models()``."""
    return import_module("benchmarks.registry")
