"""Where the shared tests try VADE."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={"vade": [{"sampled": False, "failure_power": 1.0}]},
    readings=[("vade", {}, {}), ("vade", {"eps_high": 0.28, "decay_drawn": 0.0}, {})],
    refused=[("vade", {"reward_wrong": 2.0}, {}, "reward_right must exceed")],
    formulas=[
        "methods.vade:information",
        "methods.vade:most_informative",
        "methods.vade:counted",
    ],
)
