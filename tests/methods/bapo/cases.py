"""Where the shared tests try BAPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    readings=[
        ("bapo@released", {}, {}),
        ("bapo@released", {"target": 4.0, "high_max": 1.6}, {}),
        ("bapo@paper", {}, {}),
        ("bapo@paper", {"target": 0.9, "high_max": 1.5}, {}),
    ],
    refused=[
        ("bapo@released", {"low_start": 0.9}, {}, "raise the maximum"),
        ("bapo@paper", {"high_start": 4.0}, {}, "raise the maximum"),
        ("bapo@released", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
    ],
    formulas=[
        "methods.bapo:positive_negative_ratio",
        "methods.bapo:positive_fraction",
        "harness.stages.loss:clipped_surrogate",
    ],
    inert={
        ("ratio_lower_step",): "the released search always runs the lower bound to its maximum",
        ("paper_bound_tol",): "no stored search stops at its maximum",
    },
)
