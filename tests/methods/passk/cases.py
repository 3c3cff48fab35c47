"""Where the shared tests try training for pass@k."""

from tests.methods.support.cases import Cases

CASES = Cases(
    readings=[
        # few groups have a gradient: one draw, or the KL, gives every minibatch one
        ("passk@training", {"k": 1, "eps_high": 0.1, "dual_clip": 1.2}, {}),
        ("passk@training", {"kl_coef": 0.04}, {}),
        ("passk@best", {"kl_coef": 0.04}, {}),
        ("passk@best", {"kl_coef": 0.04, "norm_by_std": False}, {}),
        ("passk@pkpo", {}, {}),
        ("passk@pkpo", {"k": 3, "estimator": "loo"}, {}),
        ("passk@pkpo", {"estimator": "raw"}, {}),
        ("passk@pkpo", {"estimator": "binary"}, {}),
    ],
    refused=[
        ("passk@training", {"k": 9}, {}, "k=9 exceeds the 8 rollouts of a group"),
        ("passk@pkpo", {"k": 5}, {"rollout.group_size": 4}, "raise rollout.group_size"),
        ("passk@pkpo", {"k": 8, "estimator": "loo"}, {}, "estimator=loo-1"),
    ],
    formulas=[
        "methods.passk:pass_chance",
        "methods.passk:training_advantage",
        "methods.passk:best_advantage",
        "methods.passk:max_weights",
        "methods.passk:with_each",
        "methods.passk:added_by_each",
    ],
    inert={("group_size",): "the stored groups say which rows belong together"},
)
