"""Where the shared tests try CISPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "cispo": [{"cap": 1.2, "floor": 0.8, "aggregation": "seq-mean-token-mean"}],
    },
    readings=[
        ("cispo", {}, {}),
        ("cispo", {"cap": 1.05, "floor": 0.9}, {}),
    ],
    refused=[
        ("cispo", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("cispo", {"floor": 5.0}, {}, "lower floor"),
    ],
    formulas=[
        "harness.stages.score:bounded",
        "harness.stages.loss:log_ratio",
    ],
)
