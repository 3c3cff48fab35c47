"""Where the shared tests try HAPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "hapo@paper": [{"rho": 0.5, "beta": 0.5, "eps_low": 0.05, "eps_high": 0.05}],
    },
    readings=[
        ("hapo@released", {}, {}),
        ("hapo@released", {"rho": 0.5, "beta": 0.5, "dual_clip": 1.02}, {}),
        ("hapo@paper", {}, {}),
        ("hapo@paper", {"rho": 0.5, "alpha": 0.5, "eps_low": 0.05, "eps_high": 0.05}, {}),
    ],
    formulas=[
        "methods.hapo:scored",
        "methods.hapo:score",
        "methods.hapo:sampling_temperature",
        "methods.hapo:token_weighted",
        "methods.hapo:adaptive_range",
        "methods.hapo:redistributed",
        "harness.stages.loss:clipped_surrogate",
    ],
    inert={
        ("fallback_std_ddof",): "every stored group that falls back has equal rewards",
    },
)
