"""Settings as values: exactly what Hydra's and OmegaConf's own composition makes of the same words."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.hydra import parse
from harness.config.schema import RunConfig, to_dict
from harness.config.values import made, typed, types_of
from harness.run.compose import compose, from_dict
from harness.util.errors import UserError
from tests.helpers.hydra_reference import applied, hydra_composed


@dataclass(frozen=True)
class Knobs:
    """Hyper-parameters of every type that methods use."""

    eps: float = 0.2
    steps: int = 3
    on: bool = True
    mode: str = "token-mean"
    cap: float | None = None
    bands: list[float] = field(default_factory=lambda: [0.5, 0.7])


@dataclass
class Small:
    """A configuration with the types that sections have, which Hydra composes quickly."""

    method: Any = None
    seed: int = 1
    lr: float = 1e-4
    budget: int | None = None


#: What people write: numbers, words, quotes, lists, null, and what is wrong or unusual.
VALUES = [
    "1", "1e-4", "-2", "true", "null", "abc", "'a b'", "[1,2]", "[a,'b c']", "Qwen/Qwen2.5-0.5B", "'1'",
    "nan", "a=b", "''", "1,2", "{a: 1}", "[1", "'it\\'s'", "choice(1,2)", "int(3)", "on", "No",
    "'1e-4'", "0", "0x1", "1_000", "inf", "[]", "[1,null]", "[0.5,'0.25']", "2.0", "'''",
]  # fmt: skip
#: One of each type.
KEYS = ["seed", "lr", "budget", "method.mode", "method.on", "method.bands"]


def _ours(words: list[str], root: type = RunConfig) -> dict[str, Any]:
    known = types_of(root) | {f"method.{key}": kind for key, kind in types_of(Knobs).items()}
    values = {}
    for key, value in parse(words).items():
        if key not in known:
            raise UserError(f"unknown {key}")
        values[key] = typed(key, value, known[key])
    return asdict(made(root, values)) | {"method": asdict(made(Knobs, values, "method."))}


def _hydras(words: list[str], root: type = RunConfig) -> dict[str, Any]:
    return hydra_composed(words, root, Knobs)


def _applied(words: list[str], root: type) -> dict[str, Any]:
    return applied(words, root, Knobs)


def _outcome(function: Any, words: list[str], root: type = Small) -> str:
    """What came out, value and type; ``refused`` where it was."""
    try:
        return repr(sorted(function(words, root).items()))
    except UserError:
        return "refused"


@pytest.mark.parametrize("key", KEYS)
def test_every_value_of_a_key_is_what_hydra_makes_of_it(key: str) -> None:
    for value in VALUES:
        if value == "2.0" and key in ("seed", "budget"):
            assert _ours([f"{key}={value}"], Small)[key] == 2  # Hydra refuses it
            continue
        words = [f"{key}={value}"]
        assert _outcome(_ours, words) == _outcome(_applied, words), f"{key}={value}"


def test_a_run_is_what_hydra_makes_of_it() -> None:
    words = [
        "train.lr=3e-4",
        "eval.splits=[test_id]",
        "model.revision=123",
        "data.template=''",
        "method.eps=1",
    ]
    assert _outcome(_ours, words, RunConfig) == _outcome(_hydras, words, RunConfig) != "refused"


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=6))
def test_several_overrides_in_a_row(pairs: list[tuple[str, str]]) -> None:
    words = [
        f"{key}={'2' if value == '2.0' and key in ('seed', 'budget') else value}" for key, value in pairs
    ]
    wanted = _outcome(_hydras, words)
    assert _outcome(_applied, words) == wanted
    # Hydra also checks values that a later word replaces; here the last one of a key counts
    last = list({key: word for (key, _), word in zip(pairs, words, strict=True)}.values())
    assert _outcome(_ours, last) == _outcome(_applied, last)
    if wanted != "refused":
        assert _outcome(_ours, words) == wanted


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.lr=many", "train.lr=many is not a number; write it as in train.lr=0.5"),
        ("train.lr=null", "train.lr=null is not a number"),
        ("train.lr=true", "train.lr=true is not a number"),
        ("train.steps=1.5", "train.steps=1.5 is not a whole number; write it as in train.steps=3"),
        ("method.on=perhaps", "method.on=perhaps is not true or false"),
        ("method.mode=[a]", r"method.mode=\['a'\] is not text"),
        ("method.bands=0.5", "method.bands=0.5 is not a list"),
        ("method.bands=[0.5,x]", r"method.bands\[1\]=x is not a number; write it as in method.bands=0.5"),
        ("train.steps=${seed}", r"train.steps=\$\{seed\} stands for a value from elsewhere; write the value"),
        ("method.bands=[[1]]", r"method.bands\[0\]=\[1\] is not a number"),
        ("model.path=x${seed}", "write the value itself"),
        ("seed=???", r"seed=\?\?\? stands for a value from elsewhere"),
        ("train.nothing=1", "unknown train.nothing"),
        ("train.lr=[1", r"'train.lr=\[1' is not an override: no viable alternative.*into quotes"),
        ("seed=1,2", "holds several values"),
        ("seed=choice(1,2)", "holds several values"),
        ("+train.lr=1", "adds, deletes or moves a setting; write key=value"),
        ("~train.lr=1", "adds, deletes or moves"),
        ("seed@x=1", "adds, deletes or moves"),
        ("seed:=3", "'seed:=3' is not an override"),
        ("~train.lr", "'~train.lr' is not an override; write key=value"),
        ("seed", "'seed' is not an override; write key=value"),
    ],
)
def test_what_is_refused_is_named_with_a_remedy(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        _ours([word])
    assert "\n" not in str(refused.value)


def test_words_that_hydra_gives_a_meaning() -> None:
    assert parse(["++seed=4", "train={lr: 1e-4, steps: 3}"]) == {
        "seed": 4,
        "train.lr": 1e-4,
        "train.steps": 3,
    }


def test_names_are_taken_as_they_stand() -> None:
    words = ["method=a dir/(x).py:one+loss=b.py", "+step-size=c,d.py", "+loss='gspo'"]
    wanted = {"method": "a dir/(x).py:one+loss=b.py", "+step_size": "c,d.py", "+loss": "gspo"}
    assert parse(words) == wanted


def test_runs_share_nothing_that_can_be_changed() -> None:
    first = compose({"eval.splits": ["test_id"]})
    first.eval.splits.append("b")
    first.train.diagnostics.append("c")
    second = compose({"eval.splits": ["test_id"]})
    assert second.eval.splits == ["test_id"] and second.train.diagnostics == []
    one, two = made(Knobs, {}), made(Knobs, {})
    one.bands.append(9.0)
    assert two.bands == [0.5, 0.7]


def test_settings_may_be_nested() -> None:
    flat = {"method": "steer", "train.lr": 2e-4, "train.steps": 7, "method.w_min": 0.7, "seed": 3}
    nested = {"train": {"lr": 2e-4, "steps": 7}, "method.w_min": 0.7, "seed": 3}
    assert compose(flat) == compose({"method": "steer", **nested})


def test_defaults_have_the_type_of_their_field() -> None:
    @dataclass
    class Whole:
        gain: float = 1

    assert repr(made(Whole, {}).gain) == "1.0"


@pytest.mark.parametrize("name", ["grpo", "steer", "grpo+loss=gspo+weights=fork-tokens"])
def test_a_stored_configuration_gives_the_run_again(name: str) -> None:
    run = compose({"method": name, "train.token_budget": 1000, "eval.splits": ["test_id"]})
    stored = json.loads(json.dumps(to_dict(run)))
    assert from_dict(stored) == run
    assert repr(to_dict(from_dict(stored))) == repr(to_dict(run))


def test_a_renamed_setting_is_read_from_older_runs_and_refused_when_typed() -> None:
    stored = to_dict(compose({"train.tracking": "wandb"}))
    stored["train"]["mirror"] = stored["train"].pop("tracking")
    assert from_dict(stored).train.tracking == "wandb"
    with pytest.raises(UserError, match=r"train.mirror is called train.tracking now; write train.tracking="):
        compose({"train.mirror": "wandb"})


def test_a_stored_setting_that_is_gone_is_named() -> None:
    stored = to_dict(compose({}))
    stored["train"]["stepz"] = 1
    with pytest.raises(UserError, match="unknown setting 'train.stepz'; did you mean train.steps"):
        from_dict(stored)
