"""Where the shared tests try ERA."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "era@released": [{"w_low": 1.9, "k": 3.0, "top_k": 4}],
        "era@paper": [{"w_low": 1.4, "w_high": 1.6}],
    },
    active={
        "era@released": {"w_low": 1.6, "top_k": None},
        "era@paper": {"w_low": 1.6},
    },
    readings=[
        ("era@released", {"w_low": 2.5, "k": 3.0, "top_k": 4}, {}),
        ("era@released", {"w_low": 0.0, "w_high": 0.1, "top_k": None, "eps_high": 0.01}, {}),
        ("era@paper", {"w_low": 1.7, "w_high": 1.9}, {}),
        ("era@paper", {"w_low": 2.6, "w_high": 2.8, "k": 3.0, "dual_clip": 1.01}, {}),
    ],
    refused=[
        ("era@released", {"w_low": 3.0}, {}, "lower w_low"),
    ],
    formulas=[
        "methods.era:response_entropy",
        "methods.era:too_certain",
        "methods.era:too_uncertain",
        "methods.era:positive",
        "methods.era:TopLogProb.compute",
        "methods.era:InverseScale.__call__",
        "methods.era:log_ratio",
        "harness.stages.loss:clipped_surrogate",
    ],
)
