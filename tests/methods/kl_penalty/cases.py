"""Where the shared tests try KL penalty by estimator."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "kl-penalty@loss": [
            {"estimator": "k1"},
            {"estimator": "abs", "coef": 0.2},
            {"bias_corrected": True, "coef": 0.2},
        ],
        "kl-penalty@reward": [{"estimator": "k3", "aggregation": "token-mean"}],
    },
    readings=[
        ("kl-penalty@loss", {}, {}),
        ("kl-penalty@loss", {"estimator": "k2", "aggregation": "token-mean", "coef": 0.5}, {}),
        ("kl-penalty@loss", {"estimator": "k3+", "coef": 0.5}, {}),
        ("kl-penalty@loss", {"bias_corrected": True, "coef": 0.5}, {}),
        ("kl-penalty@reward", {}, {}),
        ("kl-penalty@reward", {"estimator": "k2", "eps_high": 0.1}, {}),
        ("kl-penalty@reward", {"estimator": "k3", "coef": 0.5}, {}),
    ],
    refused=[("kl-penalty@loss", {"bias_corrected": True, "estimator": "k3+"}, {}, "take k3 or k2")],
    formulas=[
        "harness.stages.regularise:kl_estimate",
        "harness.stages.credit:less_kl",
        "harness.stages.defaults:group_normalised",
        "harness.stages.loss:clipped_surrogate",
        "harness.stages.loss:TokenRatio.ratio",
    ],
)
