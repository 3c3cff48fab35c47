"""What authors of methods and benchmarks, and notebooks, use of entrobench: the only names they import.

Nothing is loaded until a name is used, so ``python -m entrobench --help`` stays quick. Everything here is
defined in ``harness/``, in the module that :data:`_EXPORTS` names; its docstring is the reference, and
docs/api.md lists all of it. Inside ``harness/`` the modules are free to change; these names are not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness import __version__ as __version__

#: Name -> the module that defines it. The block for type checkers below says the same; a test compares them.
_EXPORTS = {
    "AbsoluteBounds": "harness.stages.loss",
    "Advantage": "harness.stages.base",
    "after_hashes": "harness.problem_sets.rows",
    "aggregate": "harness.stages.aggregate",
    "AGGREGATIONS": "harness.stages.aggregate",
    "at_last_token": "harness.stages.credit",
    "Batch": "harness.stages.batch",
    "Benchmark": "harness.problems.problem",
    "bounded": "harness.stages.loss",
    "BoundedWeight": "harness.stages.score",
    "Bounds": "harness.stages.loss",
    "clipped_surrogate": "harness.stages.loss",
    "clipped_tokens": "harness.stages.loss",
    "Component": "harness.stages.base",
    "concat": "harness.stages.batch",
    "counted_share": "harness.stages.loss",
    "diagnostic": "harness.registry.methods",
    "Diagnostic": "harness.stages.base",
    "Draw": "harness.stages.base",
    "ENTROPY": "harness.stages.token_stats",
    "EntropyBonus": "harness.stages.regularise",
    "FixedBounds": "harness.stages.loss",
    "Generate": "harness.stages.base",
    "Grader": "harness.grading.grader",
    "finite_exp": "harness.stages.loss",
    "group_mean_std": "harness.stages.defaults",
    "group_normalised": "harness.stages.defaults",
    "GroupAdvantage": "harness.stages.defaults",
    "GroupFilter": "harness.stages.base",
    "grpo_stages": "harness.stages.defaults",
    "hp": "harness.config.fields",
    "Hub": "harness.problem_sets.rows",
    "joined": "harness.problem_sets.rows",
    "KeepAll": "harness.stages.defaults",
    "kl_estimate": "harness.stages.regularise",
    "KL_ESTIMATORS": "harness.stages.regularise",
    "KL_METRIC": "harness.stages.credit",
    "KLReward": "harness.stages.credit",
    "largest": "harness.stages.loss",
    "leave_one_out": "harness.stages.credit",
    "less_kl": "harness.stages.credit",
    "load_records": "harness.records.load",
    "log_ratio": "harness.stages.loss",
    "LOGP": "harness.stages.token_stats",
    "LogProb": "harness.stages.token_stats",
    "Loss": "harness.stages.base",
    "MathSet": "harness.problem_sets.math_set",
    "mean_kl": "harness.stages.credit",
    "Method": "harness.stages.method",
    "Minibatch": "harness.stages.base",
    "MinPForwardKL": "harness.stages.token_stats",
    "MinPLogProb": "harness.stages.token_stats",
    "NucleusEntropy": "harness.stages.token_stats",
    "Out": "harness.stages.base",
    "Part": "harness.problem_sets.rows",
    "pass_at_k": "harness.statistics.estimators",
    "PlainRollout": "harness.stages.defaults",
    "PolicyLoss": "harness.stages.loss",
    "prefix_minimum": "harness.stages.ratios",
    "PrefixMinimumRatio": "harness.stages.ratios",
    "Problem": "harness.problems.problem",
    "Program": "harness.stages.base",
    "Prompt": "harness.stages.base",
    "PROMPT_LOGP": "harness.stages.token_stats",
    "PromptSource": "harness.stages.base",
    "reference_kl": "harness.stages.credit",
    "ReferenceKL": "harness.stages.regularise",
    "refuse_single_update": "harness.stages.method",
    "register": "harness.registry.methods",
    "register_benchmark": "harness.registry.benchmarks",
    "Regulariser": "harness.stages.base",
    "ResponseRatio": "harness.stages.ratios",
    "returns_to_go": "harness.stages.credit",
    "Reward": "harness.stages.base",
    "REWARD_KL_ESTIMATORS": "harness.stages.credit",
    "RolloutProgram": "harness.stages.base",
    "RunConfig": "harness.config.schema",
    "Score": "harness.stages.base",
    "score_loss": "harness.stages.score",
    "segment_means": "harness.stages.ratios",
    "segment_numbers": "harness.stages.ratios",
    "SegmentRatio": "harness.stages.ratios",
    "SelectAll": "harness.stages.defaults",
    "Selection": "harness.stages.base",
    "sequence_log_ratio": "harness.stages.loss",
    "SequenceRatio": "harness.stages.loss",
    "share_of": "harness.stages.loss",
    "ShuffledMinibatches": "harness.stages.defaults",
    "ShuffledPrompts": "harness.stages.defaults",
    "Signals": "harness.stages.base",
    "Stage": "harness.stages.base",
    "Stages": "harness.stages.base",
    "Stats": "harness.stages.base",
    "StepContext": "harness.stages.base",
    "StepSize": "harness.stages.base",
    "token_coefficients": "harness.stages.aggregate",
    "TokenCredit": "harness.stages.loss",
    "TokenRatio": "harness.stages.loss",
    "TokenSelection": "harness.stages.loss",
    "TokenStat": "harness.stages.token_stats",
    "TokenWeight": "harness.stages.loss",
    "UpdatePlan": "harness.stages.base",
    "UserError": "harness.util.errors",
    "Verdict": "harness.problems.problem",
    "VerdictReward": "harness.stages.defaults",
    "Verify": "harness.stages.base",
    "whitened": "harness.stages.credit",
    "whole_number": "harness.problem_sets.rows",
}

__all__ = ["__version__", *_EXPORTS]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'entrobench' has no attribute '{name}'")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from harness.config.fields import hp as hp
    from harness.config.schema import RunConfig as RunConfig
    from harness.grading.grader import Grader as Grader
    from harness.problem_sets.math_set import MathSet as MathSet
    from harness.problem_sets.rows import Hub as Hub
    from harness.problem_sets.rows import Part as Part
    from harness.problem_sets.rows import after_hashes as after_hashes
    from harness.problem_sets.rows import joined as joined
    from harness.problem_sets.rows import whole_number as whole_number
    from harness.problems.problem import Benchmark as Benchmark
    from harness.problems.problem import Problem as Problem
    from harness.problems.problem import Verdict as Verdict
    from harness.records.load import load_records as load_records
    from harness.registry.benchmarks import register_benchmark as register_benchmark
    from harness.registry.methods import diagnostic as diagnostic
    from harness.registry.methods import register as register
    from harness.stages.aggregate import AGGREGATIONS as AGGREGATIONS
    from harness.stages.aggregate import aggregate as aggregate
    from harness.stages.aggregate import token_coefficients as token_coefficients
    from harness.stages.base import Advantage as Advantage
    from harness.stages.base import Component as Component
    from harness.stages.base import Diagnostic as Diagnostic
    from harness.stages.base import Draw as Draw
    from harness.stages.base import Generate as Generate
    from harness.stages.base import GroupFilter as GroupFilter
    from harness.stages.base import Loss as Loss
    from harness.stages.base import Minibatch as Minibatch
    from harness.stages.base import Out as Out
    from harness.stages.base import Program as Program
    from harness.stages.base import Prompt as Prompt
    from harness.stages.base import PromptSource as PromptSource
    from harness.stages.base import Regulariser as Regulariser
    from harness.stages.base import Reward as Reward
    from harness.stages.base import RolloutProgram as RolloutProgram
    from harness.stages.base import Score as Score
    from harness.stages.base import Selection as Selection
    from harness.stages.base import Signals as Signals
    from harness.stages.base import Stage as Stage
    from harness.stages.base import Stages as Stages
    from harness.stages.base import Stats as Stats
    from harness.stages.base import StepContext as StepContext
    from harness.stages.base import StepSize as StepSize
    from harness.stages.base import UpdatePlan as UpdatePlan
    from harness.stages.base import Verify as Verify
    from harness.stages.batch import Batch as Batch
    from harness.stages.batch import concat as concat
    from harness.stages.credit import KL_METRIC as KL_METRIC
    from harness.stages.credit import REWARD_KL_ESTIMATORS as REWARD_KL_ESTIMATORS
    from harness.stages.credit import KLReward as KLReward
    from harness.stages.credit import at_last_token as at_last_token
    from harness.stages.credit import leave_one_out as leave_one_out
    from harness.stages.credit import less_kl as less_kl
    from harness.stages.credit import mean_kl as mean_kl
    from harness.stages.credit import reference_kl as reference_kl
    from harness.stages.credit import returns_to_go as returns_to_go
    from harness.stages.credit import whitened as whitened
    from harness.stages.defaults import GroupAdvantage as GroupAdvantage
    from harness.stages.defaults import KeepAll as KeepAll
    from harness.stages.defaults import PlainRollout as PlainRollout
    from harness.stages.defaults import SelectAll as SelectAll
    from harness.stages.defaults import ShuffledMinibatches as ShuffledMinibatches
    from harness.stages.defaults import ShuffledPrompts as ShuffledPrompts
    from harness.stages.defaults import VerdictReward as VerdictReward
    from harness.stages.defaults import group_mean_std as group_mean_std
    from harness.stages.defaults import group_normalised as group_normalised
    from harness.stages.defaults import grpo_stages as grpo_stages
    from harness.stages.loss import AbsoluteBounds as AbsoluteBounds
    from harness.stages.loss import Bounds as Bounds
    from harness.stages.loss import FixedBounds as FixedBounds
    from harness.stages.loss import PolicyLoss as PolicyLoss
    from harness.stages.loss import SequenceRatio as SequenceRatio
    from harness.stages.loss import TokenCredit as TokenCredit
    from harness.stages.loss import TokenRatio as TokenRatio
    from harness.stages.loss import TokenSelection as TokenSelection
    from harness.stages.loss import TokenWeight as TokenWeight
    from harness.stages.loss import bounded as bounded
    from harness.stages.loss import clipped_surrogate as clipped_surrogate
    from harness.stages.loss import clipped_tokens as clipped_tokens
    from harness.stages.loss import counted_share as counted_share
    from harness.stages.loss import finite_exp as finite_exp
    from harness.stages.loss import largest as largest
    from harness.stages.loss import log_ratio as log_ratio
    from harness.stages.loss import sequence_log_ratio as sequence_log_ratio
    from harness.stages.loss import share_of as share_of
    from harness.stages.method import Method as Method
    from harness.stages.method import refuse_single_update as refuse_single_update
    from harness.stages.ratios import PrefixMinimumRatio as PrefixMinimumRatio
    from harness.stages.ratios import ResponseRatio as ResponseRatio
    from harness.stages.ratios import SegmentRatio as SegmentRatio
    from harness.stages.ratios import prefix_minimum as prefix_minimum
    from harness.stages.ratios import segment_means as segment_means
    from harness.stages.ratios import segment_numbers as segment_numbers
    from harness.stages.regularise import KL_ESTIMATORS as KL_ESTIMATORS
    from harness.stages.regularise import EntropyBonus as EntropyBonus
    from harness.stages.regularise import ReferenceKL as ReferenceKL
    from harness.stages.regularise import kl_estimate as kl_estimate
    from harness.stages.score import BoundedWeight as BoundedWeight
    from harness.stages.score import score_loss as score_loss
    from harness.stages.token_stats import ENTROPY as ENTROPY
    from harness.stages.token_stats import LOGP as LOGP
    from harness.stages.token_stats import PROMPT_LOGP as PROMPT_LOGP
    from harness.stages.token_stats import LogProb as LogProb
    from harness.stages.token_stats import MinPForwardKL as MinPForwardKL
    from harness.stages.token_stats import MinPLogProb as MinPLogProb
    from harness.stages.token_stats import NucleusEntropy as NucleusEntropy
    from harness.stages.token_stats import TokenStat as TokenStat
    from harness.statistics.estimators import pass_at_k as pass_at_k
    from harness.util.errors import UserError as UserError
