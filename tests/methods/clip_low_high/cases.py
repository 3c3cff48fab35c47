"""Where the shared tests try Clip-Low / Clip-High."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "clip-low-high": [{"eps_low": 1.0, "eps_high": 0.1}, {"eps_low": None, "eps_high": 0.1}],
    },
    readings=[
        ("clip-low-high", {}, {}),
        ("clip-low-high", {"eps_low": None, "eps_high": 0.05}, {}),
    ],
    refused=[
        ("clip-low-high", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("clip-low-high", {"eps_low": 1.0}, {}, "set method.eps_low < 1"),
        ("clip-low-high", {"eps_low": None}, {}, "set method.eps_low < 1"),
    ],
    formulas=[
        "harness.stages.loss:clipped_surrogate",
        "harness.stages.loss:clipped_tokens",
    ],
)
