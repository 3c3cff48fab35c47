"""The golden cases notice a wrong formula and a wrong hyper-parameter: each is bent, and a case must fail."""

from __future__ import annotations

import copy
import dataclasses
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from harness.registry.golden import GoldenCase, cases, check_case, load_adapter, replay
from tests.methods.support.cases import CASES, FOLDER

#: Entries of the json that are text or are stored as arrays too.
NOT_NUMBERS = {"k_rule", "trace"}


def bent(value: Any) -> Any:
    """The value of a formula, a little wrong."""
    if isinstance(value, tuple):
        return tuple(bent(v) for v in value)
    if isinstance(value, torch.Tensor):
        if value.dtype == torch.bool:
            return ~value
        return value[1:] if value.dtype == torch.int64 else value * 1.001
    return value + 1 if isinstance(value, int) else value * 1.001


@pytest.mark.parametrize(
    ("slug", "formula"), [(folder, formula) for folder, own in CASES.items() for formula in own.formulas]
)
def test_a_bent_formula_fails(slug: str, formula: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, name = formula.partition(":")
    owner: Any = importlib.import_module(module)
    *path, name = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    original: Callable[..., Any] = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *a, **k: bent(original(*a, **k)))
    # adapters are imported afresh by every replay, so what they import by name is bent too
    assert any(row.status == "FAIL" for row in replay(FOLDER / slug))


def leaves(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(path, value) of every number, switch and name in the hyper-parameters."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        if key in NOT_NUMBERS:
            continue
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def others(value: Any) -> list[Any]:
    """Values that a hyper-parameter might be confused with."""
    if isinstance(value, bool):
        return [not value]
    if value is None:  # an option that is off: here always a range
        return [[-0.1, 0.1]]
    if isinstance(value, str):
        return [v for v in ("linear", "cosine") if v != value]
    return [
        value * 0.5,
        value * 2,
        value + 0.37,
        1.01,
        0.03,
        value + 100,
        *([value - 1] if value == 1 else []),
    ]


def all_hyperparameters() -> list[tuple[str, tuple[Any, ...]]]:
    found = {(case.slug, path): None for case in cases(FOLDER) for path, _ in leaves(case.hp)}
    return [(slug, path) for slug, path in found if path not in CASES[slug].inert]


def with_value(case: GoldenCase, path: tuple[Any, ...], value: Any) -> GoldenCase:
    meta = copy.deepcopy(dict(case.meta))
    place = meta["hyperparameters"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return dataclasses.replace(case, meta=meta)


@pytest.mark.parametrize(("slug", "path"), all_hyperparameters(), ids=lambda v: str(v))
def test_every_hyperparameter_is_read(slug: str, path: tuple[Any, ...]) -> None:
    """Some other value makes some case fail: the adapter reads it from the json and the formula uses it."""
    adapter = load_adapter(FOLDER / slug)
    for case in cases(FOLDER / slug):
        here = dict(leaves(case.hp))
        if path not in here:
            continue
        for value in others(here[path]):
            if any(row.status == "FAIL" for row in check_case(with_value(case, path, value), adapter)):
                return
    pytest.fail(f"{slug}: no value of {path} changes any output")
