"""Where the shared tests try QAE."""

from tests.methods.support.cases import Cases

CASES = Cases(
    readings=[
        ("qae", {}, {}),
        ("qae", {"k": 0.7, "ddof": 1, "std_eps": 1e-6, "dual_clip": 3.0}, {}),
    ],
    formulas=["methods.qae:quantile_baseline", "methods.qae:quantile_advantage"],
    inert={("group_size",): "the stored groups say which rows belong together"},
)
