"""Where the shared tests try KL-Cov."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "kl-cov": [{"share": 0.2, "aggregation": "seq-mean-token-mean"}],
    },
    readings=[
        ("kl-cov", {}, {}),
        ("kl-cov", {"share": 0.2, "beta": 3.0}, {}),
    ],
    refused=[
        ("kl-cov", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
    ],
    formulas=[
        "methods.kl_cov:covariance",
        "methods.kl_cov:largest",
        "methods.kl_cov:distance",
        "harness.stages.loss:clipped_surrogate",
    ],
)
