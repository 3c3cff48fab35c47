"""Where the shared tests try PSFT."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={"psft": [{"eps_high": 0.1, "aggregation": "seq-mean-token-mean"}]},
    readings=[
        ("psft", {}, {}),
        ("psft", {"eps_high": 0.05}, {}),
        ("psft", {"aggregation": "seq-mean-token-mean"}, {}),
    ],
    refused=[
        ("psft", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("psft", {}, {"train.token_budget": 1000}, "set train.steps"),
    ],
    formulas=[
        "harness.stages.loss:clipped_surrogate",
        "harness.stages.loss:TokenRatio.ratio",
        "harness.stages.demonstrations:UnitAdvantage.__call__",
    ],
    inert={
        ("clip_low",): "a lower bound never acts with advantage 1",
        ("clip_ratio_c",): "a cap for negative advantages never acts with advantage 1",
    },
)
