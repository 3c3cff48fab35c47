"""Where the shared tests try REINFORCE family."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "reinforce-family@plain": [{"whiten": "biased", "gamma": 0.9, "kl_coef": 0.1}],
        "reinforce-family@plusplus": [{"kl_coef": 0.1, "kl_estimator": "k3"}],
        "reinforce-family@rloo": [{"kl_coef": 0.1, "kl_after": True}],
        "reinforce-family@rloo-trl": [{"kl_coef": 0.0, "normalise": True}],
    },
    readings=[
        ("reinforce-family@plain", {}, {}),
        (
            "reinforce-family@plain",
            {"whiten": "biased", "gamma": 0.9, "kl_coef": 0.1, "kl_estimator": "k3"},
            {},
        ),
        ("reinforce-family@plusplus", {"kl_coef": 0.1, "aggregation": "seq-mean-token-mean"}, {}),
        ("reinforce-family@plusplus-baseline", {}, {}),
        ("reinforce-family@rloo", {"dual_clip": 1.2, "eps_high": 0.1}, {}),
        ("reinforce-family@rloo", {"kl_coef": 0.1, "kl_after": True}, {}),
        ("reinforce-family@rloo-trl", {}, {}),
        ("reinforce-family@rloo-trl", {"normalise": True, "eps_low": 0.02, "eps_high": 0.03}, {}),
    ],
    formulas=[
        "methods.reinforce_family:less_baseline",
        "methods.reinforce_family:standardised",
        "methods.reinforce_family:leave_one_out",
        "harness.stages.credit:at_last_token",
        "harness.stages.credit:returns_to_go",
        "harness.stages.credit:whitened",
        "harness.stages.credit:reference_kl",
        "harness.stages.loss:clipped_surrogate",
    ],
)
