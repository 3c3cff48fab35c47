"""Where the shared tests try SAGE."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={"sage@light": [{"rule": "paper", "hints": "solution"}]},
    readings=[
        ("sage@full", {}, {}),
        ("sage@full", {"hints": "solution", "eps_high": 0.05, "dual_clip": 1.2}, {}),
        ("sage@light", {}, {}),
        ("sage@light", {"rule": "paper", "eps_low": 0.1}, {}),
    ],
    refused=[("sage@light", {"min_acc": 0.5}, {}, "min_acc must be below")],
    formulas=[
        "methods.sage:next_level",
        "harness.stages.defaults:group_normalised",
    ],
    inert={("group_size",): "the arrays tell how many rollouts a prompt has"},
)
