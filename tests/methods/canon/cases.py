"""Where the shared tests try CANON."""

from tests.methods.support.cases import Cases

CASES = Cases(
    readings=[
        ("canon", {}, {}),
        ("canon", {"metric": "length", "mu": 0.3, "alpha": 0.8, "beta": 0.1}, {}),
        ("canon", {"schedule": "intra-first", "alpha": 0.7, "beta": 0.2}, {}),
        ("canon", {"schedule": "anneal", "metric": "random"}, {}),
    ],
    refused=[("canon", {"schedule_steps": 32}, {}, "raise method.schedule_steps")],
    formulas=["methods.canon:conditional_advantage"],
)
