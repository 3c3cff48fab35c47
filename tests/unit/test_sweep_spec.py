"""Sweep files: what is read, and what is refused with which remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.registry import methods as registry
from harness.registry.cards import read_card
from harness.registry.folders import Folder
from harness.sweep import tracks
from harness.sweep.spec import load_sweep, settings_of
from harness.sweep.text import read_yaml
from harness.util.errors import UserError

Write = Callable[..., Path]


def test_reads_settings_in_both_notations(sweep_file: Write) -> None:
    sweep = load_sweep(sweep_file())
    assert sweep.name == "small" and sweep.methods == ("grpo", "dapo") and sweep.seeds == (1, 2)
    assert sweep.settings == {"train.steps": 3, "eval.n": 4}


def test_later_layers_win_and_the_command_line_wins_over_all(sweep_file: Write) -> None:
    path = sweep_file(per_method={"dapo": {"train.lr": 1e-4, "method": {"eps_high": 0.3}}})
    sweep = load_sweep(path, ["train.steps=9"])
    found = settings_of(sweep, sweep.grid[0], "dapo", {"train.lr": 3e-4})
    assert found["method"] == "dapo" and found["train.steps"] == 9
    assert found["train.lr"] == 3e-4 and found["method.eps_high"] == 0.3
    assert not any(key.startswith("method.") for key in settings_of(sweep, sweep.grid[0], "grpo"))


def test_methods_by_track(sweep_file: Write, tmp_path: Path) -> None:
    cards = {name: read_card(entry) for name, entry in registry.entries().items()}
    main = tuple(name for name, card in cards.items() if card.track == "main" and card.fidelity != "own")
    assert load_sweep(sweep_file(methods={"tracks": ["main"]})).methods == main
    chosen = {"tracks": ["main"], "except": ["bapo", "era@paper"], "also": ["grpo+bounds=dapo"]}
    less = [name for name in main if not name.startswith("bapo@") and name != "era@paper"]
    sweep = load_sweep(sweep_file(methods=chosen))
    assert sweep.methods == (*less, "grpo+bounds=dapo") and len(less) == len(main) - 3
    # named beside the tracks it is not taken twice, and without tracks `also` is a list
    again = load_sweep(sweep_file(methods={"tracks": ["main"], "also": ["dapo"]})).methods
    assert sorted(again) == sorted(main) and again[-1] == "dapo"
    assert load_sweep(sweep_file(methods={"also": ["dapo"]})).methods == ("dapo",)
    assert load_sweep(sweep_file(methods={"tracks": ["main"]}), ["methods=[grpo]"]).methods == ("grpo",)


def test_a_method_of_ones_own_does_not_slip_into_a_track(
    sweep_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, fidelity in (("mine", "own"), ("theirs", "paper-verified")):
        (tmp_path / f"{name}.py").write_text(f'@register("{name}")\nclass A: ...\n')
        (tmp_path / f"{name}.md").write_text(f"---\ntrack: main\nfidelity: {fidelity}\n---\n")
    monkeypatch.setattr(tracks, "folders", lambda kind: (Folder(tmp_path, kind),))
    assert tracks.named_methods({"methods": {"tracks": ["main"]}}, "s.yaml") == ["theirs"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sedes": [1]}, "unknown key.*'sedes'; did you mean seeds"),
        ({"methods": ["grpo", "dappo"]}, "unknown method 'dappo'; did you mean dapo"),
        ({"methods": []}, "'methods' is missing"),
        ({"methods": "grpo"}, "'methods' must be a list"),
        ({"methods": ["grpo", "grpo"]}, "lists 'grpo' twice"),
        ({"methods": {"tracks": ["mian"]}}, "unknown track.*'mian'; did you mean main"),
        ({"methods": {"track": ["main"]}}, "unknown key.*'track'; did you mean tracks"),
        ({"methods": {"tracks": "main"}}, "'tracks' must be a list"),
        ({"methods": {"tracks": ["off-policy"]}}, "no published method is of track off-policy"),
        ({"methods": {"tracks": ["main"], "except": ["dappo"]}}, "except: 'dappo'; did you mean dapo"),
        ({"methods": {"tracks": ["main"], "also": ["dappo"]}}, "unknown method 'dappo'; did you mean dapo"),
        ({"seeds": [1, 1]}, "lists '1' twice"),
        ({"seeds": [1, -2]}, "not a whole number"),
        ({"seeds": ["a"]}, "not a whole number"),
        ({"per_method": {"steer": {"train.lr": 1}}}, "names 'steer', which is not in methods"),
        ({"controls": {"grpo": {}}}, "has the name of another row"),
        ({"per_method": {"dapo": {"rollout.correction_cap": 3}}}, "one for all rows of a table"),
        ({"controls": {"c": {"rollout": {"correction_cap": 3}}}}, "one for all rows of a table"),
        ({"name": "a/b"}, "cannot name a folder"),
        ({"tuning": {"lrs": [1], "knobs": {}}}, "'seed' is missing"),
        ({"tuning": {"lrs": [1], "knobs": {}, "seed": 2}}, "tuning seed 2.*must be fresh"),
        ({"tuning": {"lr": [1]}}, "'lr'; did you mean lrs"),
        ({"tuning": {"lrs": [1], "seed": 9, "knobs": {"grpo": {"eps_high": 0.2}}}}, "list of values"),
        ({"tuning": {"lrs": [1], "seed": 9, "knobs": {"grpo": {"a": [1], "b": [1, 2]}}}}, "of one length"),
    ],
)
def test_refuses(sweep_file: Write, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_sweep(sweep_file(**change))


@pytest.mark.parametrize(
    ("option", "message"),
    [("wokers=2", "unknown option 'wokers'; did you mean workers"), ("fast", "not key=value")],
)
def test_refuses_options(sweep_file: Write, option: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_sweep(sweep_file(), [option])


@pytest.mark.parametrize("name", ["micro", "pocket"])
def test_what_tuning_chose_is_no_sweep(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}.tuned.yaml holds what tuning chose for a sweep"):
        load_sweep(Path(__file__).parents[2] / "sweeps" / f"{name}.tuned.yaml")


def test_options_choose_methods_seeds_and_workers(sweep_file: Write) -> None:
    path = sweep_file(per_method={"dapo": {"train.lr": 1e-4}})
    sweep = load_sweep(path, ["methods=[grpo]", "seeds=[7]", "workers=3"])
    assert sweep.methods == ("grpo",) and sweep.seeds == (7,) and sweep.local == {"workers": 3}


def test_knobs_may_move_several_values_together(sweep_file: Write) -> None:
    knobs = {"grpo": {"eps_high": [0.2, 0.3], "train.epochs": [1, 2]}}
    sweep = load_sweep(sweep_file(tuning={"lrs": ["1e-4"], "seed": 9, "knobs": knobs}))
    assert sweep.tuning is not None
    assert sweep.tuning.knobs["grpo"][1] == {"method.eps_high": 0.3, "train.epochs": 2}


def test_method_files_are_found_beside_the_sweep(sweep_file: Write, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text('@register("mine")\nclass Mine: ...\n')
    sweep = load_sweep(sweep_file(methods=["grpo", "mine.py"]))
    assert sweep.methods[1] == f"{tmp_path.resolve() / 'mine.py'}:mine"


def test_yaml_reads_scientific_numbers_and_refuses_doubled_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1e-4\nb: 5E3\nc: 1e\n")
    assert read_yaml(path) == {"a": 1e-4, "b": 5e3, "c": "1e"}
    path.write_text("a: 1\nb: 2\na: 3\n")
    with pytest.raises(UserError, match="'a' is given twice"):
        read_yaml(path)
    path.write_text("a: [1\n")
    with pytest.raises(UserError, match="not valid YAML"):
        read_yaml(path)


@pytest.mark.parametrize(
    "value", [None, True, 3, -1.5e-7, "a b", "it's", "x=y,[z]", "null", "", "C:\\d", "e\\"]
)
def test_settings_keep_their_value(sweep_file: Write, value: Any) -> None:
    sweep = load_sweep(sweep_file(settings={"a.b": value, "a": {"c": [value, value]}}))
    found = settings_of(sweep, sweep.grid[0], "grpo")
    assert found["a.b"] == value and type(found["a.b"]) is type(value)
    assert found["a.c"] == [value, value]
