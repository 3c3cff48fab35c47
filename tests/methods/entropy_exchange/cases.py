"""Where the shared tests try shaping by perplexity and by position."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "entropy-exchange": [{"shaping": "position"}],
    },
    readings=[
        ("entropy-exchange", {}, {}),
        ("entropy-exchange", {"scope": "batch", "alpha": 0.9, "keep_sign": True}, {}),
        ("entropy-exchange", {"shaping": "position", "d": -2.0, "aggregation": "token-mean"}, {}),
    ],
    refused=[
        ("entropy-exchange", {}, {"rollout.group_size": 1}, "method.scope=batch"),
        ("entropy-exchange", {"shaping": "position", "d": 0.0}, {}, "d > 0"),
    ],
    formulas=[
        "methods.entropy_exchange:log_perplexity",
        "methods.entropy_exchange:standardised",
        "methods.entropy_exchange:by_perplexity",
        "methods.entropy_exchange:position_bonus",
        "methods.entropy_exchange:by_position",
    ],
)
