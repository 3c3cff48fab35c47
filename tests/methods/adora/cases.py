"""Where the shared tests try ADORA."""

from tests.methods.support.cases import Cases

CASES = Cases(
    readings=[
        ("adora", {}, {}),
        ("adora", {"variant": "vl", "max_length": 4, "weight": 0.3, "kl_coef": 0.05}, {}),
    ],
    formulas=["methods.adora:prompt_weights", "harness.stages.defaults:group_normalised"],
)
