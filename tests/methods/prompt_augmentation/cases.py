"""Where the shared tests try prompt augmentation."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={"prompt-augmentation": [{"templates": "marks", "aggregation": "seq-mean-token-mean"}]},
    readings=[
        ("prompt-augmentation", {}, {}),
        ("prompt-augmentation", {"templates": "marks", "eps_high": 0.05, "dual_clip": 1.2}, {}),
    ],
    formulas=[
        "methods.prompt_augmentation:format_reward",
        "methods.prompt_augmentation:drawn",
    ],
)
