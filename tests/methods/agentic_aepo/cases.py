"""Where the shared tests try agentic AEPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "agentic-aepo@released": [{"entropy_weight": 0.0, "dual_clip": None}],
    },
    readings=[
        ("agentic-aepo@released", {}, {}),
        (
            "agentic-aepo@released",
            {"entropy_weight": 1.5, "eps_low": 0.03, "eps_high": 0.02, "dual_clip": 1.04},
            {},
        ),
        ("agentic-aepo@paper", {}, {}),
        (
            "agentic-aepo@paper",
            {"entropy_weight": 0.7, "eps_low": 0.02, "eps_high": 0.02, "dual_clip": None},
            {},
        ),
    ],
    formulas=[
        "methods.agentic_aepo:standardised",
        "methods.agentic_aepo:entropy_aware",
        "methods.agentic_aepo:balanced_surrogate",
        "methods.agentic_aepo:fresh_rollouts",
        "methods.agentic_aepo:branch_probability",
        "methods.agentic_aepo:branches",
    ],
)
