"""Where the shared tests try CurioSFT."""

from tests.methods.support.cases import Cases

SEEN = {"passes": 3}
CASES = Cases(
    options={
        "curiosft": [{"tau_min": 1.0, "tau_max": 2.0, "top_k": 4, "aggregation": "seq-mean-token-mean"}]
    },
    readings=[
        ("curiosft", {}, {"teacher": SEEN}),
        ("curiosft", {"alpha": 0.3, "tau_min": 0.9, "tau_max": 3.0, "top_k": 5}, {"teacher": SEEN}),
        ("curiosft", {"low_entropy": 1.0, "aggregation": "seq-mean-token-mean"}, {"teacher": SEEN}),
    ],
    refused=[
        ("curiosft", {"tau_min": 1.5}, {}, "lower method.tau_min"),
        ("curiosft", {}, {"train.token_budget": 1000}, "set train.steps"),
    ],
    formulas=[
        "methods.curiosft:tempered_entropy",
        "methods.curiosft:target_gain",
        "methods.curiosft:CuriousLogProb.temperature",
        "methods.curiosft:kl_estimate",
    ],
)
