"""Where the shared tests try MC-GRPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "mc-grpo": [{"rescale_nonzero": True, "aggregation": "token-mean"}],
    },
    readings=[
        ("mc-grpo", {}, {}),
        (
            "mc-grpo",
            {"aggregation": "token-mean", "rescale_nonzero": True, "mad_eps": 1.0, "kl_coef": 1.0},
            {},
        ),
    ],
    refused=[
        ("mc-grpo", {"reward_wrong": 2.0}, {}, "reward_right must exceed"),
        ("mc-grpo", {}, {"rollout.group_size": 1}, "group_size=1 .*use at least 2"),
    ],
    formulas=[
        "methods.mc_grpo:median_centred",
        "methods.mc_grpo:rescaled",
        "harness.stages.loss:clipped_surrogate",
        "harness.stages.regularise:kl_estimate",
    ],
    inert={
        ("G",): "the groups tell how many rollouts a prompt has, and may differ",
        ("rollouts_per_prompt",): "the groups tell",
        ("max_completion_length",): "the stored cases are of the grpo form, which does not divide by it",
    },
)
