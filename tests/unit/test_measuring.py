"""What measuring may cost beside training: the arithmetic, which problems it takes, what a plan says."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.cli.plan import show_plan
from harness.config.schema import to_dict
from harness.problems.problem import Problem
from harness.registry import benchmarks
from harness.report.data.groups import group_records
from harness.run import execute as runs
from harness.run.identity import identity, identity_parts
from harness.run.measuring import AT_LEAST, SHARE, frontier_limit, frontier_size, measuring, taken
from harness.sweep.jobs import Runs
from harness.sweep.plan import ledger, make_plan, states
from harness.sweep.spec import load_sweep
from harness.util.errors import UserError
from harness.util.files import read_json
from tests.helpers.execution import configured
from tests.helpers.records import small_record
from tests.helpers.settings import composed
from tests.helpers.tiny import SMALL, tiny_folder

FOLDER = Path(__file__).parent.parent.parent / "sweeps"
MICRO = [f"sweeps/{name}" for name in ("demo.yaml", "demo-full.yaml", "micro.yaml")]
REAL = sorted(str(path.relative_to(FOLDER.parent)) for path in (FOLDER / "papers").glob("*.yaml"))
REAL += ["sweeps/std-small.yaml", "sweeps/std-1.5b.yaml"]
Write = Callable[..., Path]


def _run(*more: str) -> Any:
    return composed(
        "data.benchmark=gsm8k", "eval.splits=[test]", "rollout.prompts_per_step=32", "rollout.group_size=8",
        "rollout.max_response_tokens=512", "train.steps=300", "train.token_budget=5000000", "probe.every=10",
        "probe.prompts=32", "probe.samples=4", "eval.frontier_every=50", "eval.frontier_n=16", *more,
    )  # fmt: skip


def _spent(run: Any, problems: int, length: int) -> tuple[int, int]:
    """Tokens of measuring and of training when every response is ``length`` tokens long, step by step."""
    step = trained = 0
    a_probe = run.probe.prompts * run.probe.samples * length
    a_point = problems * run.eval.frontier_n * length
    measured = a_probe + a_point
    while step < run.train.steps and trained < (run.train.token_budget or math.inf):
        step += 1
        trained += run.rollout.prompts_per_step * run.rollout.group_size * length
        last = step == run.train.steps or trained >= (run.train.token_budget or math.inf)
        measured += a_probe if step % run.probe.every == 0 or last else 0
        measured += a_point if step % run.eval.frontier_every == 0 or last else 0
    return measured, min(trained, run.train.token_budget or trained)


@pytest.mark.parametrize(
    "more",
    [[], ["train.token_budget=null"], ["train.token_budget=8000000", "eval.frontier_every=7"],
     ["probe.every=3", "eval.frontier_n=4"], ["train.steps=60", "train.token_budget=30000000"]],
    ids=["budget", "steps", "often", "probe", "cut-short"],
)  # fmt: skip
def test_a_quarter_holds_for_responses_of_every_length(more: list[str]) -> None:
    run = _run(*more)
    limit = frontier_limit(run)
    assert limit is not None and limit > AT_LEAST
    bound, worst = measuring(run, limit), 0.0
    for length in range(8, 513, 4):
        measured, trained = _spent(run, limit, length)
        worst = max(worst, measured / trained)
    assert worst <= bound.share + 1e-9 <= SHARE + 2e-9
    assert worst > 0.6 * SHARE, "far from the budget, so problems are left out for nothing"
    one_more = measuring(run, limit + 1)
    assert one_more.share > SHARE and one_more.probe == pytest.approx(bound.probe, rel=0.2)


def test_figures_by_hand() -> None:
    run = _run("train.token_budget=null", "train.steps=100")
    # 25,600 responses; 11 probes of 128; 3 points of 16 a problem: (6,400 - 1,408) / 48 problems
    assert frontier_limit(run) == 104 == frontier_limit(to_dict(run))
    cost = measuring(run, 104)
    assert (cost.probe, cost.frontier) == (pytest.approx(1408 / 25600), pytest.approx(4992 / 25600))


def test_a_short_run_takes_a_few_problems_all_the_same() -> None:
    assert frontier_limit(_run("train.steps=2", "train.token_budget=null")) == AT_LEAST


def test_a_number_or_all_is_as_it_is_asked_for() -> None:
    assert frontier_limit(_run("eval.frontier_problems=all")) is None
    for text in ("30", "3e1", "030"):
        run = _run(f"eval.frontier_problems={text}")
        assert frontier_limit(run) == 30 and run.eval.frontier_problems == "30"
    for text in ("0", "-3", "2.5", "half"):
        with pytest.raises(UserError, match="eval.frontier_problems=.* all, or auto"):
            _run(f"eval.frontier_problems={text}")


def test_identities_name_what_the_setting_comes_to() -> None:
    auto = _run()
    limit = frontier_limit(auto)
    assert identity_parts(auto)["frontier_problems"] == limit
    assert identity(_run(f"eval.frontier_problems={limit}")) == identity(auto)
    assert identity(_run("eval.frontier_problems=all")) != identity(auto)
    micro = composed("train.steps=4")
    assert "frontier_problems" not in identity_parts(micro) and frontier_limit(micro) is None
    assert identity(composed("train.steps=4", "eval.frontier_problems=all")) == identity(micro)
    assert identity(composed("train.steps=4", "eval.frontier_problems=20")) != identity(micro)
    # the untrained model has as many as the runs that it stands beside
    assert runs.base_folder(auto) != runs.base_folder(_run("train.token_budget=8000000"))
    assert runs.base_folder(auto) == runs.base_folder(_run(f"eval.frontier_problems={limit}"))


@pytest.mark.parametrize("file", MICRO)
def test_the_testbed_measures_all_that_it_did(file: str) -> None:
    for job in make_plan(load_sweep(FOLDER.parent / file), Runs()):
        assert frontier_size(job.config) == (96, 96)
        parts = identity_parts(runs_config(job))
        assert "frontier_problems" not in parts and "frontier_problems" not in parts["config"]["eval"]


def runs_config(job: Any) -> Any:
    from harness.run.compose import from_dict

    return from_dict(job.config)


@pytest.mark.parametrize("file", REAL)
def test_shipped_sweeps_of_language_models_stay_within_a_quarter(file: str) -> None:
    jobs = [job for job in make_plan(load_sweep(FOLDER.parent / file), Runs()) if job.role != "base"]
    assert jobs
    for config in {job.setting: job.config for job in jobs}.values():
        problems, there = frontier_size(config)
        assert problems is not None and there is not None and AT_LEAST < problems <= there
        assert measuring(config, problems).share <= SHARE + 1e-9


def test_problems_are_chosen_by_their_ids_and_smaller_choices_are_parts_of_larger_ones() -> None:
    problems = [Problem(f"set/{i:03d}", str(i)) for i in range(40)]
    ten, twenty = taken(problems, 10), taken(problems, 20)
    assert len(ten) == 10 and len(twenty) == 20 and all(problem in twenty for problem in ten)
    assert list(ten) == [p for p in problems if p in ten], "in the order of the split"
    assert list(taken(problems[::-1], 10)) == list(ten)[::-1] and list(ten) != problems[:10]
    assert taken(problems, None) is problems and taken(problems, 40) is problems


def test_sizes_that_sets_say_of_themselves_are_right(tmp_path: Path) -> None:
    micro = benchmarks.load("micro")
    for split in micro.splits():
        assert micro.size(split) == len(micro.problems(split))  # type: ignore[attr-defined]
    assert benchmarks.load("gsm8k").size("test") == 1319  # type: ignore[attr-defined]


def test_a_run_samples_its_part_and_its_record_says_which(tmp_path: Path) -> None:
    own = ["method=grpo", f"model.path={tiny_folder()}", *SMALL, "train.steps=1", "eval.splits=[test_id]"]
    run = configured([*own, f"runs_dir={tmp_path}", "eval.frontier_problems=3"])
    folder = runs.execute(run)
    points = [read_json(path) for path in sorted((folder / "eval").glob("frontier-*.json"))]
    assert len(points) == 2
    for point in points:
        assert len(point["correct"]) == len(point["problem_ids"]) == 3
    problems = benchmarks.load("letters").problems("validation")
    wanted = [problem.id for problem in taken(problems, 3)]
    assert runs.result(folder).frontier_problem_ids == wanted == points[0]["problem_ids"]
    whole = runs.result(runs.execute(configured([*own, f"runs_dir={tmp_path}"])))
    assert whole.frontier_problem_ids is None and len(whole.frontier[0].correct) == 4
    base = runs.result(runs.evaluate_base(run))
    assert base.frontier_problem_ids == wanted


def test_points_of_other_problems_are_refused_in_one_table() -> None:
    point = {"step": 0, "n": 4, "correct": [1, 2]}
    whole = small_record(seed=1, frontier=[point])
    part = replace(small_record(seed=2, frontier=[point]), frontier_problem_ids=["a", "b"])
    other = replace(part, seed=3, frontier_problem_ids=["a", "c"])
    assert len(group_records([part, replace(part, seed=4, frontier_problem_ids=["b", "a"])])) == 1
    for pair in ([whole, part], [part, other]):
        with pytest.raises(
            ValueError, match="different validation problems cannot stand in one table"
        ) as said:
            group_records(pair)
        assert "eval.frontier_problems" in str(said.value)
    assert len(group_records([part, replace(other, frontier=[])])) == 1


def _plan(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    sweep = load_sweep(path, list(words))
    jobs = make_plan(sweep, Runs())
    show_plan(sweep, jobs, states(jobs, ledger(sweep)), Runs())
    return [
        line for line in capsys.readouterr().out.splitlines() if "measuring" in line or "test sets" in line
    ]


def test_a_plan_says_what_measuring_costs(sweep_file: Write, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {
        "data.benchmark": "gsm8k", "train": {"steps": 100},
        "rollout": {"prompts_per_step": 32, "group_size": 8, "max_response_tokens": 512},
        "probe": {"every": 10, "prompts": 32, "samples": 4},
        "eval": {"splits": ["test"], "n": 4, "frontier_every": 50, "frontier_n": 16},
    }  # fmt: skip
    path = sweep_file(settings=settings)
    assert _plan(path, capsys) == [
        "measuring: at most 3.28 M tokens beside 13.1 M of training, 25 % (probe 5.5 %, frontier 20 %: "
        "104 of 244 problems x 16)",
        "  test sets at the end of a run: at most 2.7 M tokens",
    ]
    line, _, warning = _plan(path, capsys, "eval.frontier_problems=all")
    assert "51 % (probe 5.5 %, frontier 46 %: 244 of 244 problems x 16)" in line
    assert warning.startswith("WARNING: measuring may generate 51 % of training's tokens, more than 25 % (")
    assert "write eval.frontier_problems=auto" in warning
    *_, warning = _plan(path, capsys, "probe.every=1")
    assert "raise probe.every" in warning
    *_, warning = _plan(path, capsys, "eval.frontier_every=1")
    assert "raise eval.frontier_every" in warning and "auto" not in warning


def test_the_plan_of_the_testbed_says_that_it_asks_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    line, _ = _plan(FOLDER / "demo.yaml", capsys)
    assert "96 of 96 problems x 64; micro asks for all problems" in line and "WARNING" not in line


def test_rows_that_no_table_could_hold_are_refused_before_they_run(sweep_file: Write) -> None:
    path = sweep_file(
        settings={"data.benchmark": "gsm8k", "train.steps": 100,
                  "eval": {"splits": ["test"], "frontier_n": 16, "frontier_every": 50}},
        controls={"longer": {"train.steps": 400}},
    )  # fmt: skip
    with pytest.raises(
        UserError, match=r"different validation problems \(.* in longer\).*frontier_problems: "
    ):
        make_plan(load_sweep(path), Runs())
    assert make_plan(load_sweep(path, ["eval.frontier_problems=20"]), Runs())
