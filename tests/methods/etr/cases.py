"""Where the shared tests try ETR (reconstruction)."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "etr": [{"macro": "explicit"}],
    },
    readings=[
        ("etr", {}, {}),
        ("etr", {"macro": "explicit", "eps_0": 0.1}, {}),
    ],
    refused=[
        ("etr", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
    ],
    formulas=[
        "methods.etr:elastic_bounds",
        "methods.etr:pass_variance",
        "methods.etr:pass_rate",
        "harness.stages.loss:clipped_surrogate",
    ],
)
