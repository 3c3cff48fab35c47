"""Where the shared tests try BuPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "bupo": [{"internal_steps": 7, "layer": 1.0, "dual_clip": None}],
    },
    readings=[
        ("bupo", {}, {}),
        # the second step of a run is past the switch, and its optimiser remembers the first
        ("bupo", {"internal_steps": 1, "layer": 1.0, "dual_clip": 1.5}, {"bupo": {"step": 2}}),
    ],
    refused=[
        ("bupo", {"layer": 1.5}, {}, "use a whole number from 1, or a share below 1"),
    ],
    formulas=[
        "methods.bupo:PhaseRatio.log_ratio",
        "harness.stages.loss:clipped_surrogate",
    ],
)
