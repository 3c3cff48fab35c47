"""Where the shared tests try Tool-Light."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={"tool-light": [{"dpo_coef": 0.0, "dual_clip": 3.0}, {"dpo_beta": 1.0}]},
    readings=[
        ("tool-light", {"step_end": "e", "prefix_lengths": "1-2-4", "dpo_beta": 0.5}, {}),
        ("tool-light", {"chains": 2, "positions": 2, "branches": 4, "dpo_coef": 0.3, "dual_clip": 2.0}, {}),
        ("tool-light", {"dpo_coef": 0.0, "branches": 1}, {}),
    ],
    micro={"tool-light": {"step_end": "[,+]", "prefix_lengths": "1-2-3"}},
    refused=[
        ("tool-light", {"prefix_lengths": "20-10"}, {}, "method.prefix_lengths='20-10' is no list of rising"),
        ("tool-light", {"prefix_lengths": "0-10"}, {}, "no list of rising"),
        ("tool-light", {"step_end": "("}, {}, "no regular expression"),
        ("tool-light", {"chains": 9}, {}, "method.chains=9 exceeds rollout.group_size=8; lower it"),
        ("tool-light", {}, {"train.minibatches": 17}, "lower it or raise rollout.prompts_per_step"),
        ("tool-light", {}, {"train.scope": "micro"}, "use train.scope=minibatch"),
    ],
    formulas=[
        "methods.tool_light:prefix_means",
        "methods.tool_light:branch_steps",
        "methods.tool_light:preference_loss",
        "harness.stages.top_tokens:truncated_entropy",
    ],
    inert={("prefix_lengths", i): "the stored steps are shorter" for i in (2, 3, 4)},
)
