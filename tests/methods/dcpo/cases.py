"""Where the shared tests try DCPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "dcpo": [{"gap_cap": 1.0, "t_high": 2.0}],
    },
    readings=[
        ("dcpo", {}, {"dcpo": {"h": 0.45}}),
        ("dcpo", {"gap_cap": 0.5, "t_low": 0.7}, {"dcpo": {"h": 0.8}}),
    ],
    formulas=[
        "methods.dcpo:extra_temperature",
        "methods.dcpo:mixing",
        "methods.dcpo:tempered_ratio",
        "methods.dcpo:mixed_advantage",
        "methods.dcpo:group_normalised",
        "harness.stages.loss:clipped_surrogate",
    ],
)
