"""Where the shared tests try EntroPIC."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "entropic": [{"target_entropy": 1.2, "p_min": 0.2, "aggregation": "seq-mean-token-mean"}],
    },
    active={
        "entropic": {"p_min": 0.5},
    },
    readings=[
        ("entropic", {"p_min": 0.4}, {"entropic": {"integral": 0.0}}),
        ("entropic", {"p_min": 0.2, "kp": 0.5, "target_entropy": 0.9}, {"entropic": {"integral": -20.0}}),
        (
            "entropic",
            {"p_min": 0.3, "alpha_limit": 0.7, "aggregation": "seq-mean-token-mean"},
            {"entropic": {"integral": -400.0}},
        ),
    ],
    formulas=[
        "methods.entropic:controlled",
        "methods.entropic:sure_tokens",
        "harness.stages.loss:clipped_surrogate",
    ],
)
