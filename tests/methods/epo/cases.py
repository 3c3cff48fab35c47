"""Where the shared tests try EPO: with edges that entropies of these policies reach."""

from tests.methods.support.cases import Cases

#: The trainer sets its own share of the run when a step begins; this is the synthetic step's.
HISTORY = {"total": 2.4, "rollouts": 3, "started": 0.2, "total_steps": 10}
STRONG = {"entropy_coef": 0.2, "kappa_l": 0.9, "kappa_r": 1.3, "alpha": 2.0}

CASES = Cases(
    options={
        "epo@released": [STRONG | {"mode": "seq"}],
        "epo@paper": [STRONG],
    },
    readings=[
        ("epo@released", {}, {"epo": HISTORY}),
        ("epo@released", STRONG | {"mode": "seq", "smooth_coef": 2.0, "phase": False}, {"epo": HISTORY}),
        ("epo@paper", {}, {"epo": HISTORY}),
        ("epo@paper", STRONG | {"gamma": 2.0}, {"epo": HISTORY}),
    ],
    refused=[
        ("epo@released", {"kappa_l": 2.0}, {}, "kappa_l must be below"),
        ("epo@paper", {"kappa_l": 0.9, "kappa_r": 0.8}, {}, "raise kappa_r"),
    ],
    formulas=[
        "methods.epo:phase_weight",
        "methods.epo:smoothing_weight",
        "methods.epo:constant_penalty",
        "methods.epo:hinge_penalty",
        "harness.stages.loss:clipped_surrogate",
    ],
)
