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
from torch import Tensor

from harness.config.fields import check_ranges
from harness.config.schema import RunConfig
from harness.registry import methods as registry
from harness.registry.cards import changed_stages, read_card
from harness.stages.base import Component, Minibatch, Signals
from harness.stages.batch import Batch
from harness.stages.method import Method
from harness.stages.tasks import Task, TaskBuffer
from harness.train import update as update_module
from harness.train.processes import check_shardable
from harness.util.errors import UserError
from tests.helpers.states import plainly
from tests.methods.support.cases import CASES
from tests.methods.support.pipeline import KINDS, WIDTH_T, make_step, plan_of, update
from tests.methods.support.registered import ACTIVE_HERE, NAMES, SETTINGS, make

#: What each card says it reduces to.
REDUCTIONS = {name: read_card(registry.find(name)).reduces_to for name in NAMES}


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


@pytest.mark.parametrize("name", [name for name in NAMES if REDUCTIONS[name] is None])
def test_says_why_it_reduces_to_nothing(name: str) -> None:
    assert len(read_card(registry.find(name)).no_reduction) > 30


@pytest.mark.parametrize("name", [name for name in NAMES if REDUCTIONS[name]])
@pytest.mark.parametrize("seed", range(4))
def test_reduces_to_exactly(name: str, seed: int) -> None:
    rule = REDUCTIONS[name]
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


@pytest.mark.parametrize(
    ("name", "options"), [pytest.param(*s, id=f"{s[0]} {s[1]}") for s in SETTINGS if REDUCTIONS[s[0]]]
)
def test_a_reduction_is_not_vacuous(name: str, options: dict[str, Any]) -> None:
    """At its own values a method differs from what it reduces to (else the card's claim says nothing)."""
    rule = REDUCTIONS[name]
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


# --- invariance of a minibatch's gradient -----------------------------------------------------------------


#: What :func:`one_plan` and :func:`plain_update` have made.
_plans: dict[str, Minibatch] = {}
_plain: dict[str, tuple[float, Tensor]] = {}


def one_plan(setting: tuple[str, dict]) -> Minibatch:
    """The only minibatch of the step, made once: the tests below look at what is done with it."""
    key = str(setting)
    if key not in _plans:
        (_plans[key],) = plan_of(make(*setting), make_step(5, minibatches=1))
    return _plans[key]


def one_update(setting: tuple[str, dict], change: Any = None, **options: Any) -> tuple[float, Tensor]:
    step, minibatch = make_step(5, minibatches=1), one_plan(setting)
    if change is not None:
        minibatch = Minibatch(change(minibatch.batch))
    # fresh stages: a controller that moves per optimiser step must stand where it stood
    return update(make(*setting), step, minibatch, **options)


def plain_update(setting: tuple[str, dict]) -> tuple[float, Tensor]:
    """The update as it is, made once: several tests compare with it."""
    key = str(setting)
    if key not in _plain:
        _plain[key] = one_update(setting)
    return _plain[key]


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
        one_update(setting, micro_rows=micro_rows), plain_update(setting), rtol=1e-6, atol=1e-9
    )


def test_row_order_changes_nothing(setting: tuple[str, dict]) -> None:
    torch.testing.assert_close(one_update(setting, reordered), plain_update(setting), rtol=1e-6, atol=1e-9)


def test_padding_changes_nothing(setting: tuple[str, dict]) -> None:
    step, minibatch = make_step(5, minibatches=1), one_plan(setting)
    more = torch.cat([step.current.logits_BTV, torch.full_like(step.current.logits_BTV[:, :2], 3.0)], 1)
    wide_step = replace(step, current=replace(step.current, logits_BTV=more))
    loss, grad = update(make(*setting), wide_step, Minibatch(widened(minibatch.batch)))
    torch.testing.assert_close((loss, grad[:, :WIDTH_T]), plain_update(setting), rtol=1e-6, atol=1e-9)
    assert not bool(grad[:, WIDTH_T:].any())


@dataclasses.dataclass
class Rank:
    """One of two processes, as an update sees the world; what it gathers is its own."""

    rank: int
    size: int = 2

    def all_gather(self, value: Any) -> list[Any]:
        return [value]


def test_two_processes_make_one_update(setting: tuple[str, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    """Their losses and gradients add up to those of one, or the method is refused with several."""
    stages = make(*setting)
    if any(stage.needs_row_grad_norms for stage in stages.of_step()):
        with pytest.raises(UserError, match="run it in one process"):
            check_shardable(RunConfig(method_name=setting[0]), stages.of_step())
        return
    whole, parts = plain_update(setting), []
    for here in (Rank(0), Rank(1)):
        monkeypatch.setattr(update_module, "world", lambda here=here: here)
        parts.append(one_update(setting, micro_rows=3))
    together = sum(loss for loss, _ in parts), parts[0][1] + parts[1][1]
    torch.testing.assert_close(together, whole, rtol=1e-6, atol=1e-9)


# --- state, cards, hyper-parameters -----------------------------------------------------------------------

SIGNALS = Signals(
    entropy=0.7, update_nll=0.83, kl=0.01, reward=0.4, accuracy=0.4, grad_norm=1.0, rows=64, ref_kl=0.2,
    metrics={"kl_in_reward/kl": 0.35},
)  # fmt: skip


def moved(component: Component, ctx: Any, setting: tuple[str, dict]) -> dict[str, Any]:
    """The state of a component of the setting's after some steps; the batch has the statistics it reads."""
    plain = plan_of(make("grpo", {}), make_step())[0].batch
    step = make_step()
    wanted = [stat for stage in make(*setting).of_step() for stat in stage.old_stats]
    batch = plain.with_(old={**plain.old, **step.old.stats(plain, wanted)})
    for _ in range(3):
        component.begin_step(ctx)
        component.before_update(batch, ctx)
        component.after_update(SIGNALS, ctx)
        if isinstance(component, TaskBuffer):  # filled by a rollout program
            component.add("code_i", Task("D+7", ("1",), ("8",)))
        if hasattr(component, "observe"):
            component.observe(0.05)
    return component.state_dict()


def test_component_state_survives_a_checkpoint(setting: tuple[str, dict]) -> None:
    ctx = make_step().ctx
    first, second = make(*setting), make(*setting)
    for key, component in first.components.items():
        before = component.state_dict()
        state = moved(component, ctx, setting)
        assert plainly(state) != plainly(before), f"component {key} does not move"
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        other = second.components[key]
        other.load_state_dict(torch.load(buffer, weights_only=True))
        kept = plainly(state)
        assert plainly(other.state_dict()) == kept == json.loads(json.dumps(kept))
        assert plainly(moved(other, ctx, setting)) == plainly(moved(component, ctx, setting))


def test_stages_do_not_share_state(setting: tuple[str, dict]) -> None:
    first, second = make(*setting), make(*setting)
    for key, component in first.all_components().items():
        assert component is not second.all_components()[key]


@pytest.mark.parametrize("name", NAMES)
def test_card_and_class(name: str) -> None:
    entry = registry.find(name)
    card, cls = read_card(entry), registry.load(name)
    assert cls.name == name and issubclass(cls, Method)
    assert card.body.startswith("## Formula")
    assert bool(changed_stages(cls)) == (name != "grpo")
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
    ("name", "options", "run", "remedy"), [case for cases in CASES.values() for case in cases.refused]
)
def test_senseless_combinations_are_refused(name: str, options: dict, run: dict, remedy: str) -> None:
    config = RunConfig()
    for key, value in run.items():
        section, _, field = key.partition(".")
        setattr(getattr(config, section), field, value)
    with pytest.raises(UserError, match=remedy):
        registry.load(name)(**options).validate(config)
