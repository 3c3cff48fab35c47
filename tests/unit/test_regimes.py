"""Regimes: frozen settings of sweeps, carried by records, never mixed; the choice of `long` and `stale`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.micro import testbed
from harness.cli import main
from harness.records.record import Record
from harness.registry import benchmarks
from harness.report.data.groups import group_records
from harness.report.tables.build import build_report
from harness.sweep.collect import collect
from harness.sweep.jobs import Runs
from harness.sweep.local import LocalLauncher
from harness.sweep.plan import ledger, make_plan
from harness.sweep.regimes import digest, regime_settings
from harness.sweep.spec import load_sweep
from harness.util.errors import UserError
from tests.helpers.records import small_record, typed
from tests.testbed.regimes import (
    BOUNDED,
    HORIZONS,
    SEEDS,
    TUNING_SEED,
    decide_long,
    decide_stale,
    freeze,
    random_gains,
    upto,
)
from tests.unit.test_report import rows_of

Write = Callable[..., Path]
ROOT = Path(__file__).parents[2]
TUNING = {"lrs": [1e-4], "seed": 9, "knobs": {"grpo": {"eps_high": [0.2]}}}
#: Of every regime that was ever frozen. A line is added with a version, and never changed.
FROZEN = {
    "fresh@1": "a3acfc224fdb2fbce17e13753248b0487e6c268aafca09d4daba3d7f1e3d3fca",
    "long@1": "49e56d2a3df4521572fc12def171475c040447b4af640dd6f2e8bfa7354235aa",
    "stale@1": "b7bd1c82df70059c6ccc27113aa8f848e64e6c3f08187b068c12732c4f08a077",
}


def test_a_frozen_regime_is_never_edited() -> None:
    known = testbed.Micro().regimes()
    assert {name: digest(one["settings"]) for name, one in known.items()} == FROZEN
    assert {name: one["digest"] for name, one in known.items()} == FROZEN
    assert all(regime_settings("micro", name) for name in FROZEN)


def test_the_testbeds_leaderboard_is_in_fresh() -> None:
    sweep = load_sweep(ROOT / "sweeps" / "micro.yaml")
    assert sweep.regime == "fresh@1"
    run = Runs().compose(make_plan(sweep, Runs())[1].config and {"method": "grpo", **sweep.settings})
    assert (run.train.token_budget, run.train.steps, run.rollout.lag) == (140_000, 400, 0)


def _other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **settings: Any) -> None:
    """A second regime, ``quick@1``."""
    known = json.loads(testbed.REGIMES_FILE.read_text())
    known["quick@1"] = {"settings": settings, "digest": digest(settings)}
    (tmp_path / "regimes.json").write_text(json.dumps(known))
    monkeypatch.setattr(testbed, "REGIMES_FILE", tmp_path / "regimes.json")
    loaded = type(benchmarks.load("micro"))
    monkeypatch.setattr(loaded, "regimes", lambda self: json.loads((tmp_path / "regimes.json").read_text()))


def test_every_run_has_the_settings_of_the_regime_and_records_carry_it(
    sweep_file: Write, backend: Any, worker: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _other(monkeypatch, tmp_path, **{"train.steps": 3, "rollout.lag": 2})
    path = sweep_file(methods=["grpo"], seeds=[1], regime="quick@1", settings={"eval.n": 4})
    sweep = load_sweep(path, ["workers=2"])
    jobs = make_plan(sweep, backend)
    assert {job.config["rollout"]["lag"] for job in jobs} == {2}
    LocalLauncher(sweep, ledger(sweep), worker).submit(jobs)
    assert {record.regime for record in collect(sweep, jobs, backend).records} == {"quick@1"}
    plain = sweep_file(
        "plain", methods=["grpo"], seeds=[1], settings={"eval.n": 4, "train.steps": 3, "rollout.lag": 2}
    )
    assert [j.run_id for j in make_plan(load_sweep(plain), backend)] == [j.run_id for j in jobs]


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"settings": {"train.steps": 4}}, [], "train.steps=4, and regime quick@1 fixes it at 3"),
        ({}, ["train.steps=5"], "the command line sets train.steps=5"),
        ({"per_method": {"grpo": {"rollout.lag": 1}}}, [], "per_method: grpo sets rollout.lag=1"),
        ({"controls": {"c": {"rollout.lag": 1}}}, [], "controls: c sets rollout.lag=1"),
        (
            {"tuning": TUNING | {"settings": {"train.steps": 9}}},
            [], "tuning: settings sets train.steps=9",
        ),
        ({"training_sets": {"far": {"benchmark": "micro", "rollout.lag": 4}}}, [], "far sets rollout.lag=4"),
        ({"regime": "quick@2"}, [], "regime of micro 'quick@2'"),
        ({"regime": "quick"}, [], "write its version, too"),
        (
            {"training_sets": {"micro": None, "gsm8k": None}}, [],
            "a regime is of one benchmark, but training_sets has gsm8k, micro",
        ),
        ({"training_sets": ["gsm8k"]}, [], "regime of gsm8k"),
    ],
)  # fmt: skip
def test_what_the_regime_fixes_is_set_nowhere_else(
    changes: dict[str, Any], options: list[str], message: str, sweep_file: Write,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    _other(monkeypatch, tmp_path, **{"train.steps": 3, "rollout.lag": 2, "eval.frontier_every": 5})
    path = sweep_file(**{"methods": ["grpo"], "settings": {"eval.n": 4}, "regime": "quick@1"} | changes)
    with pytest.raises(UserError) as caught:
        load_sweep(path, options)
    assert message in str(caught.value)


def test_trials_may_measure_less_often_and_an_edited_regime_is_refused(
    sweep_file: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _other(monkeypatch, tmp_path, **{"train.steps": 3, "eval.frontier_every": 5})
    tuning = {
        "lrs": [1e-4],
        "seed": 9,
        "knobs": {"grpo": {"eps_high": [0.2]}},
        "settings": {"eval.frontier_every": 99},
    }
    path = sweep_file(methods=["grpo"], settings={"eval.n": 4}, regime="quick@1", tuning=tuning)
    assert load_sweep(path).settings["train.steps"] == 3
    tuned = {"seed": 9, "choices": {"grpo": {"settings": {"train.lr": 1e-4, "train.steps": 5}}}}
    path.with_name("small.tuned.yaml").write_text(json.dumps(tuned))
    with pytest.raises(UserError, match="small.tuned.yaml: grpo sets train.steps=5, and regime"):
        make_plan(load_sweep(path), Runs())
    file = tmp_path / "regimes.json"
    file.write_text(file.read_text().replace('"train.steps": 3', '"train.steps": 4'))
    with pytest.raises(UserError, match="regime quick@1 of micro is not as it was frozen"):
        load_sweep(path)


def test_records_of_other_regimes_or_versions_are_refused_by_name(tmp_path: Path, capsys: Any) -> None:
    rows = [*rows_of("grpo", 0.0, regime="long@1"), *rows_of("better", 0.1, regime="long@2")]
    message = 'different regime cannot stand in one table: "long@1" in 3 .*"long@2" in 3'
    with pytest.raises(ValueError, match=message):
        group_records(typed(rows))
    mixed = [*rows[:3], *rows_of("a", 0.1)]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed))
    assert main(["report", str(tmp_path)]) == 2
    assert "different regime" in capsys.readouterr().err
    built = build_report(typed(rows[:3]), title="t", subtitle="", expected_seeds=None, reference="grpo")
    assert any("Regime: long@1." in text for _, text in built.notes)


# What follows: the choice, on courses made from nothing.

TOKENS_A_STEP = 1_000


def course(
    seed: int, place: str, rate: float, rights: list[int], *, lag: int = 0, clipped: float = 0.0
) -> Record:
    """A run of 1.4 million tokens whose 40 problems have so many right answers at equal distances."""
    end = HORIZONS[-1] // TOKENS_A_STEP
    steps = [round(i * end / (len(rights) - 1)) for i in range(len(rights))]
    return small_record(
        seed=seed, run_id=f"{place}-{seed}", training_set=place, train={"lr": rate},
        settings={"rollout": {"lag": lag}},
        probe=[{"step": s, "generated_tokens": s * TOKENS_A_STEP, "entropy_nats": 0.5} for s in (0, end)],
        frontier=[
            {"step": s, "n": 64, "correct": [right + (7 * i + 3 * seed + s) % 3 - 1 for i in range(40)]}
            for s, right in zip(steps, rights, strict=True)
        ],
        trace={"step": [1], "generated_tokens": [1], "clip_low": [clipped / 2], "clip_high": [clipped / 2]},
    )  # fmt: skip


# at 0, 350, 700, 1050 and 1400 thousand tokens
RISES, HOLDS, FALLS, SINKS = [3, 6, 8, 9, 10], [3, 6, 6, 6, 6], [3, 12, 12, 3, 2], [3, 5, 5, 2, 1]


def test_a_run_is_cut_at_a_horizon() -> None:
    cut = upto(course(1, "a", 1e-4, RISES), 840_000)
    assert [point.step for point in cut.frontier] == [0, 350, 700]


def test_long_is_the_first_horizon_at_which_the_tuned_rate_has_lost() -> None:
    tuning = [course(TUNING_SEED, "a", 4e-5, FALLS), course(TUNING_SEED, "b", 8e-5, HOLDS)]
    found = decide_long([])
    assert found.settings is None and found.missing == () and "seed 111 are missing" in found.lines[0]
    found = decide_long(tuning)
    assert found.missing == ("a",) and found.settings is None
    seeds = [course(s, "a", 4e-5, FALLS) for s in SEEDS]
    found = decide_long([*tuning, *seeds])
    assert found.missing == ("b",), "at 1.4 million tokens the other rate is the better one"
    falling = [*(course(s, "b", 8e-5, [3, 7, 9, 8, 4]) for s in SEEDS)]
    found = decide_long([*tuning, *seeds, *falling])
    assert found.settings is not None and found.settings["train.token_budget"] == 1_400_000
    assert found.lines[-1] == "chosen: 1,400,000 tokens, tuned as ever"


def test_a_tuned_rate_that_escapes_is_said_and_a_table_for_each_rate_takes_its_place() -> None:
    records = [course(s, "a", 4e-5, RISES) for s in (TUNING_SEED, *SEEDS)]
    records += [course(TUNING_SEED, "b", 8e-5, SINKS)]
    found = decide_long(records)
    assert found.missing == ("b",) and any("escapes every collapse" in line for line in found.lines)
    found = decide_long([*records, *(course(s, "b", 8e-5, SINKS) for s in SEEDS)])
    assert found.settings is not None and found.lines[-1].endswith("with a table for each rate")
    found = decide_long([*records[:-1], *(course(s, "b", 8e-5, HOLDS) for s in (TUNING_SEED, *SEEDS))])
    assert found.settings is None and found.lines[-1].startswith("no rate of the grid loses anything")


def test_stale_is_the_first_lag_with_enough_tokens_at_a_bound_where_grpo_learns() -> None:
    def runs(lag: int, clipped: float, rights: list[int]) -> list[Record]:
        every = (TUNING_SEED, *SEEDS)
        return [course(s, f"lag-{lag}", 4e-5, rights, lag=lag, clipped=clipped) for s in every]

    found = decide_stale([*runs(2, BOUNDED / 2, RISES), *runs(4, 2 * BOUNDED, RISES), *runs(8, 0.2, RISES)])
    assert found.settings is not None and found.settings["rollout.lag"] == 4
    assert found.settings["train.token_budget"] == 420_000
    sinking = [6, 3, 2, 1, 1]
    found = decide_stale([*runs(2, 0.0, RISES), *runs(4, 0.1, sinking), *runs(8, 0.1, sinking)])
    assert found.settings is None and "it does not learn" in found.lines[1]
    assert decide_stale(runs(2, 0.1, RISES)[:1]).missing == ("lag-2",)


def test_random_reward_must_not_gain() -> None:
    assert "was not run there" in random_gains([], "long")
    assert random_gains([course(11, "long", 4e-5, [6, 3, 2, 1, 1])], "long") == ""
    assert "random reward gains" in random_gains([course(11, "long", 4e-5, RISES)], "long")


def test_what_was_frozen_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "regimes.json"
    file.write_text("{}")
    freeze("long@1", {"train.steps": 3}, file)
    freeze("long@1", {"train.steps": 3}, file)
    before = file.read_bytes()
    with pytest.raises(SystemExit, match="long@1 is frozen with other settings"):
        freeze("long@1", {"train.steps": 4}, file)
    assert file.read_bytes() == before
    assert json.loads(before)["long@1"]["digest"] == digest({"train.steps": 3})
