"""Where the shared tests try DPPO."""

from tests.methods.support.cases import Cases

ONE_UPDATE = {"train.minibatches": 1, "train.epochs": 1}

CASES = Cases(
    options={
        "dppo@tv": [{"cap": None, "scale": "group", "aggregation": "token-mean"}],
        "dppo@prime": [{"delta_low": 0.01, "delta_high": 0.01, "adv_tau": 0.5, "kl_tau": 0.1}],
    },
    readings=[
        ("dppo@tv", {}, {}),
        ("dppo@tv", {"delta_low": 0.004, "delta_high": 0.002, "cap": 1.02}, {}),
        ("dppo@kl", {}, {}),
        ("dppo@kl", {"delta_low": 1e-5, "delta_high": 2e-5, "cap": None}, {}),
        ("dppo@prime", {}, {}),
        ("dppo@prime", {"delta_low": 0.004, "delta_high": 0.002, "adv_tau": 0.5, "kl_tau": 0.3}, {}),
    ],
    refused=[
        ("dppo@tv", {}, ONE_UPDATE, "raise train.minibatches"),
        ("dppo@kl", {}, ONE_UPDATE, "raise train.minibatches"),
        ("dppo@prime", {}, ONE_UPDATE, "raise train.minibatches"),
        ("dppo@tv", {}, {"rollout.group_size": 1}, "leaves nothing to compare; use at least 2"),
    ],
    formulas=[
        "harness.stages.trust_region:probability_change",
        "harness.stages.trust_region:binary_kl",
        "methods.dppo:kept_by_tv",
        "methods.dppo:kept_by_kl",
        "methods.dppo:SquaredLogRatio.__call__",
    ],
)
