"""Where the shared tests try REPO-R."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "repo-r": [{"zeta": 0.4, "target": "none", "dual_clip": 1.2}, {"target": "initial"}],
    },
    readings=[
        ("repo-r", {}, {"repo_r": {"zeta": 0.05, "target": 0.3}}),
        ("repo-r", {"zeta_max": 1.0, "dual_clip": 1.2}, {"repo_r": {"zeta": -0.6, "target": 0.3}}),
        ("repo-r", {"target": "none", "zeta": 0.7, "logp_floor": -1.5}, {}),
    ],
    refused=[
        ("repo-r", {"zeta_min": 0.1}, {}, "lower zeta_min"),
        ("repo-r", {"zeta": -0.1}, {}, "raise zeta_max"),
    ],
    formulas=[
        "methods.repo_r:rescaled",
        "methods.repo_r:next_zeta",
        "harness.stages.loss:clipped_surrogate",
    ],
)
