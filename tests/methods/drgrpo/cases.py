"""Where the shared tests try Dr. GRPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "drgrpo": [{"kl_coef": 0.04}],
    },
    readings=[
        ("drgrpo", {}, {}),
        ("drgrpo", {"eps_low": 0.1, "eps_high": 0.28, "kl_coef": 0.04}, {}),
    ],
    formulas=[
        "harness.stages.defaults:group_normalised",
        "harness.stages.regularise:kl_estimate",
        "harness.stages.aggregate:token_coefficients",
        "harness.stages.loss:clipped_surrogate",
    ],
)
