"""Where the shared tests try ARES: triggers, windows and weights that sixty tokens of seven words reach."""

from tests.methods.support.cases import Cases

WORDS = {"triggers": "a c f . e o n t r i s h l u d b w", "window": 1, "percentile": 50.0}
STRONG = WORDS | {"kl_coef": 0.5, "kl_interval": 1}
STATE = {
    "ares": {"tau": 1.0, "batches": 2, "alpha": [0.8, 1.2, 0.5], "target": [0.5, 1.0, 1.5]},
    "ares_kl": {"beta": [1.5, 0.7, 2.0], "kl": [0.05, None, 0.01], "error": [0.1, 0.0, -0.1], "calls": 3},
}

CASES = Cases(
    options={
        "ares@released": [STRONG | {"online_filter": "none"}],
        "ares@paper": [STRONG],
    },
    readings=[
        ("ares@released", STRONG, STATE),
        ("ares@released", STRONG | {"online_filter": "none", "alpha_rate": 1.0, "top_k": 3}, STATE),
        ("ares@paper", STRONG | {"rho": 0.1}, STATE),
        ("ares@paper", WORDS | {"window": 2, "percentile": 20.0, "kl_target": 0.2, "kl_interval": 2}, STATE),
    ],
    refused=[
        ("ares@released", {}, {"rollout.group_size": 1}, "group_size >= 2"),
        ("ares@released", {"window": 24}, {}, "lower the window"),
        ("ares@paper", {"triggers": " "}, {}, "name words"),
    ],
    formulas=[
        "methods.ares:sample_threshold",
        "methods.ares:counted",
        "methods.ares:bucket_means",
        "methods.ares:adapted_alpha",
        "methods.ares:entropy_score",
        "harness.stages.difficulty:difficulty",
        "harness.stages.top_tokens:truncated_entropy",
        "harness.stages.difficulty:kl_estimate",
        "harness.stages.defaults:group_normalised",
        "harness.stages.loss:clipped_surrogate",
    ],
)
