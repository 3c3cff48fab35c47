"""A word in a YAML file is what it looks like: no octals, sexagesimals, dates, or booleans called on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config.hydra import parse
from harness.registry.cards import read_header
from harness.run.compose import compose
from harness.sweep.spec import load_sweep
from harness.sweep.text import read_yaml, scalar
from harness.sweep.tune import write_tuned
from harness.util.errors import UserError
from harness.util.plain_yaml import dump_yaml, parse_yaml

Write = Callable[..., Path]

#: A word, what it is, and what it is where text is meant.
WORDS: list[tuple[str, Any]] = [
    ("0044", "0044"), ("007", "007"), ("0o17", "0o17"), ("0x1F", "0x1F"), ("0b11", "0b11"),
    ("08:30", "08:30"), ("1:30:00", "1:30:00"), ("2027-01-31", "2027-01-31"), ("190:20:30.15",) * 2,
    ("2001-12-14t21:59:43Z",) * 2, ("yEs", "yEs"), ("on", "on"), ("Off", "Off"), ("yes", "yes"), ("NO", "NO"),
    ("y", "y"), ("=", "="), ("true", True), ("False", False), ("~", None), ("", None), ("null", None),
    ("12", 12), ("-3", -3), ("0", 0), ("2_500", 2500), ("2.50", 2.5), ("1e3", 1000.0), ("2.5e-3", 0.0025),
    (".5", 0.5), ("4.", 4.0), ("00.5", "00.5"), ("1.2.3", "1.2.3"), ("12e", "12e"), ("'12'", "12"),
]  # fmt: skip


@pytest.mark.parametrize(("word", "value"), WORDS)
def test_a_word_is_what_it_looks_like(word: str, value: Any) -> None:
    plain, items = parse_yaml(f"a: {word}\nb: [{word or '~'}]\n", "x").values()
    assert plain == value and type(plain) is type(value) and items == [value]
    assert scalar(word) == ("" if word == "" else word if value is None else value)
    text = parse_yaml(f"a: {word}\n", "x", lambda keys, kind: keys == ("a",))["a"]
    assert text == (None if value is None else word.strip("'"))


def test_keys_are_text_and_aliases_are_read() -> None:
    found = parse_yaml("on: 1\n010: &x {no: 2}\n1.10: *x\n'': {<<: *x, b: 3}\n", "x")
    assert found == {"on": 1, "010": {"no": 2}, "1.10": {"no": 2}, "": {"no": 2, "b": 3}}


@pytest.mark.parametrize(
    "text", ["a: 1\n'a': 2", "a: [1", "? [1]\n: 2", "a: !!int on", "a: !other b", "a: 1\n---\nb: 1"]
)
def test_what_is_no_yaml_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"x(:2: 'a' is given twice| is not valid YAML)") as refused:
        parse_yaml(text, "x")
    assert "\n" not in str(refused.value)


def test_what_is_written_is_read_again() -> None:
    words = [word for word, _ in WORDS] + ["1234567e12", "a: b", "- a", "#", "it's"]
    body = {f"k{i}": word for i, word in enumerate(words)} | {"n": [1, 2.5, 1e-7, True, None, -0.0]}
    assert parse_yaml(dump_yaml(body), "x") == body == yaml.safe_load(dump_yaml(body))


def test_a_sweep_file_takes_text_as_it_stands(sweep_file: Write) -> None:
    path = sweep_file(methods=["grpo"], seeds=[1])
    path.write_text(
        "methods: [grpo]\nseeds: [012, 2e0]\nruns_dir: 2027-01-31\nresults_dir: 007\nname: on\n"
        "models:\n  micro: {revision: 12e5}\n"
        "settings: {model.revision: 31e7, data: {template: 1.10}, rollout.engine_settings: [5e3]}\n"
        "slurm:\n  account: 0044\n  qos: 1.10\n  time: 1:30:00\n"
        "  sbatch: {begin: 08:30, nice: 0100, hold: true}\n"
    )
    sweep = load_sweep(path)
    assert (sweep.name, sweep.runs_dir, sweep.results_dir, sweep.seeds) == (
        "on",
        "2027-01-31",
        "007",
        (12, 2),
    )
    assert sweep.models[0].settings["model.revision"] == "12e5"
    assert sweep.settings == {
        "model.revision": "31e7", "data.template": "1.10", "rollout.engine_settings": ["5e3"],
    }  # fmt: skip
    assert sweep.slurm == {
        "account": "0044", "qos": "1.10", "time": "1:30:00",
        "sbatch": {"begin": "08:30", "nice": "0100", "hold": True},
    }  # fmt: skip


def test_the_command_line_reads_the_same_words(sweep_file: Write) -> None:
    path = sweep_file(methods=["grpo"], seeds=[1])
    sweep = load_sweep(
        path, ["name=1.10", "runs_dir=2027-01-31", "slurm.account=0044", "slurm.cpus=4", "seeds=[010]"]
    )
    assert (sweep.name, sweep.runs_dir, sweep.seeds) == ("1.10", "2027-01-31", (10,))
    assert sweep.slurm == {"account": "0044", "cpus": 4}
    words = ["seed=010", "train.token_budget=1e6", "train.steps=2e1", "model.revision=12e5", "runs_dir=007"]
    run = compose(parse(words))
    assert (run.seed, run.train.token_budget, run.train.steps) == (10, 1_000_000, 20)
    assert type(run.train.token_budget) is int
    assert (run.model.revision, run.runs_dir) == ("12e5", "007")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seeds: [on]", "'on' is not a whole number"),
        ("seeds: [2027-01-31]", "'2027-01-31' is not a whole number"),
        ("seeds: [1.5]", "'1.5' is not a whole number"),
        ("allow_stale_tuning: yes", "must be true or false"),
        ("slurm: {requeue: on}", "write true or false"),
        ("slurm: {nodes: 02}", "write a whole number"),
        ("slurm: {memory: 0x20}", "with its unit"),
    ],
)
def test_text_where_something_else_is_meant_is_refused(sweep_file: Write, line: str, message: str) -> None:
    path = sweep_file(methods=["grpo"], seeds=[1])
    path.write_text(
        "".join(f"{own}\n" for own in ("methods: [grpo]", "seeds: [1]") if own[:5] != line[:5]) + line
    )
    with pytest.raises(UserError, match=message):
        load_sweep(path)


def test_tuned_files_and_cards_keep_what_looks_like_a_number(tmp_path: Path) -> None:
    body = {
        "sweep": "1e3",
        "choices": {"grpo": {"run_id": "12e4", "method_hash": "7654321e10", "score": 0.5}},
    }
    write_tuned(tmp_path / "x.tuned.yaml", body)
    assert read_yaml(tmp_path / "x.tuned.yaml") == body
    card = tmp_path / "x.md"
    card.write_text(
        "---\ntitle: 0x5\narxiv: 2510.10650\nreduces_to: {base: grpo, values: {eps: 1e-3}}\n---\nBody"
    )
    raw, _ = read_header(card, "")
    assert (raw["title"], raw["arxiv"], raw["reduces_to"]["values"]) == ("0x5", "2510.10650", {"eps": 0.001})
