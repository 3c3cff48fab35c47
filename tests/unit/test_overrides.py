"""Resolving overrides quickly gives exactly what Hydra's composition gives, complaints included."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.hydra import compose, resolve
from harness.config.schema import RunConfig
from harness.util.errors import UserError


@dataclass(frozen=True)
class Knobs:
    """Hyper-parameters of every type that methods use."""

    eps: float = 0.2
    steps: int = 3
    on: bool = True
    mode: str = "token-mean"
    cap: float | None = None
    bands: list[float] = field(default_factory=lambda: [0.5, 0.7])


#: What people write: numbers, words, quotes, lists, null, and what is wrong or unusual.
VALUES = [
    "1", "1e-4", "-2", "true", "null", "abc", "'a b'", "[1,2]", "[a,'b c']", "Qwen/Qwen2.5-0.5B", "'1'",
    "nan", "a=b", "''", "1,2", "{a: 1}", "[1", "${seed}", "???", "'it\\'s'", "choice(1,2)", "int(3)",
]  # fmt: skip
#: One of each type, and keys that do not exist.
KEYS = ["seed", "train.lr", "train.token_budget", "method.mode", "method.on", "method.bands", "train.nothing"]


def _outcome(function: Any, overrides: list[str]) -> Any:
    try:
        return function(overrides, RunConfig, Knobs)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("key", KEYS)
def test_every_value_of_a_key_is_what_hydra_makes_of_it(key: str) -> None:
    for value in VALUES:
        wanted, found = (repr(_outcome(f, [f"{key}={value}"])) for f in (compose, resolve))
        assert found == wanted, f"{key}={value}"


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=6))
def test_several_overrides_in_a_row(pairs: list[tuple[str, str]]) -> None:
    overrides = [f"{key}={value}" for key, value in pairs]
    assert repr(_outcome(resolve, overrides)) == repr(_outcome(compose, overrides))


@pytest.mark.parametrize("text", ["+train.lr=1", "~train.lr", "++seed=4", "seed@x=1", "seed:=3", "seed"])
def test_other_grammar_is_left_to_hydra(text: str) -> None:
    assert repr(_outcome(resolve, [text])) == repr(_outcome(compose, [text]))


def test_runs_share_nothing_that_can_be_changed() -> None:
    first = resolve(["eval.splits=[a]"], RunConfig, Knobs)
    first["eval"]["splits"].append("b")
    first["method"]["bands"].append(9.0)
    second = resolve(["eval.splits=[a]"], RunConfig, Knobs)
    assert second["eval"]["splits"] == ["a"] and second["method"]["bands"] == [0.5, 0.7]
