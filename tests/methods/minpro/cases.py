"""Where the shared tests try MinPRO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "minpro": [{"seeded": True, "cap": 1.2, "floor": 0.8}],
    },
    readings=[
        ("minpro", {}, {}),
        ("minpro", {"seeded": True, "floor": 0.97, "cap": 1.02}, {}),
    ],
    refused=[
        ("minpro", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("minpro", {"floor": 5.0}, {}, "lower floor"),
    ],
    formulas=[
        "harness.stages.ratios:prefix_minimum",
        "harness.stages.score:bounded",
    ],
)
