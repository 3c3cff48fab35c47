"""Where the shared tests try APO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    readings=[
        ("apo", {"kl_coef": 0.2}, {}),
        ("apo", {"kl_coef": 0.05, "stcr_base": 1.5, "dual_clip": 3.0}, {}),
    ],
    formulas=[
        "methods.apo:length_weight",
        "methods.apo:difficulty",
        "methods.apo:kl_weight",
        "methods.apo:clipped_advantage",
        "harness.stages.regularise:kl_estimate",
    ],
    inert={("group_size",): "the stored groups say which rows belong together"},
)
