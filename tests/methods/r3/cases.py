"""Where the shared tests try R^3."""

from tests.methods.support.cases import Cases

NOW = {"plain_passes": 0}

CASES = Cases(
    options={"r3": [{**NOW, "ranked_rows": "all"}, {"replay_old": "current", "bonus": 0.5}]},
    readings=[
        ("r3", {}, {}),
        ("r3", {**NOW, "ranked_rows": "all", "peak_share": 0.5, "ranked_top": 0.4}, {}),
        ("r3", {**NOW, "bonus": 0.0, "eps_high": 0.28}, {}),
    ],
    micro={"r3": {**NOW, "pool": 4, "request": "again"}},
    refused=[
        ("r3", {}, {"rollout.group_size": 1}, "group_size=1 .*use at least 2"),
        ("r3", {"stored_rows": 100}, {}, "stored_rows=100 is less than the 128 rollouts of a step.*raise it"),
    ],
    formulas=[
        "methods.r3:entropy_levels",
        "methods.r3:dominated",
        "methods.r3:ranked_rewards",
        "methods.r3:mixed_advantage",
    ],
)
