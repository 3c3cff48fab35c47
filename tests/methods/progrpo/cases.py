"""Where the shared tests try ProGRPO (reconstruction)."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "progrpo": [{"gate": "mixed_only", "low_rule": "threshold", "prompt_rule": "all"}],
    },
    readings=[
        ("progrpo", {}, {}),
        ("progrpo", {"alpha": 2.0, "low_fraction": 0.5}, {}),
    ],
    formulas=[
        "methods.progrpo:confidence",
        "methods.progrpo:reweighted",
        "methods.progrpo:lowest_share",
    ],
)
