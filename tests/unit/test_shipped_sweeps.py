"""Every sweep file that is shipped can be planned anywhere: no hub, no data, no model on the machine.

A packaged model alone has to be there: a run of it is named by what its folder holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.micro.testbed import BASE_DIR
from harness.cli import main
from harness.cli.memory import sweep_notes
from harness.model import source
from harness.problem_sets import math_set
from harness.registry import methods as registry
from harness.registry.cards import read_card
from harness.sweep.budget import gpus_of
from harness.sweep.cache import plan_key
from harness.sweep.controls import BASE_AT_BEST, left_out
from harness.sweep.jobs import Runs
from harness.sweep.plan import make_plan
from harness.sweep.sections import Reproduces
from harness.sweep.spec import load_sweep
from harness.sweep.tune import trials

FOLDER = Path(__file__).parent.parent.parent / "sweeps"
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if not path.name.endswith(".tuned.yaml"))
STANDARD = [FOLDER / "std-small.yaml", FOLDER / "std-1.5b.yaml"]


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data and no network: reading a set's rows would fail the test."""

    def refuse(*arguments: Any, **more: Any) -> Any:
        raise AssertionError("a plan read the problems of a set")

    monkeypatch.delenv("ENTROBENCH_DATA", raising=False)
    monkeypatch.setenv("ENTROBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(math_set, "load", refuse)


@pytest.fixture
def packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any packaged model is there: the testbed's stands in."""
    monkeypatch.setattr(source, "packaged_folder", lambda name: BASE_DIR)


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(FOLDER)) for path in FILES])
@pytest.mark.usefixtures("packaged")
def test_it_can_be_planned(path: Path) -> None:
    sweep = load_sweep(path)
    jobs = make_plan(sweep, Runs())
    waiting = left_out(sweep, [job.label for job in jobs])
    bases = len(sweep.base_temperatures) - (BASE_AT_BEST in waiting)
    rows = len(sweep.methods) + len(sweep.controls) - len(set(waiting) - {BASE_AT_BEST})
    assert len(jobs) == len(sweep.grid) * (bases + rows * len(sweep.seeds))
    assert len({job.key for job in jobs}) == len(jobs)
    # a control may be the very run that tuning chose, but no two methods or seeds are one run
    runs = {job.run_id for job in jobs if job.role == "method"}
    assert len(runs) == len(sweep.grid) * len(sweep.methods) * len(sweep.seeds)


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(FOLDER)) for path in FILES])
def test_its_plan_can_be_kept(path: Path) -> None:
    sweep = load_sweep(path)
    assert plan_key(sweep) == plan_key(sweep)


def test_the_plan_in_the_walk_through_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (FOLDER.parent / "docs" / "cluster.md").read_text(encoding="utf-8")
    shown = page.partition("entrobench sweep plan sweeps/std-small.yaml\n\n    …\n")[2].partition("\n\n")[0]
    assert main(["sweep", "plan", str(FOLDER / "std-small.yaml")]) == 0
    printed = capsys.readouterr().out
    lines = [line.strip().partition("…")[0] for line in shown.splitlines()]
    assert len(lines) == 9
    # the names of files are as given, and the last line ends in one
    missing = [line for line in lines if line.replace("sweeps/", f"{FOLDER}/") not in printed]
    assert not missing, "docs/cluster.md shows what the command does not print"


@pytest.mark.parametrize("path", STANDARD, ids=lambda path: path.stem)
def test_the_standard_settings_are_fair_and_affordable(path: Path) -> None:
    sweep = load_sweep(path)
    found = trials(sweep, Runs())
    assert sweep.tuning is not None and len(sweep.tuning.lrs) == 3 and sweep.tuning.extend == 2
    assert all(len(knob) == 2 for knob in sweep.tuning.knobs.values())
    assert len(found) == len(sweep.tuning_grid) * len(sweep.methods) * 6
    assert len({trial.job.run_id for trial in found}) == len(found)
    jobs = make_plan(sweep, Runs())
    families = {job.model.split("/")[1].split("-")[0] for job in jobs}
    assert len(families) == 2 and any("Qwen" not in family for family in families)
    assert gpus_of(sweep) == 1 and len(sweep.seeds) >= 3 and sweep.controls
    for setting in sweep.grid:
        own = [job for job in jobs if job.setting == setting.name and job.role == "method"]
        shared = {
            (job.config["train"]["token_budget"], job.config["rollout"]["max_response_tokens"],
             job.config["rollout"]["prompts_per_step"], job.config["rollout"]["group_size"],
             str(job.config["eval"])) for job in own
        }  # fmt: skip
        assert len(shared) == 1, "one batch, length and budget for all methods of a place"
        assert own[0].config["train"]["token_budget"] and setting.gpu_hours
        if path.stem == "std-small":
            assert setting.gpu_hours <= 3


@pytest.mark.usefixtures("packaged")
def test_the_pocket_sweep_tunes_grpo_alone_and_is_affordable() -> None:
    sweep = load_sweep(FOLDER / "pocket.yaml")
    assert sweep.tuning is not None and sweep.tuning.lr_from == "grpo"
    found = trials(sweep, Runs())
    assert len(sweep.tuning.lrs) == 3 and len(found) >= 3, "one knob setting; a grown grid has more rates"
    assert {trial.lr for trial in found} >= set(sweep.tuning.lrs)
    jobs = make_plan(sweep, Runs())
    assert len(sweep.methods) >= 8 and len(sweep.seeds) == 2
    assert {job.config["rollout"]["max_response_tokens"] for job in jobs} == {32}
    trained = [job for job in jobs if job.role != "base"]
    assert sweep.gpu_hours is not None and sweep.gpu_hours <= 25 / 60
    assert sweep.gpu_hours * (len(trained) + len(sweep.tuning.lrs)) <= 12


@pytest.mark.parametrize("verb", ["plan", "tune", "submit"])
def test_the_pocket_sweep_names_the_command_that_fetches_its_weights(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", verb, str(FOLDER / "pocket.yaml")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and "fetch it: entrobench prefetch-model smollm2-135m" in told[0]


@pytest.mark.parametrize("path", [FOLDER / "micro.yaml", *STANDARD], ids=lambda path: path.stem)
def test_every_table_has_the_controls(path: Path) -> None:
    sweep = load_sweep(path)
    assert {1.0, "tuned"} == set(sweep.base_temperatures)
    changes = [dict(own) for own in sweep.controls.values()]
    for wanted in (
        {"train.lr": "next-lower"}, {"eval.weights": "best"}, {"eval.temperature": "tuned"},
        {"train.random_reward": True},
    ):  # fmt: skip
        assert wanted in changes, f"each of these changes one thing of tuned GRPO: {wanted}"


@pytest.mark.parametrize("path", STANDARD, ids=lambda path: path.stem)
def test_the_standard_settings_have_every_ranked_method(path: Path) -> None:
    cards = {name: read_card(entry) for name, entry in registry.entries().items()}
    # other tracks, such as that of length, are no part of these tables
    ranked = {name for name, card in cards.items() if card.track == "main" and not card.reconstruction}
    sweep = load_sweep(path)
    assert sweep.tuning is not None
    missing = {"methods": ranked - set(sweep.methods), "tuning: knobs": ranked - set(sweep.tuning.knobs)}
    assert not any(missing.values()), f"{path.name} lacks {missing}; add them, or they are never compared"


@pytest.mark.parametrize("path", STANDARD, ids=lambda path: path.stem)
def test_the_standard_settings_fit_their_gpus(path: Path) -> None:
    sweep = load_sweep(path)
    notes = sweep_notes(sweep, make_plan(sweep, Runs()))
    assert len(notes) == len(sweep.grid)
    assert all(" of 80 GiB a GPU (estimated)" in line and "WARNING" not in line for line in notes), notes


@pytest.mark.parametrize("path", sorted((FOLDER / "papers").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_names_what_it_reproduces_and_what_differs(path: Path) -> None:
    sweep = load_sweep(path)
    assert isinstance(sweep.reproduces, Reproduces)
    assert "arXiv" in sweep.reproduces.paper and sweep.reproduces.differs
    assert any(method.split("@")[0] == path.stem for method in sweep.methods)


def test_the_page_on_sweeps_names_every_key_and_every_file() -> None:
    from dataclasses import fields

    from harness.sweep.sections import Tuning
    from harness.sweep.spec import OPTIONS
    from harness.sweep.sweep import Sweep

    text = (FOLDER.parent / "docs" / "sweeps.md").read_text()
    keys = [f.name for f in fields(Sweep) if f.name not in ("path", "extra", "typed")]
    for key in {*keys, *OPTIONS, *(f.name for f in fields(Reproduces))}:
        assert f"`{key}`" in text or f"{key}=" in text, f"{key} is not in docs/sweeps.md"
    for key in (f.name for f in fields(Tuning)):
        assert f"\n  {key}:" in text, f"tuning: {key} is not in docs/sweeps.md"
    for path in FILES:
        assert path.name in text or path.parent.name == "papers"
