"""Where the shared tests try EMPG."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "empg": [{"step_end": "[a,]", "zeta": 0.5}],
    },
    readings=[
        ("empg", {"step_end": ""}, {}),
        ("empg", {"step_end": "a|e|o", "zeta": 0.5, "k": 2.0, "k_next": 0.5}, {}),
    ],
    refused=[
        ("empg", {"step_end": "["}, {}, "no regular expression"),
    ],
    formulas=[
        "methods.empg:modulation",
        "methods.empg:modulated",
    ],
)
