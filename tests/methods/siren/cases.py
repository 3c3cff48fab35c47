"""Where the shared tests try SIREN."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "siren": [{"anchor": 0.4, "coef": 0.5, "quantile": 0.5, "top_p": 0.95}],
    },
    readings=[
        ("siren", {"coef": 0.5, "top_p": 0.95}, {"siren": {"anchor": 0.2}}),
        ("siren", {"coef": 0.5, "nucleus": "inclusive", "quantile": 0.3, "anchor": 3.0}, {}),
        ("siren", {"coef": 2.0, "top_p": 0.9, "top_k": 4, "dual_clip": 1.02}, {"siren": {"anchor": 0.0}}),
    ],
    formulas=[
        "methods.siren:peaks",
        "methods.siren:peak_weights",
        "harness.stages.token_stats:NucleusEntropy.compute",
        "harness.stages.loss:clipped_surrogate",
    ],
)
