"""Where the shared tests try Clip-Cov."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "clip-cov": [{"w_low": 0.1, "share": 0.1, "eps_low": 0.2, "eps_high": 0.2}],
    },
    readings=[
        ("clip-cov", {"w_low": 0.2, "share": 0.1}, {}),
        ("clip-cov", {"w_low": 0.1, "share": 0.05, "eps_low": 0.2, "eps_high": 0.2}, {}),
    ],
    refused=[
        ("clip-cov", {"w_low": 5.0}, {}, "lower method.w_low"),
    ],
    formulas=[
        "methods.clip_cov:covariance",
        "methods.clip_cov:candidates",
        "methods.clip_cov:drawn",
        "methods.clip_cov:clipped_tokens",
        "harness.stages.loss:clipped_surrogate",
    ],
)
