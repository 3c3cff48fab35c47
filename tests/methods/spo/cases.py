"""Where the shared tests try SPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "spo@chain": [{"kl_coef": 0.0, "ratio_threshold": None}],
        "spo@tree": [{"edges": "normalised", "edges_per_prompt": 2, "branches": "3-2"}],
    },
    readings=[
        ("spo@chain", {"interval": 2, "value_samples": 3, "kl_coef": 0.1}, {}),
        ("spo@chain", {"interval": 1, "value_samples": 2, "prob_threshold": 0.5, "eps": 0.1}, {}),
        ("spo@tree", {"branches": "3-2-2", "segment_share": 0.25, "kl_coef": 0.1}, {}),
        ("spo@tree", {"branches": "2-3", "segment_share": 0.5, "edges": "normalised", "kl_coef": 0.0}, {}),
    ],
    micro={
        "spo@chain": {"value_samples": 2},
        "spo@tree": {"branches": "3-2-2", "segment_share": 0.1, "edges_per_prompt": 4},
    },
    refused=[
        ("spo@tree", {"branches": "6;6"}, {}, "method.branches='6;6' is no list"),
        ("spo@tree", {"branches": "1-1"}, {}, "no branching"),
        ("spo@tree", {"segment_share": 0.5}, {}, "3 levels with segments of 12 tokens leave none"),
        ("spo@tree", {}, {"train.token_budget": 1000}, "method.branches=6-6-6 may generate .* in one step"),
        (
            "spo@chain",
            {},
            {"train.token_budget": 1000},
            "spo@chain, with one segment .* train.token_budget=1000",
        ),
    ],
    formulas=[
        "methods.spo:uncertain",
        "methods.spo:beginnings",
        "methods.spo:segment_advantages",
        "harness.stages.uncertain:whitened_over",
        "methods.spo:edge_advantages",
        "methods.spo:kept_edges",
        "harness.stages.branching:node_values",
    ],
    inert={("tree_branch_factors", i): "the tree's parents are stored" for i in range(3)},
)
