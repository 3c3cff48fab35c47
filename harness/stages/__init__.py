"""Stations of the training step: interfaces (``base``), the plain stage at each (``defaults``), the loss."""

from harness.stages.aggregate import AGGREGATIONS, aggregate, token_coefficients
from harness.stages.base import (
    Advantage,
    Component,
    Diagnostic,
    Draw,
    Generate,
    GroupFilter,
    Loss,
    Minibatch,
    Out,
    Program,
    Prompt,
    PromptSource,
    Regulariser,
    Reward,
    RolloutProgram,
    Score,
    Selection,
    Signals,
    Stage,
    Stages,
    Stats,
    StepContext,
    StepSize,
    UpdatePlan,
    Verify,
)
from harness.stages.defaults import (
    GroupAdvantage,
    KeepAll,
    PlainRollout,
    SelectAll,
    ShuffledMinibatches,
    ShuffledPrompts,
    VerdictReward,
    group_mean_std,
    group_normalised,
    grpo_stages,
)
from harness.stages.loss import (
    Bounds,
    FixedBounds,
    PolicyLoss,
    SequenceRatio,
    TokenCredit,
    TokenRatio,
    TokenSelection,
    TokenWeight,
    clipped_surrogate,
    clipped_tokens,
    log_ratio,
    sequence_log_ratio,
)
from harness.stages.ratios import (
    PrefixMinimumRatio,
    ResponseRatio,
    SegmentRatio,
    prefix_minimum,
    segment_means,
    segment_numbers,
)
from harness.stages.regularise import KL_ESTIMATORS, EntropyBonus, ReferenceKL, kl_estimate
from harness.stages.score import BoundedWeight, bounded, score_loss

__all__ = [
    "AGGREGATIONS", "Advantage", "BoundedWeight", "Bounds", "Component", "Diagnostic", "Draw",
    "EntropyBonus", "FixedBounds", "Generate", "GroupAdvantage", "GroupFilter", "KL_ESTIMATORS", "KeepAll",
    "Loss", "Minibatch", "Out", "PlainRollout", "PolicyLoss", "PrefixMinimumRatio", "Program", "Prompt",
    "PromptSource", "ReferenceKL", "Regulariser", "ResponseRatio", "Reward", "RolloutProgram", "Score",
    "SegmentRatio", "SelectAll", "Selection", "SequenceRatio", "ShuffledMinibatches", "ShuffledPrompts",
    "Signals", "Stage", "Stages", "Stats", "StepContext", "StepSize", "TokenCredit", "TokenRatio",
    "TokenSelection", "TokenWeight", "UpdatePlan", "VerdictReward", "Verify", "aggregate", "bounded",
    "clipped_surrogate",
    "clipped_tokens", "group_mean_std", "group_normalised", "grpo_stages", "kl_estimate", "log_ratio",
    "prefix_minimum", "score_loss", "segment_means", "segment_numbers", "sequence_log_ratio",
    "token_coefficients",
]  # fmt: skip
