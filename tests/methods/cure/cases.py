"""Where the shared tests try CURE."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={"cure": [{"dynamic_sampling": False, "critical_order": "random", "judged": "continuation"}]},
    readings=[
        ("cure", {"min_text": 1}, {}),
        ("cure", {"n2": 1, "eps_high": 0.1, "overlong_factor": 2.0, "overlong_fraction": 0.5}, {}),
        ("cure", {}, {"cure": {"begun": True, "steps": 2}}),
    ],
    micro={"cure": {"min_text": 1, "max_gen_batches": 2}},
    refused=[
        ("cure", {"n2": 4}, {}, "no multiple of 5; change rollout.group_size or method.n2"),
        ("cure", {}, {"rollout.group_size": 6}, "no multiple of 4"),
        ("cure", {"reward_wrong": 2.0}, {}, "reward_right must exceed"),
    ],
    formulas=[
        "methods.cure:says_enough",
        "methods.cure:eligible",
        "harness.stages.branching:highest_positions",
        "methods.cure:kept_tokens",
        "harness.stages.defaults:group_normalised",
    ],
    inert={
        ("n1",): "the groups tell how many rollouts there are",
        ("n2",): "the groups tell how many rollouts there are",
        ("special_ids", 0): "the padding, which is no candidate anyway",
        ("vocab_text", 0): "a special token, whatever its text",
        ("vocab_text", 1): "a special token, whatever its text",
        **{("vocab_text", i): "a word in the place of a word" for i in (5, 6, 7, 8, 11, 13, 15)},
    },
)
