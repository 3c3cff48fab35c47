"""Where the shared tests try ProRL."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "prorl": [{"kl_coef": 0.1, "reset_optimizer": False, "dual_clip": None}],
    },
    readings=[
        ("prorl", {}, {}),
        ("prorl", {"dual_clip": 1.2, "kl_coef": 0.5, "eps_high": 0.1}, {}),
    ],
    refused=[
        ("prorl", {"reset_share": 1.0}, {}, "lower method.reset_share"),
        ("prorl", {}, {"rollout.group_size": 1}, "group_size >= 2"),
    ],
    formulas=[
        "methods.dapo:mixed_groups",
        "harness.stages.loss:clipped_surrogate",
        "harness.stages.regularise:kl_estimate",
    ],
)
