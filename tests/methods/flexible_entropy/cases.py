"""Where the shared tests try Flexible Entropy Control."""

from tests.methods.support.cases import Cases

#: The synthetic step's; the trainer sets its own share of the run when a step begins.
PHASE = {"u": 0.2, "h_init": None, "raising": False}

CASES = Cases(
    options={
        "flexible-entropy@id": [{"split": 0.1, "aggregation": "token-mean"}],
    },
    readings=[
        ("flexible-entropy@id", {}, {"flexible": PHASE}),
        ("flexible-entropy@id", {"split": 0.05, "alpha_low": -0.25}, {"flexible": PHASE}),
        ("flexible-entropy@did", {"beta_high": 0.3}, {"flexible": PHASE}),
        ("flexible-entropy@did", {"split": 0.05}, {"flexible": PHASE}),
        ("flexible-entropy@od", {}, {"flexible": PHASE | {"h_init": 0.1}}),
        ("flexible-entropy@od", {}, {"flexible": PHASE | {"h_init": 100.0, "raising": True}}),
    ],
    refused=[
        ("flexible-entropy@id", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("flexible-entropy@od", {"alpha_low": -0.4}, {}, "raise method.beta_low"),
    ],
    formulas=[
        "methods.flexible_entropy:linear_threshold",
        "methods.flexible_entropy:thresholds",
        "methods.flexible_entropy:entropy_band",
        "methods.flexible_entropy:direction",
        "harness.stages.loss:clipped_surrogate",
    ],
)
