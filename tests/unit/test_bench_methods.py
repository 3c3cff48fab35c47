"""The comparison of methods counts the passes that a step makes, and takes the same step every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.registry.costs import cost_table
from tests.helpers.tiny import LetterBenchmark, small_run, tiny_policy
from tests.performance import bench_methods
from tests.performance.bench_methods import Opened, Side, against, frozen, main

SPLIT = ("train.micro_batch_rows=4", "train.minibatches=2", "train.epochs=1", "train.random_reward=true")


def tiny(method: str, *overrides: str) -> Opened:
    return small_run(*SPLIT, *overrides, method=method), tiny_policy(), LetterBenchmark()


def side(method: str, *overrides: str) -> Side:
    made = frozen(tiny(method, *overrides))
    made.step()
    return made


def test_grpo_has_no_extra_pass() -> None:
    grpo = side("grpo")
    assert grpo.extra_passes() == {}
    rolled = int(grpo.rollouts.mask_BT.sum())
    assert grpo.passed == {"update, gradient": rolled} and grpo.updated_tokens == rolled
    assert 0 < grpo.cpu_s["update"] < grpo.cpu_s["step"]


def test_a_statistic_over_a_split_minibatch_costs_a_pass() -> None:
    assert side("steer").extra_passes() == {"pre-pass": 1.0}
    assert side("steer", "train.micro_batch_rows=8").extra_passes() == {}


def test_a_reference_costs_a_pass() -> None:
    assert side("grpo", "method.kl_coef=0.1").extra_passes() == {"reference": 1.0}


def test_a_head_that_is_read_twice_is_counted_and_a_shared_prompt_once() -> None:
    grpo = side("grpo")
    assert side("bupo").extra_passes()["head"] == 1.0
    rollouts = grpo.rollouts
    fed = int((rollouts.length_B - 1).sum())
    assert fed < grpo.network_tokens < fed + int(rollouts.prompt_mask_BP.sum())  # prompts are shared


def test_every_step_is_the_same() -> None:
    grpo = side("grpo")
    first = grpo.trainer.policy.weights()
    first = {name: value.clone() for name, value in first.items()}
    grpo.step()
    assert all(bool((first[name] == value).all()) for name, value in grpo.trainer.policy.weights().items())


def test_rows_are_added_to_the_file_and_refusals_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def opened(method: str) -> Opened:
        return tiny(method, *(["train.minibatches=1"] if method == "gspo" else []))

    monkeypatch.setattr(bench_methods, "SHAPES", {"tiny": (opened, 2)})
    out = tmp_path / "methods.json"
    main(["--methods", "steer", "--out", str(out)])
    main(["--methods", "gspo", "--out", str(out)])
    rows: dict[str, Any] = json.loads(out.read_text())["tiny"]
    assert list(rows) == ["gspo", "steer"]
    assert rows["steer"]["update"]["pairs"] == 2 and rows["steer"]["extra_passes"] == {"pre-pass": 1.0}
    assert "raise train.minibatches" in rows["gspo"]["refused"]
    assert "1 pre-pass" in capsys.readouterr().out


def test_an_unknown_method_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--methods", "gspoo", "--out", str(tmp_path / "x.json")])
    assert stopped.value.code == 2 and not (tmp_path / "x.json").exists()


def test_statistics_beside_log_prob_and_entropy_are_named() -> None:
    found = against(side("progrpo"), side("grpo"), 1)
    assert found["extra_statistics"] == ["prompt_logp"]
    assert "statistic `prompt_logp`" in cost_table({"progrpo": found})
