"""Where the shared tests try ERC."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "erc": [{"base": "gppo", "q_low": 0.7, "q_high": 1.3, "positive_nll": 0.0}],
    },
    readings=[
        ("erc", {}, {}),
        ("erc", {"base": "gppo", "q_low": 0.9, "q_high": 1.1, "eps_low": 0.02, "eps_high": 0.02}, {}),
        ("erc", {"q_low": 0.8, "q_high": 1.5, "eps_high": 0.02, "dual_clip": 1.03, "positive_nll": 0.0}, {}),
    ],
    refused=[
        ("erc", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
    ],
    formulas=[
        "methods.erc:entropy_ratio",
        "methods.erc:in_band",
        "methods.ce_gppo:preserved_surrogate",
        "methods.ce_gppo:PositiveNLL.tokens",
        "harness.stages.loss:clipped_surrogate",
    ],
)
