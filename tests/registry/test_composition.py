"""Composed methods: equal to what one would write by hand, refused where parts do not belong together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli import main
from harness.config.composition import parse
from harness.config.schema import RunConfig, to_dict
from harness.registry import methods as registry
from harness.run.compose import from_dict
from harness.run.identity import identity, identity_parts, run_id
from harness.stages.base import Stages
from harness.stages.compose import changes
from harness.stages.loss import PolicyLoss
from harness.sweep.collect import card_header
from harness.sweep.plan import make_plan, table_name
from harness.sweep.spec import load_sweep
from harness.util.errors import UserError
from methods.aepo import AEPO
from methods.entropy_bonus import EntropyAndKL
from methods.fork_tokens import HighEntropy
from methods.gspo import GSPO
from tests.helpers.settings import composed
from tests.helpers.tiny import small_run, tiny_trainer
from tests.methods.support.pipeline import make_step, plan_of, rows_of, update

NAMES = list(registry.entries())
BOTH = "grpo+loss=gspo+weights=fork-tokens"


def stages_of(name: str, **values: Any) -> Stages:
    return registry.load(name)(**values).stages()


def by_hand(rho: float = 0.2) -> Stages:
    """GSPO's loss on the fork tokens, in GRPO."""
    loss = GSPO().stages().loss
    assert isinstance(loss, PolicyLoss)
    return stages_of("grpo").with_(loss=replace(loss, selection=HighEntropy(rho)))


def check_equal(mine: Callable[[], Stages], theirs: Callable[[], Stages]) -> None:
    """Rows, losses and gradients are the same, bit by bit."""
    for seed in (0, 1):
        step = make_step(seed)
        plans = plan_of(mine(), step), plan_of(theirs(), step)
        assert len(plans[0]) == len(plans[1]) > 0
        for ours, other in zip(*plans, strict=True):
            assert rows_of([ours]) == rows_of([other])
            loss, grad = update(mine(), step, ours)
            other_loss, other_grad = update(theirs(), step, other)
            assert loss == other_loss and torch.equal(grad, other_grad)


# --- what is composed -------------------------------------------------------------------------------------


def test_equal_to_the_composition_by_hand() -> None:
    check_equal(lambda: stages_of(BOTH), by_hand)
    with pytest.raises(AssertionError):  # the check can fail
        check_equal(lambda: stages_of(BOTH), lambda: by_hand(0.5))


def test_a_run_equals_the_composition_by_hand() -> None:
    mine, theirs = tiny_trainer(method=BOTH), tiny_trainer(stages=by_hand())
    for _ in range(2):
        assert mine.step() == theirs.step()
    for a, b in zip(mine.policy.model.parameters(), theirs.policy.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_taking_all_that_a_method_changes_gives_the_method(name: str) -> None:
    pieces = ("ratio", "bounds", "weights")
    stages = dict.fromkeys("loss" if s in pieces else s for s in changes(stages_of(name)))
    composed = "grpo" + "".join(f"+{stage}={name}" for stage in stages)
    assert (name == "grpo") == (not stages)
    check_equal(lambda: stages_of(composed), lambda: stages_of(name))
    mine, theirs = stages_of(composed), stages_of(name)
    assert sorted(key.rpartition("/")[2] for key in mine.components) == sorted(theirs.components)


def test_a_stage_brings_the_state_it_refers_to() -> None:
    adaptive = EntropyAndKL(entropy_adaptive=True)
    cls = registry.load("grpo+regularisers=entropy-bonus")
    made = cls(entropy_bonus=adaptive).stages()
    (control,) = made.components.values()
    assert list(made.components) == ["entropy_bonus/adaptive_entropy"]
    made.components["entropy_bonus/adaptive_entropy"].load_state_dict({"coef": 0.3, "last_entropy": 0.1})
    assert made.regularisers[0].coefficient() == 0.3
    assert control is not cls(entropy_bonus=adaptive).stages().components["entropy_bonus/adaptive_entropy"]
    tempered = stages_of("dapo+rollout=aepo+selection=aepo")
    assert tempered.rollout.state is tempered.selection.state is tempered.components["aepo/aepo"]  # type: ignore[attr-defined]
    # and what nothing refers to any more is gone
    assert stages_of("aepo+rollout=grpo+selection=grpo").components == {}


def test_weights_join_and_pieces_go_into_a_taken_loss() -> None:
    steer, joined = stages_of("steer").loss, stages_of("steer+weights=fork-tokens").loss
    assert isinstance(steer, PolicyLoss) and isinstance(joined, PolicyLoss)
    assert joined == replace(steer, selection=HighEntropy(0.2))
    taken = stages_of("grpo+loss=gspo+bounds=dapo").loss
    dapo = stages_of("dapo").loss
    assert isinstance(taken, PolicyLoss) and isinstance(dapo, PolicyLoss)
    assert (taken.bounds, taken.dual_clip) == (dapo.bounds, dapo.dual_clip)
    assert taken.ratio == GSPO().stages().loss.ratio  # type: ignore[attr-defined]


# --- names and identities ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_self_composition_is_the_method_itself(name: str) -> None:
    assert registry.find(f"{name}+loss={name}") == registry.find(name)
    assert registry.load(f"{name}+loss={name}") is registry.load(name)


def test_self_composition_has_the_identity_of_the_method() -> None:
    own, plain = (composed(f"method={m}") for m in ("steer+loss=steer+plan=steer", "steer"))
    assert own == plain and run_id(own) == run_id(plain)


def test_one_composition_has_one_name_however_it_is_written() -> None:
    ways = (
        ["method=grpo+weights=fork-tokens+loss=gspo"],
        ["method=grpo", "+loss=gspo", "+weights=fork-tokens"],
        ["+weights=fork-tokens", "method='grpo'", "+loss=gspo"],
        ["+loss=gspo", "+weights=fork-tokens"],
    )
    runs = [composed(*words) for words in ways]
    assert {run.method_name for run in runs} == {BOTH} and all(run == runs[0] for run in runs)
    assert parse("dapo+group-filter=grpo").name == "dapo+group_filter=grpo"
    assert run_id(runs[0]).startswith("grpo-loss-gspo-weights-fork-tokens-s1-")


def test_the_identity_hashes_every_method_file(tmp_path: Path) -> None:
    source = registry.find("gspo").file.read_text()
    files = {}
    for name in ("one", "two"):
        files[name] = tmp_path / f"{name}.py"
        files[name].write_text(source.replace('@register("gspo")', f'@register("{name}")'))
    text = f"{files['one']}+loss={files['two']}:two"
    before = registry.find(text)
    assert before.name == table_name(f"{files['one']}:one+loss={files['two']}:two") == "one+loss=two"
    for file in files.values():
        now = registry.find(text).hash
        file.write_text(file.read_text().replace("(self.eps_low,", "(2 * self.eps_low,"))
        assert registry.find(text).hash != now
    assert registry.find(BOTH).hash != registry.find("grpo+loss=gspo").hash != registry.find("grpo").hash


def test_a_run_survives_its_record() -> None:
    values = ["method.fork_tokens.rho=0.5", "method.gspo.eps_low=1e-3"]
    run = composed(f"method={BOTH}", *values)
    again = from_dict(to_dict(run))
    assert again == run and identity(again) == identity(run)
    assert identity(run) != identity(composed(f"method={BOTH}"))
    parts = identity_parts(run)
    assert parts["method"] == BOTH and parts["config"]["method"]["fork_tokens"]["rho"] == 0.5


# --- hyper-parameters -------------------------------------------------------------------------------------


def test_hyperparameters_of_base_and_parts_arrive() -> None:
    run = small_run(
        "method.scale=none", "method.fork_tokens.rho=0.5", "method.gspo.eps_high=0.1", method=BOTH
    )
    stages = run.method.stages()
    assert stages.advantage.scale == "none"
    assert stages.loss.selection == HighEntropy(0.5) and stages.loss.bounds.eps_high == 0.1
    variant = small_run("method.bapo_paper.target=0.5", method="dapo+bounds=bapo@paper")
    assert variant.method.bapo_paper.target == 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=grpo+los=gspo"], "unknown stage 'los'; did you mean loss?"),
        (["method=grpo", "+weight=gspo"], "unknown stage 'weight'; did you mean weights?"),
        (["method=grpo", "+loss"], "'+loss' is not an override"),
        (["method=grpo+loss=gsop"], "unknown method 'gsop'; did you mean gspo"),
        (["method=grpo+loss="], "names no method for loss; write +loss=METHOD"),
        (["method=+loss=gspo"], "has no base"),
        (["method=grpo", "+loss=gspo", "+loss=cispo"], "gspo and cispo both claim the stage loss"),
        (["method=grpo+loss=steer+weights=clip-cov"], "two methods claim one stage; leave one out"),
        (
            ["method=grpo+weights=gspo"],
            "changes nothing: grpo has the same there; gspo changes ratio, bounds",
        ),
        (["method=grpo+controllers=aepo"], "changes nothing"),
        (["method=grpo+selection=aepo"], "share a state"),
        (["method=grpo+selection=aepo"], "take +rollout=aepo+selection=aepo"),
        (["method=aepo+rollout=dapo"], "replace all of rollout, selection, or none"),
        (
            ["method=grpo+bounds=etr"],
            "reads 'pass_variance', which nothing here sets; it needs +selection=etr",
        ),
        (["method=etr+selection=aepo+rollout=aepo"], "bounds of etr reads 'pass_variance'"),
        (["method=grpo+weights=cispo"], "surrogate=score, and this one has surrogate=clip; take +loss=cispo"),
        (["method=cispo+bounds=dapo"], "surrogate=clip, and this one has surrogate=score"),
        (["+loss=gspo", "train.minibatches=1", "train.epochs=1"], "gspo in grpo+loss=gspo: one update"),
        (["+loss=cispo", "method.cispo.floor=9"], "method.cispo.floor must be below method.cispo.cap"),
        (["+loss=gspo", "method.gspo.eps_low=7"], "method.gspo.eps_low=7.0 is out of range"),
        (["+loss=gspo", "method.gspo.eps_low=x"], "method.gspo.eps_low"),
        (["+loss=gspo", "method.gspo.eps_hgh=1"], "did you mean gspo.eps_high"),
        (["+loss=gspo", "+weights=fork-tokens", "method.rho=1"], "did you mean fork_tokens.rho?"),
        (["+loss=gspo", "gspo.eps_low=0.1"], "did you mean method.gspo.eps_low?"),
        (["+loss=gspo", "method.gspo=1"], "did you mean gspo.eps_low?"),
        (["+loss=gspo", "method.eps_low=0.1"], "method.eps_low has no effect in grpo+loss=gspo"),
        (["+bounds=dapo", "method.dapo.gen_factor=2"], "method.dapo.gen_factor has no effect"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        composed(*words)
    assert message in str(refused.value)


def test_a_loss_of_another_kind_has_no_pieces(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from entrobench import Loss, Method, Stages, grpo_stages, hp, register\n\n\n"
        "class OddLoss(Loss):\n    pass\n\n\n"
        '@register("odd")\n@dataclass(frozen=True)\nclass Odd(Method):\n'
        '    gain: float = hp(1.0, "unused")\n\n'
        "    def stages(self) -> Stages:\n        return grpo_stages().with_(loss=OddLoss())\n"
    )
    with pytest.raises(UserError, match="the loss of odd is a OddLoss, which has no bounds to exchange"):
        composed(f"method=grpo+bounds={file}")
    assert composed(f"method=grpo+loss={file}").method_name == f"grpo+loss={file}"


# --- where it is used -------------------------------------------------------------------------------------


def test_a_row_of_a_sweep(tmp_path: Path, sweep_file: Callable[..., Path]) -> None:
    other = "grpo+weights=fork-tokens+loss=gspo"
    path = sweep_file(
        methods=["grpo", other],
        per_method={other: {"method.scale": "none"}},
        controls={"plain": {"method": "dapo+rollout=grpo+group_filter=grpo"}},
        tuning={"lrs": [1e-4, 2e-4], "seed": 9, "knobs": {
            "grpo": {"eps_high": [0.2, 0.3]}, other: {"method.gspo.eps_high": [1e-3, 1e-2]}}},
    )  # fmt: skip
    sweep = load_sweep(path)
    assert sweep.methods == ("grpo", BOTH) and set(sweep.per_method) == {BOTH}
    assert set(sweep.tuning.knobs) == {"grpo", BOTH}  # type: ignore[union-attr]
    from harness.sweep.jobs import Runs

    jobs = make_plan(sweep, Runs())
    assert [job.label for job in jobs if job.seed == 1] == ["base", "grpo", BOTH, "plain"]
    row = next(job for job in jobs if job.label == BOTH)
    assert row.run_id.startswith("grpo-loss-gspo-weights-fork-tokens-s1-") and row.choice is None
    assert row.config["method"]["scale"] == "none" and "gspo" in row.config["method"]
    assert from_dict(row.config).method_name == BOTH
    with pytest.raises(UserError, match="did you mean gspo"):
        load_sweep(sweep_file(methods=["grpo+loss=gpso"]))


def test_reports_and_cards_say_that_it_is_composed(capsys: Any) -> None:
    header = card_header(BOTH)
    assert header is not None and header.fidelity == "composed" and not header.reconstruction
    assert header.title == "GRPO with loss of GSPO, weights of Fork tokens (80/20)"
    rebuilt = card_header("dapo+selection=etr+bounds=etr")
    assert rebuilt is not None and rebuilt.reconstruction and rebuilt.fidelity == "composed"
    assert main(["methods", "show", "grpo+loss=kl-cov"]) == 0
    out = capsys.readouterr().out
    for text in (
        "(`grpo+loss=kl-cov`)", "| loss | kl-cov |", "untuned until a sweep tunes it",
        "Not taken from kl-cov, which changes them too: regularisers.", "| method.kl_cov.share | 0.002 |",
        "| method.scale | group |",
    ):  # fmt: skip
        assert text in out
    assert main(["methods", "show", "grpo+weights=gspo"]) == 2
    assert "changes nothing" in capsys.readouterr().err


def test_a_composed_class_is_a_frozen_method() -> None:
    cls = registry.load(BOTH)
    assert cls.name == BOTH and cls is registry.load(BOTH)
    with pytest.raises(dataclasses.FrozenInstanceError):
        cls().eps_low = 1  # type: ignore[attr-defined]
    cls().validate(RunConfig())
    assert isinstance(registry.load("dapo+rollout=aepo+selection=aepo")().aepo, AEPO)  # type: ignore[attr-defined]
