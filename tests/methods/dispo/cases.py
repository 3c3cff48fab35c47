"""Where the shared tests try DISPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "dispo": [{"eps_low_pos": 0.1, "eps_high_pos": 0.2, "aggregation": "seq-mean-token-mean"}],
    },
    readings=[
        ("dispo", {}, {}),
        ("dispo", {"eps_low_pos": 0.02, "eps_high_pos": 0.03, "eps_low_neg": 0.05, "eps_high_neg": 0.01}, {}),
    ],
    refused=[
        ("dispo", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
    ],
    formulas=[
        "methods.dispo:bounds_by_sign",
        "harness.stages.score:bounded",
    ],
)
