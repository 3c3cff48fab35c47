"""Where the shared tests try COPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={"copo": [{"mode": "only-forced", "answers": "written", "reward_coef": True}]},
    readings=[
        ("copo", {}, {}),
        ("copo", {"mode": "soft-with-forced", "reward_coef": True, "k": 2.0, "b": 0.8}, {}),
        ("copo", {"mode": "only-zero", "aggregation": "token-mean", "dual_clip": 1.01}, {}),
    ],
    refused=[
        ("copo", {}, {"rollout.group_size": 1}, "group_size >= 2"),
        ("copo", {}, {"rollout.prompts_per_step": 1}, "prompts_per_step >= 2"),
    ],
    formulas=[
        "methods.copo:entropy_bits",
        "methods.copo:group_rewards",
        "methods.copo:between_groups",
        "methods.copo:local_weight",
        "harness.stages.loss:clipped_surrogate",
    ],
)
