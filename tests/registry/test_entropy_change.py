"""The signs that the papers derive, measured: gradient steps of tabular softmax policies through the
project's own update, and their entropy in closed form before and after.

A state is a row; its N tokens are draws in that state and share its logits. Where a statement is about
expectations the draws are not random: action a occurs exactly N pi(a) times, so that the mean over the tokens
is the expectation. Sizes are those of a plain policy-gradient step, logits + size * mean of A (e_a - p).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pipeline import LogitsPolicy
from torch import Tensor

from harness.problems.problem import Problem
from harness.registry import methods as registry
from harness.stages.base import Minibatch, Stages
from harness.stages.batch import Batch
from harness.train.update import UpdateLog, backward
from methods.entropy_polarity import FACTOR

STATES = 1500
PLAIN = {"aggregation": "token-mean", "eps_low": 1.0, "eps_high": math.inf}


def stages(name: str, **values: Any) -> Stages:
    made: Stages = registry.load(name)(**values).stages()
    return made


def entropy(logits_SK: Tensor) -> Tensor:
    logp = logits_SK.log_softmax(1)
    return -(logp.exp() * logp).sum(1)


def taken(
    made: Stages, logits_SK: Tensor, tokens_SN: Tensor, advantage_SN: Tensor, size: float,
    old_SK: Tensor | None = None, reference: Tensor | None = None,
) -> tuple[Tensor, UpdateLog]:  # fmt: skip
    """The logits after one gradient step on the loss of ``made``, and what the update logged.

    ``old_SK`` are the logits of the policy that drew the tokens, by default the current ones; ``reference``
    the reference's log-probs of the tokens.
    """
    states, n = tokens_SN.shape
    old = logits_SK if old_SK is None else old_SK
    row = torch.arange(states)
    batch = Batch(
        prompt_BP=row[:, None], prompt_mask_BP=torch.ones(states, 1, dtype=torch.bool),
        response_BT=tokens_SN, mask_BT=torch.ones(states, n, dtype=torch.bool), group_B=row, sample_B=row,
        temperature_B=torch.ones(states), truncated_B=torch.zeros(states, dtype=torch.bool),
        rollout_logp_BT=torch.zeros(states, n), problems=(Problem("state", "?"),) * states,
        texts=("",) * states, advantage_BT=advantage_SN, tags={"row": row},
        ref_logp_BT=reference,
        old={"logp": old.log_softmax(1).gather(1, tokens_SN), "entropy": entropy(old)[:, None].expand(-1, n)},
    )  # fmt: skip
    leaf = logits_SK[:, None].expand(-1, n, -1).clone().requires_grad_()
    policy: Any = LogitsPolicy(leaf, leaf[:, :1].detach(), 1.0)
    log = UpdateLog()
    backward(policy, made, Minibatch(batch), log, micro_rows=states, width=n)
    assert leaf.grad is not None
    # the loss divides by all states' tokens; a state's own step divides by its own
    return logits_SK - size * states * leaf.grad.sum(1), log


def change(*arguments: Any, **options: Any) -> Tensor:
    """Entropy after the step minus before it, ``[S]``, nats."""
    return entropy(taken(*arguments, **options)[0]) - entropy(arguments[1])


def agreement(measured: Tensor, predicted: Tensor, at_least: float = 0.0) -> float:
    """Share of equal signs among predictions of at least that size."""
    counted = predicted.abs() > at_least
    return float((measured.sign() == predicted.sign())[counted].double().mean())


# --- one token per state: entropy polarity and STEER's metric ---------------------------------------------


@dataclass
class Draws:
    """One token per state with a random advantage; ``moved``: how far the policy left the one that drew."""

    logits: Tensor
    old: Tensor
    tokens: Tensor
    advantage: Tensor

    @classmethod
    def make(cls, spread: float, actions: int = 20, moved: float = 0.0) -> Draws:
        g = torch.Generator().manual_seed(0)
        old = spread * torch.randn(STATES, actions, generator=g, dtype=torch.float64)
        tokens = torch.multinomial(old.softmax(1), 1, generator=g)
        advantage = torch.randn(STATES, 1, generator=g, dtype=torch.float64)
        logits = old + moved * torch.randn(old.shape, generator=g, dtype=torch.float64)
        return cls(logits, old, tokens, advantage)

    def change(self, made: Stages, size: float) -> Tensor:
        return change(made, self.logits, self.tokens, self.advantage, size, old_SK=self.old)

    def logp(self, which: Tensor) -> Tensor:
        return which.log_softmax(1).gather(1, self.tokens)[:, 0]

    def steer_metric(self) -> Tensor:
        """Omega = (A / q) p (1 - p) (ln p + H), signed; H is the old policy's."""
        p, q = self.logp(self.logits).exp(), self.logp(self.old).exp()
        return self.advantage[:, 0] / q * p * (1 - p) * (p.log() + entropy(self.old))


@pytest.mark.parametrize("spread", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_polarity_predicts_each_tokens_entropy_change(spread: float, moved: float) -> None:
    """Sign and size: eta r A T to first order, r the ratio to the policy that drew."""
    draws = Draws.make(spread, moved=moved)
    ratio = (draws.logp(draws.logits) - draws.logp(draws.old)).exp()
    predicted = ratio * draws.advantage[:, 0] * FACTOR.compute(draws.logits, draws.tokens[:, 0])
    made = stages("grpo", **PLAIN)
    torch.testing.assert_close(draws.change(made, 1e-6) / 1e-6, predicted, rtol=1e-3, atol=1e-5)
    assert agreement(draws.change(made, 1e-4), predicted) > 0.998
    assert agreement(draws.change(made, 0.1), predicted, at_least=1e-3) > 0.97
    assert {1.0, -1.0} <= set(predicted.sign().tolist())


def test_a_likely_token_that_is_rewarded_contracts_and_an_unlikely_one_expands() -> None:
    """The asymmetry that the paper names; the two-action numbers are worked out by hand."""
    logits = torch.tensor([[0.8, 0.2], [0.8, 0.2]], dtype=torch.float64).log()
    tokens, advantage = torch.tensor([[0], [1]]), torch.ones(2, 1, dtype=torch.float64)
    measured = change(stages("grpo", **PLAIN), logits, tokens, advantage, 1e-6) / 1e-6
    torch.testing.assert_close(measured, torch.tensor([-0.088723, 0.354891]).double(), rtol=1e-4, atol=1e-6)
    draws = Draws.make(1.5)
    expanding = FACTOR.compute(draws.logits, draws.tokens[:, 0]) > 0
    likely = draws.logp(draws.logits) > -entropy(draws.logits)
    assert float(expanding[likely].double().mean()) < 0.3 < 0.7 < float(expanding[~likely].double().mean())


@pytest.mark.parametrize("spread", [0.5, 2.0])
@pytest.mark.parametrize("eta", [1e-5, 0.02])
def test_steers_metric_has_the_sign_of_the_change_of_two_actions(spread: float, eta: float) -> None:
    """With two actions it is -2 eta p Omega to first order, so entropy falls where Omega > 0."""
    draws = Draws.make(spread, actions=2)
    measured = draws.change(stages("grpo", **PLAIN), eta)
    predicted = -2 * draws.logp(draws.logits).exp() * draws.steer_metric()
    assert agreement(measured, predicted, at_least=5e-2 if eta > 1e-3 else 1e-3) == 1
    if eta < 1e-3:
        torch.testing.assert_close(measured / eta, predicted, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(("spread", "share"), [(0.5, 0.82), (1.5, 0.82), (3.0, 0.88)])
def test_steers_metric_mostly_has_the_sign_with_many_actions(spread: float, share: float) -> None:
    """It leaves out the correction over the other actions; signs of small changes are wrong then."""
    draws = Draws.make(spread)
    measured, metric = draws.change(stages("grpo", **PLAIN), 1e-4), draws.steer_metric()
    right = measured.sign() == -metric.sign()
    assert share < float(right.double().mean()) < 0.97
    assert float(measured[right].abs().sum() / measured.abs().sum()) > 0.93


@pytest.mark.parametrize("mode", [{}, {"mode": "linear", "w_min": 0.7, "w_max": 1.3}])
def test_steer_takes_weight_from_the_tokens_that_change_entropy_most(mode: dict[str, Any]) -> None:
    """The total change falls by more than the mean weight: what a smaller step alone would not do."""
    draws = Draws.make(1.5)
    bounds = {"eps_low": 0.99, "eps_high": 9.0, "dual_clip": None}
    made = stages("steer", **bounds, **mode)
    measured = draws.change(made, 1e-4).abs().sum() / draws.change(stages("grpo", **PLAIN), 1e-4).abs().sum()
    moved, log = taken(made, draws.logits, draws.tokens, draws.advantage, 1e-4)
    assert float(measured) < 0.98 * log.metrics["steer/weight_mean"][0]


# --- exact expectations: covariance -----------------------------------------------------------------------


@dataclass
class Expected:
    """Probabilities in whole 64ths, every action as often as it is likely, random advantages."""

    logits: Tensor
    tokens: Tensor
    action_advantage: Tensor

    @classmethod
    def make(cls, sharpness: float, actions: int = 8, n: int = 64) -> Expected:
        g = torch.Generator().manual_seed(1)
        weights = (sharpness * torch.randn(STATES, actions, generator=g, dtype=torch.float64)).softmax(1)
        counts = torch.ones(STATES, actions, dtype=torch.long)
        more = torch.multinomial(weights, n - actions, replacement=True, generator=g)
        counts.scatter_add_(1, more, torch.ones_like(more))
        tokens = torch.stack([torch.repeat_interleave(torch.arange(actions), row) for row in counts])
        advantage = torch.randn(STATES, actions, generator=g, dtype=torch.float64)
        return cls(counts.double().log(), tokens, advantage)

    @property
    def advantage(self) -> Tensor:
        """Centred in every state, as a group's is, ``[S,N]``."""
        drawn = self.action_advantage.gather(1, self.tokens)
        return drawn - drawn.mean(1, keepdim=True)

    def covariance(self, weighted: bool) -> Tensor:
        """Cov over pi of log pi and A, or and pi A, ``[S]``."""
        p, logp = self.logits.softmax(1), self.logits.log_softmax(1)
        other = self.action_advantage - (p * self.action_advantage).sum(1, keepdim=True)
        other = p * other if weighted else other
        return (p * logp * other).sum(1) - (p * logp).sum(1) * (p * other).sum(1)

    def change(self, made: Stages, size: float) -> Tensor:
        return change(made, self.logits, self.tokens, self.advantage, size)


@pytest.mark.parametrize("sharpness", [0.5, 1.5, 3.0])
def test_positive_covariance_lowers_entropy(sharpness: float) -> None:
    """Theorem of arXiv 2505.22617: Delta H = -eta Cov(log pi, pi A) for the policy gradient of a softmax."""
    expected = Expected.make(sharpness)
    made, covariance = stages("grpo", **PLAIN), expected.covariance(weighted=True)
    torch.testing.assert_close(expected.change(made, 1e-6) / 1e-6, -covariance, rtol=1e-3, atol=1e-6)
    assert agreement(expected.change(made, 1e-3), -covariance) > 0.995
    assert agreement(expected.change(made, 0.1), -covariance, at_least=1e-2) > 0.995
    # Clip-Cov and KL-Cov look at the covariance without pi, which the theorem has for the natural gradient
    assert agreement(expected.change(made, 0.1), -expected.covariance(weighted=False)) > 0.85


@pytest.mark.parametrize("sharpness", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("w_low", [0.2, 0.5, 1.0])
def test_dropping_tokens_of_high_covariance_raises_entropy(sharpness: float, w_low: float) -> None:
    """Clip-Cov with everything in its band dropped, against the same step with nothing dropped."""
    expected = Expected.make(sharpness)
    without = expected.change(stages("grpo", **PLAIN | {"eps_high": 1.0}), 0.1)
    made = stages("clip-cov", w_low=w_low, w_high=99.0, share=1.0)
    with_it = expected.change(made, 0.1)
    log = taken(made, expected.logits, expected.tokens, expected.advantage, 0.1)[1]
    (dropped,), (candidates,) = log.metrics["clip_cov/dropped"], log.metrics["clip_cov/candidates"]
    assert dropped == candidates > 0.01
    assert float(with_it.mean()) > 0 > float(without.mean())
    different = (with_it - without).abs() > 1e-12
    assert float((with_it > without)[different].double().mean()) > 0.98
    # a small share of them acts in the same direction, and dropping low covariance in the other
    few = expected.change(stages("clip-cov", w_low=w_low, w_high=99.0, share=0.01), 0.1)
    assert float(without.mean()) < float(few.mean()) < float(with_it.mean())
    low = expected.change(stages("clip-cov", w_low=-99.0, w_high=-w_low, share=1.0), 0.1)
    assert float(low.mean()) < float(without.mean())


@pytest.mark.parametrize("sharpness", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("share", [2e-3, 2e-2])
def test_the_penalty_on_high_covariance_raises_entropy_from_the_second_update_on(
    sharpness: float, share: float
) -> None:
    """KL-Cov after a first step that lowered entropy: the second lowers it less than without the penalty."""
    expected = Expected.make(sharpness)
    batch = expected.tokens, expected.advantage
    plain, penalised = stages("grpo", **PLAIN), stages("kl-cov", share=share)
    first = taken(plain, expected.logits, *batch, 0.5)[0]
    torch.testing.assert_close(taken(penalised, expected.logits, *batch, 0.5)[0], first)  # idle at first
    assert float((entropy(first) - entropy(expected.logits)).mean()) < 0
    without = change(plain, first, *batch, 0.1, old_SK=expected.logits)
    with_it = change(penalised, first, *batch, 0.1, old_SK=expected.logits)
    assert float(without.mean()) < float(with_it.mean())
    different = (with_it - without).abs() > 1e-12
    assert float((with_it > without)[different].double().mean()) > 0.8


# --- exact expectations: clipping -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "sign"),
    [({"eps_low": 0.2, "eps_high": math.inf}, 1), ({"eps_low": 1.0, "eps_high": 0.2}, -1)],
    ids=["clip-low", "clip-high"],
)
@pytest.mark.parametrize("sharpness", [1.5, 3.0])
def test_clip_low_raises_and_clip_high_lowers_entropy(bounds: dict, sign: int, sharpness: float) -> None:
    """Fair coins as rewards: without clipping the expected step is 0, and what is left is the clip's alone.

    arXiv 2509.26114. To first order it is minus the sum of r A T over the clipped tokens, the polarity that
    they no longer contribute. The policy has moved little, as after one update of a rollout batch: far from
    the one that drew, clip-high's sign ends (test_clip_entropy.py).
    """
    old = Expected.make(sharpness)
    g = torch.Generator().manual_seed(2)
    logits = old.logits + 0.1 * torch.randn(old.logits.shape, generator=g, dtype=torch.float64)
    tokens = old.tokens.repeat(1, 2)
    coin = torch.ones_like(tokens, dtype=torch.float64)
    coin[:, coin.shape[1] // 2 :] = -1
    unclipped = change(stages("grpo", **PLAIN), logits, tokens, coin, 1e-3, old_SK=old.logits)
    assert float(unclipped.abs().max()) < 1e-12
    made = stages("grpo", aggregation="token-mean", **bounds)
    measured = change(made, logits, tokens, coin, 1e-6, old_SK=old.logits) / 1e-6
    logp, old_logp = (z.log_softmax(1).gather(1, tokens) for z in (logits, old.logits))
    ratio = (logp - old_logp).exp()
    clipped = ((coin < 0) & (ratio < 1 - bounds["eps_low"])) | ((coin > 0) & (ratio > 1 + bounds["eps_high"]))
    flat = logits[:, None].expand(-1, tokens.shape[1], -1).reshape(-1, logits.shape[1])
    factor = FACTOR.compute(flat, tokens.reshape(-1)).reshape(tokens.shape)
    predicted = -(clipped * ratio * coin * factor).mean(1)
    assert 0.001 < float(clipped.double().mean()) < 0.2
    torch.testing.assert_close(measured, predicted, rtol=1e-2, atol=1e-6)
    assert sign * float(measured.mean()) > 1e-5


# --- bounds on the weight of right and wrong responses ------------------------------------------------------

OPEN = {"eps_low_pos": 1.0, "eps_high_pos": 1e6, "eps_low_neg": 1.0, "eps_high_neg": 1e6}


@pytest.mark.parametrize("sharpness", [1.5, 3.0])
@pytest.mark.parametrize(
    ("bound", "sign"),
    [("eps_low_pos", 1), ("eps_high_pos", -1), ("eps_low_neg", -1), ("eps_high_neg", 1)],
)
def test_what_each_bound_of_dispo_does_to_entropy(bound: str, sign: int, sharpness: float) -> None:
    """Fair coins again: only the bound acts, to first order by (w - r) A T over the tokens.

    arXiv 2602.00983 reports of right responses that weights above 1 widen the policy and weights below 1
    narrow it: a cap takes the first away, a floor the second. For wrong responses both signs turn round.
    """
    old = Expected.make(sharpness)
    g = torch.Generator().manual_seed(2)
    logits = old.logits + 0.1 * torch.randn(old.logits.shape, generator=g, dtype=torch.float64)
    tokens = old.tokens.repeat(1, 2)
    coin = torch.ones_like(tokens, dtype=torch.float64)
    coin[:, coin.shape[1] // 2 :] = -1
    free = change(stages("dispo", **OPEN), logits, tokens, coin, 1e-3, old_SK=old.logits)
    assert float(free.abs().max()) < 1e-12
    made = stages("dispo", **OPEN | {bound: 0.1})
    measured = change(made, logits, tokens, coin, 1e-6, old_SK=old.logits) / 1e-6
    logp, old_logp = (z.log_softmax(1).gather(1, tokens) for z in (logits, old.logits))
    ratio = (logp - old_logp).exp()
    here = coin > 0 if bound.endswith("pos") else coin < 0
    weight = ratio.clamp(min=0.9) if "low" in bound else ratio.clamp(max=1.1)
    flat = logits[:, None].expand(-1, tokens.shape[1], -1).reshape(-1, logits.shape[1])
    factor = FACTOR.compute(flat, tokens.reshape(-1)).reshape(tokens.shape)
    predicted = (here * (weight - ratio) * coin * factor).mean(1)
    torch.testing.assert_close(measured, predicted, rtol=1e-2, atol=1e-6)
    assert sign * float(measured.mean()) > 1e-5


# --- the KL to a reference, by estimator --------------------------------------------------------------------


@pytest.mark.parametrize("sharpness", [0.5, 2.0])
def test_what_each_estimator_of_the_kl_pulls_to(sharpness: float) -> None:
    """Expected gradients in closed form: of KL(p, ref) for k2 in the loss and k1 in the reward, of KL(ref, p)
    for k3 in the loss, and none for k1 in the loss."""
    expected = Expected.make(sharpness)
    g = torch.Generator().manual_seed(3)
    reference = expected.logits + 0.3 * torch.randn(expected.logits.shape, generator=g, dtype=torch.float64)
    logits = expected.logits.clone().requires_grad_()
    p, q = logits.log_softmax(1), reference.log_softmax(1)
    (forward,) = torch.autograd.grad((q.exp() * (q - p)).sum(), logits, retain_graph=True)
    (reverse,) = torch.autograd.grad((p.exp() * (p - q)).sum(), logits)
    zero = torch.zeros_like(expected.tokens, dtype=torch.float64)
    ref_logp = q.gather(1, expected.tokens)

    def pull(estimator: str) -> Tensor:
        made = stages("kl-penalty@loss", estimator=estimator, coef=1.0)
        moved = taken(made, expected.logits, expected.tokens, zero, 1.0, reference=ref_logp)[0]
        return expected.logits - moved

    assert float(reverse.abs().max()) > 1e-3
    torch.testing.assert_close(pull("k1"), torch.zeros_like(reverse), rtol=0, atol=1e-9)
    torch.testing.assert_close(pull("k2"), reverse, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(pull("k3+"), reverse, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(pull("k3"), forward, rtol=1e-5, atol=1e-9)
    d = p.gather(1, expected.tokens).detach() - ref_logp
    moved = taken(stages("grpo", **PLAIN), expected.logits, expected.tokens, -d, 1.0)[0]
    torch.testing.assert_close(expected.logits - moved, reverse, rtol=1e-5, atol=1e-9)
