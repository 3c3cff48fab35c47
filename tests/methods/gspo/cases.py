"""Where the shared tests try GSPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "gspo": [{"eps_low": 0.1, "eps_high": 0.1}],
    },
    readings=[
        ("gspo", {}, {}),
        ("gspo", {"eps_low": 0.05, "eps_high": 0.02}, {}),
    ],
    refused=[
        ("gspo", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
    ],
    formulas=[
        "harness.stages.loss:sequence_log_ratio",
        "harness.stages.loss:clipped_tokens",
    ],
)
