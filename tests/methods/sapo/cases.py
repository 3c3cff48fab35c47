"""Where the shared tests try SAPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "sapo": [{"tau_pos": 3.0, "tau_neg": 0.5, "aggregation": "token-mean"}],
    },
    readings=[
        ("sapo", {}, {}),
        ("sapo", {"tau_pos": 0.4, "tau_neg": 6.0}, {}),
    ],
    refused=[
        ("sapo", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
    ],
    formulas=[
        "methods.sapo:temperatures",
        "methods.sapo:gate",
        "methods.sapo:gate_slope",
    ],
)
