"""Where the shared tests try BandPO."""

from tests.methods.support.cases import Cases

ONE_UPDATE = {"train.minibatches": 1, "train.epochs": 1}
TIGHT = {"delta": 1e-4, "dual_clip": None}

CASES = Cases(
    options={
        "bandpo@kl": [{"relax": True, "aggregation": "token-mean"}],
    },
    readings=[
        ("bandpo@kl", {}, {}),
        ("bandpo@kl", TIGHT, {}),
        ("bandpo@kl", {**TIGHT, "relax": True, "eps_low": 0.01, "eps_high": 0.02}, {}),
        ("bandpo@tv", {"delta": 3e-3, "cap": 1.03}, {}),
        ("bandpo@chi2", TIGHT, {}),
    ],
    refused=[
        ("bandpo@kl", {}, ONE_UPDATE, "raise train.minibatches"),
        ("bandpo@tv", {}, ONE_UPDATE, "raise train.minibatches"),
        ("bandpo@chi2", {}, ONE_UPDATE, "raise train.minibatches"),
    ],
    formulas=[
        "methods.bandpo:token_bounds",
        "harness.stages.trust_region:fall_within_kl",
        "harness.stages.loss:clipped_surrogate",
    ],
)
