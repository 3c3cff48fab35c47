"""Where the shared tests try CE-GPPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "ce-gppo@paper": [{"beta1": 0.0, "beta2": 0.5, "positive_nll": 0.3}],
    },
    readings=[
        ("ce-gppo@paper", {}, {}),
        ("ce-gppo@paper", {"beta1": 0.25, "beta2": 1.5, "eps_low": 0.03, "eps_high": 0.02}, {}),
        ("ce-gppo@released", {}, {}),
        ("ce-gppo@released", {"eps_low": 0.02, "eps_high": 0.02, "dual_clip": 1.04}, {}),
    ],
    refused=[
        ("ce-gppo@paper", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("ce-gppo@released", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
    ],
    formulas=[
        "methods.ce_gppo:preserved_surrogate",
        "methods.ce_gppo:PositiveNLL.tokens",
    ],
)
