"""A run's evaluation on benchmarks: finished once, shared by processes, part of the run's identity."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.config.schema import RunConfig, to_dict
from harness.evaluation.in_run import check_prompts, check_run
from harness.evaluation.samples import read_samples
from harness.registry import benchmarks as registry
from harness.run.identity import identity, identity_parts
from harness.util.errors import UserError
from tests.helpers import together_eval
from tests.helpers.math_files import write_sets
from tests.helpers.processes import run_together
from tests.helpers.tiny import small_run, tiny_folder, tiny_policy


@pytest.fixture
def small_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept = write_sets(tmp_path / "data", ("gsm8k", "aime24"), count=together_eval.PROBLEMS)
    monkeypatch.setenv("ENTROBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ENTROBENCH_ACCEPT_DATA", accept)
    monkeypatch.setattr(registry, "_instances", {})


@pytest.mark.slow
def test_several_processes_evaluate_like_one(small_sets: None, tmp_path: Path) -> None:
    alone = together_eval.evaluated(tiny_folder(), tmp_path / "alone")
    run_together(2, together_eval.main, str(tiny_folder()), str(tmp_path))
    for rank in range(2):
        assert json.loads((tmp_path / f"result-{rank}.json").read_text()) == json.loads(json.dumps(alone))
    files = sorted(p.name for p in (tmp_path / "alone").iterdir())
    assert sorted(p.name for p in (tmp_path / "eval").iterdir()) == files and len(files) == 8
    for name in files:
        if name.endswith(".parquet"):
            pairs = zip(
                read_samples(tmp_path / "alone" / name), read_samples(tmp_path / "eval" / name), strict=True
            )
            for a, b in pairs:
                assert replace(a, logp_sum=0.0) == replace(b, logp_sum=0.0)
                assert a.logp_sum == pytest.approx(b.logp_sum, abs=1e-3)


def test_a_finished_evaluation_is_read_and_not_made_again(
    small_sets: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = together_eval.evaluated(tiny_folder(), tmp_path / "eval")
    from harness.rollout.engines.hf import HfEngine

    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("nothing is left to draw")

    monkeypatch.setattr(HfEngine, "generate", never)
    assert together_eval.evaluated(tiny_folder(), tmp_path / "eval") == first
    entry = first["aime24"]
    assert entry["n"] == 4 and entry["pass"]["n"] == 4 and entry["profile"] == "standard+changes"
    assert len(entry["correct"]) == len(entry["pass"]["correct"]) == together_eval.PROBLEMS


def micro_run(*overrides: str) -> RunConfig:
    return small_run("data.benchmark=micro", *overrides)


def test_benchmarks_and_profile_belong_to_the_identity() -> None:
    plain = micro_run()
    assert "evaluation" not in identity_parts(plain)
    runs = [
        micro_run("eval.benchmarks=[aime24]"),
        micro_run("eval.benchmarks=[aime24,math500]"),
        micro_run("eval.benchmarks=[aime24]", "eval.profile=sage"),
        micro_run("eval.benchmarks=[aime24]", "eval.profile_settings=[n:4]"),
        micro_run("data.template=bare"),
        plain,
    ]
    assert len({identity(run) for run in runs}) == len(runs)
    assert identity(micro_run("eval.profile=sage")) != identity(plain)  # a setting is a setting
    assert runs[0].eval.splits == []  # the default names the micro testbed's splits
    assert to_dict(micro_run("eval.benchmarks=[aime24]", "eval.splits=[test_id]"))["eval"]["splits"] == [
        "test_id"
    ]


def test_more_problems_than_a_set_has_are_refused_before_training(small_sets: None) -> None:
    count = together_eval.PROBLEMS
    asked = "eval.profile_settings=[limit:{}@7,max_tokens:32]"
    run = micro_run("eval.benchmarks=[gsm8k]", asked.format(count + 1))
    with pytest.raises(UserError, match=f"limit={count + 1}@7: gsm8k has {count} problems"):
        check_prompts(run, tiny_policy())
    check_prompts(micro_run("eval.benchmarks=[gsm8k]", asked.format(count)), tiny_policy())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("eval.benchmarks=[aime42]", "unknown benchmark 'aime42'"),
        ("eval.profile=standart", "unknown profile 'standart'; did you mean standard"),
        ("eval.profile_settings=[n4]", "'n4' in eval.profile_settings is not a setting"),
        ("eval.profile_settings=[m:4]", "unknown profile setting 'm'"),
        ("data.template=daop", "unknown template 'daop'; did you mean dapo"),
    ],
)
def test_mistakes_of_a_run_are_refused(override: str, message: str) -> None:
    words = {"eval.benchmarks": "eval.benchmarks=[aime24]"} | {override.partition("=")[0]: override}
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        check_run(small_run(*words.values()), registry.names())
