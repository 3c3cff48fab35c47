"""Where the shared tests try STEER."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "steer": [{"mode": "linear"}],
    },
    readings=[
        ("steer", {}, {}),
        ("steer", {"mode": "linear", "w_min": 0.8}, {}),
    ],
    refused=[
        ("steer", {"mode": "linear", "w_min": 1.3}, {}, "lower w_min"),
        ("steer", {"w_min": 1.3}, {}, "use mode=linear"),
    ],
    formulas=[
        "methods.steer:entropy_change",
        "methods.steer:linear_weights",
        "methods.steer:exponential_weights",
    ],
)
