"""Where the shared tests try GTPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "gtpo@released": [{"tau": 9.0}],
        "gtpo@paper": [{"tau": 9.0, "w": 3.0}],
    },
    readings=[
        ("gtpo@released", {"tau": 9.0}, {}),
        ("gtpo@released", {"tau": 3.0, "gamma": 0.3, "w": 3.0}, {}),
        ("gtpo@paper", {}, {"gtpo": {"first_entropy": 1.0}}),
        ("gtpo@paper", {"tau": 1.4}, {"gtpo": {"first_entropy": 1.2}}),
    ],
    formulas=[
        "methods.gtpo:shared_run",
        "methods.gtpo:conflict_weights",
        "methods.gtpo:run_divisor",
        "methods.gtpo:shaped_advantage",
        "methods.gtpo:FlooredEntropy.compute",
        "harness.stages.loss:clipped_surrogate",
    ],
)
