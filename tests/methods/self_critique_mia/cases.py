"""Which formulas of self-critique its stored cases must notice."""

from tests.methods.support.cases import Cases

CASES = Cases(
    formulas=[
        "harness.stages.top_tokens:truncated_entropy",
        "harness.statistics.detection:likeness",
        "harness.statistics.detection:roc_auc",
    ],
)
