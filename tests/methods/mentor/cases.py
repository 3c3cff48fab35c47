"""Where the shared tests try MENTOR."""

from tests.methods.support.cases import Cases

#: The tiny model of these tests has no expert; the policy as it was at first stands for one.
OWN = {"expert": "base", "gamma_floor": 0.5}

CASES = Cases(
    options={
        "mentor": [{"form": "think", "format_share": 0.2}, {"expert_cap": 0.5, "dual_clip": None}],
    },
    readings=[
        ("mentor", {**OWN, "decay_steps": 6}, {"mentor": {"gamma": 0.7}}),
        (
            "mentor",
            {**OWN, "expert_cap": 0.4, "decay_steps": 6, "format_share": 0.3},
            {"mentor": {"gamma": 0.7}},
        ),
        ("mentor", {**OWN, "form": "think", "decay_steps": 2}, {"mentor": {"gamma": 2.0}}),
    ],
    refused=[
        ("mentor", {}, {"rollout.group_size": 1}, "group_size=1 .*use at least 2"),
        ("mentor", {}, {"model.path": "owner/other"}, "no expert is shipped for .*write method.expert="),
        ("mentor", {"expert": "micro-exprt"}, {}, "method.expert: unknown model .*did you mean micro-expert"),
    ],
    formulas=[
        "methods.mentor:alpha_at",
        "methods.mentor:expert_share",
        "methods.mentor:policy_entropy",
        "methods.mentor:mixed_advantages",
        "harness.rollout.mixing:mixture",
    ],
    inert={
        ("n_on",): "the groups tell",
        ("n_mix",): "the rows drawn with the expert are marked",
        ("expert_cap",): "99 in the stored cases, as in the code: never reached",
    },
)  # fmt: skip
