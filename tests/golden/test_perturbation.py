"""The golden cases notice a wrong formula and a wrong hyper-parameter: each is bent, and a case must fail."""

from __future__ import annotations

import copy
import dataclasses
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.registry.golden import GoldenCase, cases, check_case, load_adapter, replay

HERE = Path(__file__).parent
DATA, ADAPTERS = HERE / "data", HERE / "adapters"

#: Formula functions of each method, as "module:function".
FORMULAS = {
    "grpo": [
        "harness.stages:group_normalised",
        "harness.stages.loss:clipped_surrogate",
        "harness.stages.loss:log_ratio",
        "harness.stages:clipped_tokens",
        "harness.stages:kl_estimate",
        "harness.stages.aggregate:token_coefficients",
    ],
    "entropy-bonus": [
        "harness.stages:kl_estimate",
        "harness.stages.credit:less_kl",
        "methods.entropy_bonus:sequence_kl",
        "methods.entropy_bonus:adapted_beta",
        "methods.entropy_bonus:AdaptiveEntropy.applied",
        "harness.stages.regularise:EntropyBonus.coefficient",
    ],
    "dapo": ["methods.dapo:overlong_penalty", "methods.dapo:mixed_groups", "harness.stages:group_normalised"],
    "bapo": [
        "methods.bapo:positive_negative_ratio",
        "methods.bapo:positive_fraction",
        "harness.stages.loss:clipped_surrogate",
    ],
    "steer": [
        "methods.steer:entropy_change",
        "methods.steer:linear_weights",
        "methods.steer:exponential_weights",
    ],
    "etr": [
        "methods.etr:elastic_bounds",
        "methods.etr:pass_variance",
        "methods.etr:pass_rate",
        "harness.stages.loss:clipped_surrogate",
    ],
    "aepo": [
        "methods.aepo:extra_temperature",
        "methods.aepo:kept_rows",
        "methods.aepo:controller_count",
        "harness.stages:group_normalised",
    ],
    "entrocraft": [
        "methods.entrocraft:scheduled",
        "methods.entrocraft:gate",
        "methods.entrocraft:gated_rewards",
        "methods.entrocraft:kept_rollouts",
        "methods.entrocraft:entropic",
    ],
    "clip-cov": [
        "methods.clip_cov:covariance",
        "methods.clip_cov:candidates",
        "methods.clip_cov:drawn",
        "methods.clip_cov:clipped_tokens",
        "harness.stages.loss:clipped_surrogate",
    ],
    "kl-cov": [
        "methods.kl_cov:covariance",
        "methods.kl_cov:largest",
        "methods.kl_cov:distance",
        "harness.stages.loss:clipped_surrogate",
    ],
    "entropy-polarity": [
        "methods.entropy_polarity:polarity_terms",
        "methods.entropy_polarity:polarity",
        "methods.entropy_polarity:PolarityFactor.compute",
    ],
    "fork-tokens": [
        "methods.fork_tokens:top_count",
        "methods.fork_tokens:above_quantile",
        "harness.stages.loss:clipped_surrogate",
        "harness.stages:clipped_tokens",
    ],
    "progrpo": ["methods.progrpo:confidence", "methods.progrpo:reweighted", "methods.progrpo:lowest_share"],
    "gspo": ["harness.stages.loss:sequence_log_ratio", "harness.stages:clipped_tokens"],
    "cispo": ["harness.stages.score:bounded", "harness.stages:log_ratio"],
    "drgrpo": [
        "harness.stages:group_normalised",
        "harness.stages:kl_estimate",
        "harness.stages.aggregate:token_coefficients",
        "harness.stages.loss:clipped_surrogate",
    ],
    "flexible-entropy": [
        "methods.flexible_entropy:linear_threshold",
        "methods.flexible_entropy:thresholds",
        "methods.flexible_entropy:entropy_band",
        "methods.flexible_entropy:direction",
        "harness.stages.loss:clipped_surrogate",
    ],
    "entropy-discriminator-clip": [
        "methods.entropy_discriminator_clip:discriminator",
        "methods.entropy_discriminator_clip:mean_std",
        "methods.entropy_discriminator_clip:removed_by_discriminator",
        "methods.entropy_discriminator_clip:removed_by_change",
        "methods.entropy_polarity:polarity_terms",
    ],
    "era": [
        "methods.era:response_entropy",
        "methods.era:too_certain",
        "methods.era:too_uncertain",
        "methods.era:positive",
        "methods.era:TopLogProb.compute",
        "methods.era:InverseScale.__call__",
        "methods.era:log_ratio",
        "harness.stages.loss:clipped_surrogate",
    ],
    "gtpo": [
        "methods.gtpo:shared_run",
        "methods.gtpo:conflict_weights",
        "methods.gtpo:run_divisor",
        "methods.gtpo:shaped_advantage",
        "methods.gtpo:FlooredEntropy.compute",
        "harness.stages.loss:clipped_surrogate",
    ],
    "hapo": [
        "methods.hapo:scored",
        "methods.hapo:score",
        "methods.hapo:sampling_temperature",
        "methods.hapo:token_weighted",
        "methods.hapo:adaptive_range",
        "methods.hapo:redistributed",
        "harness.stages.loss:clipped_surrogate",
    ],
    "dcpo": [
        "methods.dcpo:extra_temperature",
        "methods.dcpo:mixing",
        "methods.dcpo:tempered_ratio",
        "methods.dcpo:mixed_advantage",
        "methods.dcpo:group_normalised",
        "harness.stages.loss:clipped_surrogate",
    ],
    "clip-low-high": ["harness.stages.loss:clipped_surrogate", "harness.stages:clipped_tokens"],
    "dispo": ["methods.dispo:bounds_by_sign", "harness.stages.score:bounded"],
    "vcpo": [
        "methods.vcpo:log_weights",
        "methods.vcpo:truncated",
        "methods.vcpo:distances",
        "methods.vcpo:effective_sample_size",
        "methods.vcpo:rate_multiplier",
        "methods.vcpo:weighted_average",
        "methods.vcpo:standardised",
    ],
    "prorl": [
        "methods.dapo:mixed_groups",
        "harness.stages.loss:clipped_surrogate",
        "harness.stages.regularise:kl_estimate",
    ],
    "sspo": ["harness.stages.ratios:segment_means", "methods.sspo:scaled", "harness.stages:group_normalised"],
    "reinforce-family": [
        "methods.reinforce_family:less_baseline",
        "methods.reinforce_family:standardised",
        "methods.reinforce_family:leave_one_out",
        "harness.stages.credit:at_last_token",
        "harness.stages.credit:returns_to_go",
        "harness.stages.credit:whitened",
        "harness.stages.credit:reference_kl",
        "harness.stages.loss:clipped_surrogate",
    ],
    "minpro": ["harness.stages.ratios:prefix_minimum", "harness.stages.score:bounded"],
}
#: Entries of the json that are text or are stored as arrays too.
NOT_NUMBERS = {"k_rule", "trace"}
#: Read, but without effect on any stored case.
INERT = {
    ("bapo", ("ratio_lower_step",)): "the released search always runs the lower bound to its maximum",
    ("hapo", ("fallback_std_ddof",)): "every stored group that falls back has equal rewards",
    ("bapo", ("paper_bound_tol",)): "no stored search stops at its maximum",
    ("vcpo", ("use_clipped_for_ess",)): "where a stored weight is truncated the share exceeds base_ess_ratio",
}


def bent(value: Any) -> Any:
    """The value of a formula, a little wrong."""
    if isinstance(value, tuple):
        return tuple(bent(v) for v in value)
    if isinstance(value, torch.Tensor):
        if value.dtype == torch.bool:
            return ~value
        return value[1:] if value.dtype == torch.int64 else value * 1.001
    return value + 1 if isinstance(value, int) else value * 1.001


@pytest.mark.parametrize(("slug", "formula"), [(s, f) for s, fs in FORMULAS.items() for f in fs])
def test_a_bent_formula_fails(slug: str, formula: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, name = formula.partition(":")
    owner: Any = importlib.import_module(module)
    *path, name = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    original: Callable[..., Any] = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *a, **k: bent(original(*a, **k)))
    # adapters are imported afresh by every replay, so what they import by name is bent too
    assert any(row.status == "FAIL" for row in replay(DATA / slug, ADAPTERS))


def leaves(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(path, value) of every number, switch and name in the hyper-parameters."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        if key in NOT_NUMBERS:
            continue
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def others(value: Any) -> list[Any]:
    """Values that a hyper-parameter might be confused with."""
    if isinstance(value, bool):
        return [not value]
    if value is None:  # an option that is off: here always a range
        return [[-0.1, 0.1]]
    if isinstance(value, str):
        return [v for v in ("linear", "cosine") if v != value]
    return [
        value * 0.5,
        value * 2,
        value + 0.37,
        1.01,
        0.03,
        value + 100,
        *([value - 1] if value == 1 else []),
    ]


def all_hyperparameters() -> list[tuple[str, tuple[Any, ...]]]:
    found = {(case.slug, path): None for case in cases(DATA) for path, _ in leaves(case.hp)}
    return [key for key in found if key not in INERT]


def with_value(case: GoldenCase, path: tuple[Any, ...], value: Any) -> GoldenCase:
    meta = copy.deepcopy(dict(case.meta))
    place = meta["hyperparameters"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return dataclasses.replace(case, meta=meta)


@pytest.mark.parametrize(("slug", "path"), all_hyperparameters(), ids=lambda v: str(v))
def test_every_hyperparameter_is_read(slug: str, path: tuple[Any, ...]) -> None:
    """Some other value makes some case fail: the adapter reads it from the json and the formula uses it."""
    adapter = load_adapter(slug, ADAPTERS)
    for case in cases(DATA / slug):
        here = dict(leaves(case.hp))
        if path not in here:
            continue
        for value in others(here[path]):
            if any(row.status == "FAIL" for row in check_case(with_value(case, path, value), adapter)):
                return
    pytest.fail(f"{slug}: no value of {path} changes any output")
