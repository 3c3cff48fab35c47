"""What every registered method must keep, whatever it computes."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from pipeline import KINDS, WIDTH_T, make_step, plan_of, update
from torch import Tensor

from harness.config.fields import check_ranges
from harness.config.schema import RunConfig
from harness.registry import methods as registry
from harness.registry.cards import read_card
from harness.stages.base import Component, Minibatch, Signals, Stages
from harness.stages.batch import Batch
from harness.stages.method import Method
from harness.util.errors import UserError

NAMES = list(registry.entries())
#: Settings beside the defaults that bring other stages in.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "grpo": [
        {"kl_coef": 0.04, "dual_clip": 3.0},
        {"scale": "batch"},
        {"aggregation": "seq-mean-token-sum-norm"},
    ],
    "entropy-bonus": [
        {"entropy_adaptive": True},
        {"kl_in_reward_coef": 0.05, "kl_adaptive": True},
        {"kl_coef": 0.04, "kl_estimator": "k3+", "aggregation": "seq-mean-token-mean"},
    ],
    "dapo": [{"dynamic_sampling": False}],
    "steer": [{"mode": "linear"}],
    "etr": [{"macro": "explicit"}],
    "aepo": [{"reinforce_share": 0.2}],
    "clip-cov": [{"w_low": 0.1, "share": 0.1, "eps_low": 0.2, "eps_high": 0.2}],
    "kl-cov": [{"share": 0.2, "aggregation": "seq-mean-token-mean"}],
    "fork-tokens": [
        {"rule": "quantile", "divisor": "all"},
        {"rho": 0.5, "aggregation": "seq-mean-token-mean"},
    ],
    "progrpo": [{"gate": "mixed_only", "low_rule": "threshold", "prompt_rule": "all"}],
    "gspo": [{"eps_low": 0.1, "eps_high": 0.1}],
    "cispo": [{"cap": 1.2, "floor": 0.8, "aggregation": "seq-mean-token-mean"}],
    "drgrpo": [{"kl_coef": 0.04}],
    "flexible-entropy@id": [{"split": 0.1, "aggregation": "token-mean"}],
    "entropy-discriminator-clip@b": [{"mu": 0.7, "aggregation": "seq-mean-token-mean"}],
    "entropy-discriminator-clip@v": [{"mu": 0.5, "max_fraction": 1.0}],
    "era@released": [{"w_low": 1.9, "k": 3.0, "top_k": 4}],
    "era@paper": [{"w_low": 1.4, "w_high": 1.6}],
    "gtpo@released": [{"tau": 9.0}],
    "gtpo@paper": [{"tau": 9.0, "w": 3.0}],
    "hapo@paper": [{"rho": 0.5, "beta": 0.5, "eps_low": 0.05, "eps_high": 0.05}],
    "dcpo": [{"gap_cap": 1.0, "t_high": 2.0}],
    "clip-low-high": [{"eps_low": 1.0, "eps_high": 0.1}, {"eps_low": None, "eps_high": 0.1}],
    "dispo": [{"eps_low_pos": 0.1, "eps_high_pos": 0.2, "aggregation": "seq-mean-token-mean"}],
    "vcpo@released": [{"threshold": 1.1, "average": "median"}, {"average": "winsorized_mean"}],
    "vcpo@paper": [{"truncate_ess": True, "rule": "linear", "base_ess_ratio": 0.9}],
    "prorl": [{"kl_coef": 0.1, "reset_optimizer": False, "dual_clip": None}],
    "sspo": [{"eps_low": 0.02, "eps_high": 0.03, "scale_lo": 0.8, "scale_hi": 1.1, "delimiters": "ae"}],
    "kl-penalty@loss": [{"estimator": "k1"}, {"estimator": "abs", "coef": 0.2}],
    "kl-penalty@reward": [{"estimator": "k3", "aggregation": "token-mean"}],
    "reinforce-family@plain": [{"whiten": "biased", "gamma": 0.9, "kl_coef": 0.1}],
    "reinforce-family@plusplus": [{"kl_coef": 0.1, "kl_estimator": "k3"}],
    "reinforce-family@rloo": [{"kl_coef": 0.1, "kl_after": True}],
    "reinforce-family@rloo-trl": [{"kl_coef": 0.0, "normalise": True}],
    "minpro": [{"seeded": True, "cap": 1.2, "floor": 0.8}],
}
SETTINGS = [(n, o) for n in NAMES for o in [{}, *OPTIONS.get(n, [])]]


#: Values at which methods do something in a step of sixty tokens and seven words; their defaults do not.
ACTIVE_HERE: dict[str, dict[str, Any]] = {
    "entropy-discriminator-clip@b": {"mu": 1.0},
    "entropy-discriminator-clip@v": {"mu": 1.0},
    "era@released": {"w_low": 1.6, "top_k": None},
    "era@paper": {"w_low": 1.6},
}


def make(name: str, options: dict[str, Any]) -> Stages:
    return registry.load(name)(**options).stages()


@pytest.fixture(params=SETTINGS, ids=lambda p: f"{p[0]} {p[1]}")
def setting(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_finite(setting: tuple[str, dict], kind: str) -> None:
    step = make_step(0, kind)
    for minibatch in plan_of(make(*setting), step):
        loss, grad = update(make(*setting), step, minibatch)
        assert math.isfinite(loss) and bool(grad.isfinite().all())
        trained = torch.zeros(grad.shape[:2], dtype=torch.bool)
        trained[minibatch.batch.tags["row"]] = step.batch.mask_BT[minibatch.batch.tags["row"]]
        assert not bool(grad[~trained].any()), "a token that does not train got a gradient"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_reduces_to_exactly(name: str, seed: int) -> None:
    card = read_card(registry.find(name))
    if card.reduces_to is None:
        assert len(card.no_reduction) > 30, "say why there is no reduction"
        pytest.skip(card.no_reduction)
    rule = card.reduces_to
    kind = KINDS[seed % len(KINDS)]
    step = make_step(seed, kind, minibatches=2)
    if rule.when == "first update":
        step = replace(step, current=step.old)
    ours, base = make(name, rule.values), make(rule.base, rule.base_values)
    plans = plan_of(ours, step), plan_of(base, step)
    assert len(plans[0]) == len(plans[1])
    assert plans[0] or kind == "all-equal"  # of which dynamic sampling keeps nothing
    for mine, theirs in zip(*plans, strict=True):
        loss, grad = update(ours, step, mine)
        base_loss, base_grad = update(base, step, theirs)
        assert loss == base_loss and torch.equal(grad, base_grad)


def test_a_reduction_is_not_vacuous(setting: tuple[str, dict]) -> None:
    """At its own values a method differs from what it reduces to (else the card's claim says nothing)."""
    name, options = setting
    rule = read_card(registry.find(name)).reduces_to
    if rule is None:
        pytest.skip("no reduction")
    for seed in range(20):
        step, grads = make_step(seed, minibatches=1), []
        for stages in (make(name, ACTIVE_HERE.get(name, {}) | options), make(rule.base, rule.base_values)):
            (minibatch,) = plan_of(stages, step)
            for component in stages.components.values():
                component.begin_step(step.ctx)  # a schedule may start at the base method
                if hasattr(component, "observe"):  # a controller that waits for its first observation
                    component.observe(0.05)
            grads.append(update(stages, step, minibatch)[1])
        if not torch.allclose(*grads, rtol=1e-9, atol=1e-12):
            return
    pytest.fail("twenty steps, and none differs from the base method's")


def test_dcpo_at_its_target_is_grpo() -> None:
    """True, though the card does not count it: there the added term is off."""
    step = make_step(0, minibatches=1)
    ours = make("dcpo", {"entropy_target": 0.4})
    ours.components["dcpo"].load_state_dict({"h": 0.4})
    base = make("grpo", {"aggregation": "token-mean", "dual_clip": 3.0})
    (mine,), (theirs,) = plan_of(ours, step), plan_of(base, step)
    torch.testing.assert_close(update(ours, step, mine), update(base, step, theirs), rtol=1e-9, atol=1e-12)


def test_aepo_without_tempered_rows_is_grpo() -> None:
    """True, though the card does not count it: it only switches the controller off."""
    step = make_step(0, minibatches=1)
    (mine,) = plan_of(make("aepo", {"reinforce_share": 0.0}), step)
    base = make("grpo", {"aggregation": "token-mean", "dual_clip": 3.0})
    normal = replace(step, batch=step.batch.rows(step.batch.tags["tempered"] == 0))
    (theirs,) = plan_of(base, normal)
    ours = update(make("aepo", {}), step, mine)
    torch.testing.assert_close(ours, update(base, step, theirs), rtol=1e-6, atol=1e-9)


# --- invariance of a minibatch's gradient -----------------------------------------------------------------


def one_update(setting: tuple[str, dict], change: Any = None, **options: Any) -> tuple[float, Tensor]:
    step = make_step(5, minibatches=1)
    (minibatch,) = plan_of(make(*setting), step)
    if change is not None:
        minibatch = Minibatch(change(minibatch.batch))
    # fresh stages: a controller that moves per optimiser step must stand where it stood
    return update(make(*setting), step, minibatch, **options)


def widened(batch: Batch) -> Batch:
    """Two more columns of padding on the response, filled with what padding may hold."""

    def wide(value: Tensor, fill: float) -> Tensor:
        return torch.cat([value, torch.full((len(value), 2), fill).to(value.dtype)], 1)

    changes: dict[str, Any] = {
        f.name: wide(value, 0)
        for f in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, f.name), Tensor) and f.name.endswith("_BT")
    }
    token_tags = {k: wide(v, 0.3) for k, v in batch.token_tags.items()}
    return batch.with_(
        **changes,
        token_tags=token_tags,
        old={k: v if k.startswith("prompt") else wide(v, 0.3) for k, v in batch.old.items()},
    )


def reordered(batch: Batch) -> Batch:
    return batch.rows(torch.randperm(len(batch), generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("micro_rows", [1, 3, 7])
def test_micro_batches_change_nothing(setting: tuple[str, dict], micro_rows: int) -> None:
    torch.testing.assert_close(
        one_update(setting, micro_rows=micro_rows), one_update(setting), rtol=1e-6, atol=1e-9
    )


def test_row_order_changes_nothing(setting: tuple[str, dict]) -> None:
    torch.testing.assert_close(one_update(setting, reordered), one_update(setting), rtol=1e-6, atol=1e-9)


def test_padding_changes_nothing(setting: tuple[str, dict]) -> None:
    step = make_step(5, minibatches=1)
    (minibatch,) = plan_of(make(*setting), step)
    plain = update(make(*setting), step, minibatch)
    more = torch.cat([step.current.logits_BTV, torch.full_like(step.current.logits_BTV[:, :2], 3.0)], 1)
    wide_step = replace(step, current=replace(step.current, logits_BTV=more))
    loss, grad = update(make(*setting), wide_step, Minibatch(widened(minibatch.batch)))
    torch.testing.assert_close((loss, grad[:, :WIDTH_T]), plain, rtol=1e-6, atol=1e-9)
    assert not bool(grad[:, WIDTH_T:].any())


# --- state, cards, hyper-parameters -----------------------------------------------------------------------

SIGNALS = Signals(
    entropy=0.7, update_nll=0.83, kl=0.01, reward=0.4, accuracy=0.4, grad_norm=1.0, rows=64, ref_kl=0.2,
    metrics={"kl_in_reward/kl": 0.35},
)  # fmt: skip


def moved(component: Component, ctx: Any) -> dict[str, Any]:
    """The state of a component after some steps."""
    batch = plan_of(make("grpo", {}), make_step())[0].batch
    for _ in range(3):
        component.begin_step(ctx)
        component.before_update(batch, ctx)
        component.after_update(SIGNALS, ctx)
        if hasattr(component, "observe"):
            component.observe(0.05)
    return component.state_dict()


def test_component_state_survives_a_checkpoint(setting: tuple[str, dict]) -> None:
    ctx = make_step().ctx
    first, second = make(*setting), make(*setting)
    for key, component in first.components.items():
        before = component.state_dict()
        state = moved(component, ctx)
        assert state != before, f"component {key} does not move"
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        other = second.components[key]
        other.load_state_dict(torch.load(buffer, weights_only=True))
        assert other.state_dict() == state == json.loads(json.dumps(state))
        assert moved(other, ctx) == moved(component, ctx)


def test_stages_do_not_share_state(setting: tuple[str, dict]) -> None:
    first, second = make(*setting), make(*setting)
    for key, component in first.all_components().items():
        assert component is not second.all_components()[key]


@pytest.mark.parametrize("name", NAMES)
def test_card_and_class(name: str) -> None:
    entry = registry.find(name)
    card, cls = read_card(entry), registry.load(name)
    assert cls.name == name and issubclass(cls, Method)
    assert card.stages and card.body.startswith("## Formula")
    assert "## Fidelity" in card.body and "## Pitfalls" in card.body and "## Reported" in card.body
    assert ("@" in name) == bool(card.variants)
    assert not card.variants or name.partition("@")[2] in card.variants
    assert dataclasses.fields(cls) and all("help" in f.metadata for f in dataclasses.fields(cls))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(cls(), dataclasses.fields(cls)[0].name, 1)


def out_of_range(cls: type[Method]) -> Iterator[tuple[str, Any]]:
    for f in dataclasses.fields(cls):
        rule = f.metadata
        if "choices" in rule:
            yield f.name, "no such choice"
        if "gt" in rule:
            yield f.name, rule["gt"]
        if "lt" in rule:
            yield f.name, rule["lt"]
        if "ge" in rule:
            yield f.name, type(f.default or 0.0)(rule["ge"] - 1)
        if "le" in rule:
            yield f.name, type(f.default or 0.0)(rule["le"] + 1)
        if isinstance(f.default, float):
            yield f.name, math.nan


@pytest.mark.parametrize("name", NAMES)
def test_out_of_range_is_refused_by_name(name: str) -> None:
    cls = registry.load(name)
    check_ranges(cls(), "method")
    cls().validate(RunConfig())
    for field, value in out_of_range(cls):
        with pytest.raises(UserError, match=f"method.{field}="):
            check_ranges(replace(cls(), **{field: value}), "method")


@pytest.mark.parametrize(
    ("name", "options", "run", "remedy"),
    [
        ("grpo", {"reward_wrong": 2.0}, {}, "reward_right must exceed"),
        ("dapo", {"reward_wrong": 2.0}, {}, "reward_right must exceed"),
        ("dapo", {}, {"rollout.group_size": 1}, "group_size >= 2"),
        ("bapo@released", {"low_start": 0.9}, {}, "raise the maximum"),
        ("bapo@paper", {"high_start": 4.0}, {}, "raise the maximum"),
        ("bapo@released", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("etr", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("gspo", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("cispo", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("cispo", {"floor": 5.0}, {}, "lower floor"),
        ("dispo", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("minpro", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("minpro", {"floor": 5.0}, {}, "lower floor"),
        ("sspo", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("vcpo@paper", {}, {"train.minibatches": 9, "rollout.prompts_per_step": 8}, "lower it"),
        ("vcpo@released", {}, {"rollout.lag": 2, "rollout.ratio_to": "update"}, "ratio_to=sampling"),
        ("vcpo@released", {}, {"rollout.group_size": 1}, "group_size >= 2"),
        ("prorl", {"reset_share": 1.0}, {}, "lower method.reset_share"),
        ("prorl", {}, {"rollout.group_size": 1}, "group_size >= 2"),
        ("sspo", {"scale_lo": 3.0}, {}, "lower it"),
        ("clip-low-high", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("clip-low-high", {"eps_low": 1.0}, {}, "set method.eps_low < 1"),
        ("clip-low-high", {"eps_low": None}, {}, "set method.eps_low < 1"),
        ("clip-cov", {"w_low": 5.0}, {}, "lower method.w_low"),
        ("kl-cov", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("flexible-entropy@id", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("flexible-entropy@od", {"alpha_low": -0.4}, {}, "raise method.beta_low"),
        ("era@released", {"w_low": 3.0}, {}, "lower w_low"),
        ("fork-tokens", {"reward_wrong": 2.0}, {}, "reward_right must exceed"),
        ("steer", {"mode": "linear", "w_min": 1.3}, {}, "lower w_min"),
        ("steer", {"w_min": 1.3}, {}, "use mode=linear"),
        ("aepo", {"t_low": 1.0}, {}, "t_low"),
        ("aepo", {"t_high": 1.0}, {}, "t_high"),
        ("aepo", {}, {"rollout.temperature": 0.7}, "t_low"),
        ("aepo", {}, {"rollout.prompts_per_step": 3}, "extra_share"),
        ("aepo", {}, {"rollout.prompts_per_step": 4, "rollout.group_size": 2}, "reinforce_share"),
        ("entrocraft@released", {"lo_start": 0.8}, {}, "upside down"),
        ("entrocraft@paper", {"hi_end": 0.1}, {}, "upside down"),
        ("entropy-bonus", {"entropy_min": 0.5, "entropy_max": 0.1}, {}, "entropy_min"),
        ("entropy-bonus", {"kl_adaptive": True}, {}, "kl_in_reward_coef"),
    ],
)
def test_senseless_combinations_are_refused(name: str, options: dict, run: dict, remedy: str) -> None:
    config = RunConfig()
    for key, value in run.items():
        section, _, field = key.partition(".")
        setattr(getattr(config, section), field, value)
    with pytest.raises(UserError, match=remedy):
        registry.load(name)(**options).validate(config)
