"""Where the shared tests try M2PO."""

from tests.methods.support.cases import Cases

ONE_UPDATE = {"train.minibatches": 1, "train.epochs": 1}

CASES = Cases(
    options={
        "m2po@released": [{"m2_threshold": 0.01, "miniclip_low": 0.3, "miniclip_high": 0.5}],
    },
    readings=[
        ("m2po@paper", {}, {}),
        ("m2po@paper", {"m2_threshold": 1e-4}, {}),
        ("m2po@released", {}, {}),
        ("m2po@released", {"m2_threshold": 1e-5}, {}),
        ("m2po@released", {"m2_threshold": 1e-5, "miniclip_low": 0.02, "miniclip_high": 0.01}, {}),
        ("m2po@areal", {}, {}),
        ("m2po@areal", {"eps_low": 0.02, "eps_high": 0.01}, {}),
    ],
    refused=[
        ("m2po@paper", {}, ONE_UPDATE, "raise train.minibatches"),
        ("m2po@released", {}, ONE_UPDATE, "raise train.minibatches"),
        ("m2po@areal", {}, {"rollout.lag": 2}, "write rollout.ratio_to=update"),
    ],
    formulas=[
        "methods.m2po:clippable",
        "methods.m2po:within_budget",
        "methods.m2po:mean_square",
        "methods.m2po:budget_bound",
        "methods.m2po:ratio_bounds",
    ],
)
