"""Where the shared tests try SFT."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={"sft": [{"aggregation": "seq-mean-token-mean"}]},
    readings=[("sft", {}, {}), ("sft", {"aggregation": "seq-mean-token-mean"}, {})],
    refused=[
        ("sft", {}, {"train.token_budget": 1000}, "set train.steps"),
        ("sft", {}, {"rollout.lag": 1}, "leave rollout.lag out"),
        ("sft", {}, {"rollout.engine": "vllm"}, "leave rollout.engine out"),
        ("sft", {}, {"train.random_reward": True}, "leave train.random_reward out"),
    ],
    formulas=["harness.stages.loss:PolicyLoss.of_advantage", "harness.stages.token_stats:LogProb.compute"],
)
