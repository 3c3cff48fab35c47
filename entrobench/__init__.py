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
    "advantage_of": "harness.stages.downsample",
    "after_hashes": "harness.problem_sets.rows",
    "aggregate": "harness.stages.aggregate",
    "AGGREGATIONS": "harness.stages.aggregate",
    "answer_entropy": "harness.stages.answers",
    "ANSWER_FORMS": "harness.stages.answers",
    "answer_of": "harness.stages.rewrite",
    "answered": "harness.stages.branching",
    "answers_of": "harness.stages.answers",
    "as_replays": "harness.stages.replay",
    "at_last_token": "harness.stages.credit",
    "Batch": "harness.stages.batch",
    "BehaviourRatio": "harness.stages.ratios",
    "behind_question": "harness.stages.rewrite",
    "Benchmark": "harness.problems.problem",
    "binary_kl": "harness.stages.trust_region",
    "BlendedLoss": "harness.stages.blend",
    "bounded": "harness.stages.loss",
    "BoundedWeight": "harness.stages.score",
    "Bounds": "harness.stages.loss",
    "Branching": "harness.stages.branching",
    "Bucket": "harness.problem_sets.generated",
    "check_answers": "harness.stages.tasks",
    "check_chatml": "harness.stages.rewrite",
    "check_embedder": "harness.stages.embeddings",
    "check_proposals": "harness.stages.tasks",
    "check_whole": "harness.stages.groups",
    "clipped_surrogate": "harness.stages.loss",
    "clipped_tokens": "harness.stages.loss",
    "ClippedMethod": "harness.stages.clipped",
    "cluster_shares": "harness.stages.answers",
    "clustered": "harness.stages.answers",
    "Component": "harness.stages.base",
    "concat": "harness.stages.batch",
    "cosine": "harness.stages.embeddings",
    "counted_share": "harness.stages.loss",
    "cross_entropy": "harness.stages.demonstrations",
    "demonstrated": "harness.stages.demonstrations",
    "Diagnostic": "harness.stages.base",
    "diagnostic": "harness.registry.methods",
    "Dialect": "harness.stages.tasks",
    "DIALECTS": "harness.stages.tasks",
    "DIFFICULTIES": "harness.stages.difficulty",
    "difficulty": "harness.stages.difficulty",
    "DifficultyKL": "harness.stages.difficulty",
    "DifficultyWeights": "harness.stages.difficulty",
    "Distribution": "harness.stages.distribution",
    "Draw": "harness.stages.requests",
    "DrawnProblem": "harness.problem_sets.generated",
    "edge_advantages": "harness.stages.branching",
    "EDGES": "harness.stages.branching",
    "elected": "harness.stages.answers",
    "embedder": "harness.stages.embeddings",
    "ENTROPY": "harness.stages.token_stats",
    "EntropyBonus": "harness.stages.regularise",
    "equal_parts": "harness.stages.segments",
    "find_mark": "harness.stages.segments",
    "FineTuning": "harness.stages.method",
    "finite_exp": "harness.stages.loss",
    "first_of_group": "harness.stages.downsample",
    "FirstAdvantage": "harness.stages.downsample",
    "FirstRollouts": "harness.stages.downsample",
    "FixedBounds": "harness.stages.loss",
    "following_mean": "harness.stages.top_tokens",
    "forced_answers": "harness.stages.forced",
    "forest": "harness.stages.branching",
    "Generate": "harness.stages.requests",
    "GeneratedSet": "harness.problem_sets.generated",
    "Grader": "harness.grading.grader",
    "group_mean_std": "harness.stages.defaults",
    "group_means": "harness.stages.groups",
    "group_normalised": "harness.stages.defaults",
    "GroupAdvantage": "harness.stages.defaults",
    "GroupFilter": "harness.stages.base",
    "groups_within": "harness.stages.filters",
    "grpo_stages": "harness.stages.defaults",
    "highest_positions": "harness.stages.branching",
    "hp": "harness.config.fields",
    "Hub": "harness.problem_sets.rows",
    "is_text": "harness.stages.rewrite",
    "joined": "harness.problem_sets.rows",
    "KeepAll": "harness.stages.defaults",
    "kl_estimate": "harness.stages.regularise",
    "KL_ESTIMATORS": "harness.stages.regularise",
    "KL_METRIC": "harness.stages.credit",
    "KLReward": "harness.stages.credit",
    "KLRule": "harness.stages.difficulty",
    "largest": "harness.stages.loss",
    "leave_one_out": "harness.stages.credit",
    "less_kl": "harness.stages.credit",
    "Level": "harness.problem_sets.generated",
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
    "Mix": "harness.problem_sets.generated",
    "Mixture": "harness.stages.requests",
    "need_no_negative": "harness.stages.refusals",
    "need_verdicts": "harness.stages.refusals",
    "node_values": "harness.stages.branching",
    "NucleusEntropy": "harness.stages.token_stats",
    "Out": "harness.stages.base",
    "Part": "harness.problem_sets.rows",
    "part_starts": "harness.stages.segments",
    "pass_at_k": "harness.statistics.estimators",
    "per_group": "harness.stages.groups",
    "PlainRollout": "harness.stages.defaults",
    "PolicyLoss": "harness.stages.loss",
    "poor_responses": "harness.stages.filters",
    "prefix_minimum": "harness.stages.ratios",
    "PrefixMinimumRatio": "harness.stages.ratios",
    "probability_change": "harness.stages.trust_region",
    "Problem": "harness.problems.problem",
    "ProblemFamily": "harness.problem_sets.generated",
    "Program": "harness.stages.requests",
    "Prompt": "harness.stages.requests",
    "PROMPT_LOGP": "harness.stages.token_stats",
    "PromptSource": "harness.stages.base",
    "ProposedStep": "harness.stages.proposal",
    "question_of": "harness.stages.rewrite",
    "ratio_band": "harness.stages.trust_region",
    "reference_kl": "harness.stages.credit",
    "ReferenceKL": "harness.stages.regularise",
    "refuse_large_k": "harness.stages.refusals",
    "refuse_lone_rollouts": "harness.stages.refusals",
    "refuse_rewards_outside": "harness.stages.refusals",
    "refuse_single_update": "harness.stages.method",
    "refuse_split_groups": "harness.stages.refusals",
    "refuse_token_plan": "harness.stages.branching",
    "register": "harness.registry.methods",
    "register_benchmark": "harness.registry.benchmarks",
    "Regulariser": "harness.stages.base",
    "repeats": "harness.stages.filters",
    "replaced_groups": "harness.stages.rewrite",
    "ReplayBuffer": "harness.stages.replay",
    "ReplayPlan": "harness.stages.replay",
    "ResponseRatio": "harness.stages.ratios",
    "returns_to_go": "harness.stages.credit",
    "Reward": "harness.stages.base",
    "REWARD_KL_ESTIMATORS": "harness.stages.credit",
    "RolloutProgram": "harness.stages.base",
    "row_quantile": "harness.stages.top_tokens",
    "rows_by_group": "harness.stages.groups",
    "RunConfig": "harness.config.schema",
    "Score": "harness.stages.requests",
    "score_loss": "harness.stages.score",
    "scores_of": "harness.stages.branching",
    "second_model_path": "harness.rollout.second_model",
    "segment_means": "harness.stages.ratios",
    "segment_numbers": "harness.stages.ratios",
    "SegmentRatio": "harness.stages.ratios",
    "segments_from": "harness.stages.segments",
    "SelectAll": "harness.stages.defaults",
    "Selection": "harness.stages.base",
    "sequence_log_ratio": "harness.stages.loss",
    "SequenceRatio": "harness.stages.loss",
    "share_of": "harness.stages.loss",
    "ShuffledMinibatches": "harness.stages.defaults",
    "ShuffledPrompts": "harness.stages.defaults",
    "Signals": "harness.stages.base",
    "solution_of": "harness.stages.rewrite",
    "Stage": "harness.stages.base",
    "Stages": "harness.stages.base",
    "Stats": "harness.stages.base",
    "step_numbers": "harness.stages.segments",
    "step_pattern": "harness.stages.segments",
    "StepContext": "harness.stages.base",
    "StepSize": "harness.stages.base",
    "subset": "harness.stages.replay",
    "SurplusRollout": "harness.stages.surplus",
    "TagDifficulty": "harness.stages.difficulty",
    "Task": "harness.stages.tasks",
    "TASK_KINDS": "harness.stages.tasks",
    "TaskBuffer": "harness.stages.tasks",
    "THINK_END": "harness.stages.segments",
    "tied": "harness.stages.bundles",
    "token_coefficients": "harness.stages.aggregate",
    "TokenCredit": "harness.stages.loss",
    "TokenRatio": "harness.stages.loss",
    "TokenSelection": "harness.stages.loss",
    "TokenStat": "harness.stages.token_stats",
    "TokenWeight": "harness.stages.loss",
    "top_token_says": "harness.stages.top_tokens",
    "TopEntropy": "harness.stages.top_tokens",
    "TopToken": "harness.stages.top_tokens",
    "TreeProgram": "harness.stages.branching",
    "turns": "harness.stages.rewrite",
    "uncertain": "harness.stages.uncertain",
    "UncertainKL": "harness.stages.uncertain",
    "UncertainLoss": "harness.stages.uncertain",
    "UncertainWhitening": "harness.stages.uncertain",
    "UNREADABLE": "harness.stages.filters",
    "UpdatePlan": "harness.stages.base",
    "UserError": "harness.util.errors",
    "varied_groups": "harness.stages.filters",
    "Verdict": "harness.problems.problem",
    "VerdictReward": "harness.stages.defaults",
    "Verify": "harness.stages.requests",
    "whitened": "harness.stages.credit",
    "whole_number": "harness.problem_sets.rows",
    "WholeGroups": "harness.stages.groups",
    "widest_groups": "harness.stages.filters",
    "with_prompt": "harness.stages.rewrite",
    "with_replays": "harness.stages.replay",
    "without_rows": "harness.stages.surplus",
    "WRONG_FORMAT": "harness.problem_sets.generated",
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
    from harness.problem_sets.generated import WRONG_FORMAT as WRONG_FORMAT
    from harness.problem_sets.generated import Bucket as Bucket
    from harness.problem_sets.generated import DrawnProblem as DrawnProblem
    from harness.problem_sets.generated import GeneratedSet as GeneratedSet
    from harness.problem_sets.generated import Level as Level
    from harness.problem_sets.generated import Mix as Mix
    from harness.problem_sets.generated import ProblemFamily as ProblemFamily
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
    from harness.rollout.second_model import second_model_path as second_model_path
    from harness.stages.aggregate import AGGREGATIONS as AGGREGATIONS
    from harness.stages.aggregate import aggregate as aggregate
    from harness.stages.aggregate import token_coefficients as token_coefficients
    from harness.stages.answers import ANSWER_FORMS as ANSWER_FORMS
    from harness.stages.answers import answer_entropy as answer_entropy
    from harness.stages.answers import answers_of as answers_of
    from harness.stages.answers import cluster_shares as cluster_shares
    from harness.stages.answers import clustered as clustered
    from harness.stages.answers import elected as elected
    from harness.stages.base import Advantage as Advantage
    from harness.stages.base import Component as Component
    from harness.stages.base import Diagnostic as Diagnostic
    from harness.stages.base import GroupFilter as GroupFilter
    from harness.stages.base import Loss as Loss
    from harness.stages.base import Minibatch as Minibatch
    from harness.stages.base import Out as Out
    from harness.stages.base import PromptSource as PromptSource
    from harness.stages.base import Regulariser as Regulariser
    from harness.stages.base import Reward as Reward
    from harness.stages.base import RolloutProgram as RolloutProgram
    from harness.stages.base import Selection as Selection
    from harness.stages.base import Signals as Signals
    from harness.stages.base import Stage as Stage
    from harness.stages.base import Stages as Stages
    from harness.stages.base import Stats as Stats
    from harness.stages.base import StepContext as StepContext
    from harness.stages.base import StepSize as StepSize
    from harness.stages.base import UpdatePlan as UpdatePlan
    from harness.stages.batch import Batch as Batch
    from harness.stages.batch import concat as concat
    from harness.stages.blend import BlendedLoss as BlendedLoss
    from harness.stages.branching import EDGES as EDGES
    from harness.stages.branching import Branching as Branching
    from harness.stages.branching import TreeProgram as TreeProgram
    from harness.stages.branching import answered as answered
    from harness.stages.branching import edge_advantages as edge_advantages
    from harness.stages.branching import forest as forest
    from harness.stages.branching import highest_positions as highest_positions
    from harness.stages.branching import node_values as node_values
    from harness.stages.branching import refuse_token_plan as refuse_token_plan
    from harness.stages.branching import scores_of as scores_of
    from harness.stages.bundles import tied as tied
    from harness.stages.clipped import ClippedMethod as ClippedMethod
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
    from harness.stages.demonstrations import cross_entropy as cross_entropy
    from harness.stages.demonstrations import demonstrated as demonstrated
    from harness.stages.difficulty import DIFFICULTIES as DIFFICULTIES
    from harness.stages.difficulty import DifficultyKL as DifficultyKL
    from harness.stages.difficulty import DifficultyWeights as DifficultyWeights
    from harness.stages.difficulty import KLRule as KLRule
    from harness.stages.difficulty import TagDifficulty as TagDifficulty
    from harness.stages.difficulty import difficulty as difficulty
    from harness.stages.distribution import Distribution as Distribution
    from harness.stages.downsample import FirstAdvantage as FirstAdvantage
    from harness.stages.downsample import FirstRollouts as FirstRollouts
    from harness.stages.downsample import advantage_of as advantage_of
    from harness.stages.downsample import first_of_group as first_of_group
    from harness.stages.embeddings import check_embedder as check_embedder
    from harness.stages.embeddings import cosine as cosine
    from harness.stages.embeddings import embedder as embedder
    from harness.stages.filters import UNREADABLE as UNREADABLE
    from harness.stages.filters import groups_within as groups_within
    from harness.stages.filters import poor_responses as poor_responses
    from harness.stages.filters import repeats as repeats
    from harness.stages.filters import varied_groups as varied_groups
    from harness.stages.filters import widest_groups as widest_groups
    from harness.stages.forced import forced_answers as forced_answers
    from harness.stages.groups import WholeGroups as WholeGroups
    from harness.stages.groups import check_whole as check_whole
    from harness.stages.groups import group_means as group_means
    from harness.stages.groups import per_group as per_group
    from harness.stages.groups import rows_by_group as rows_by_group
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
    from harness.stages.method import FineTuning as FineTuning
    from harness.stages.method import Method as Method
    from harness.stages.method import refuse_single_update as refuse_single_update
    from harness.stages.proposal import ProposedStep as ProposedStep
    from harness.stages.ratios import BehaviourRatio as BehaviourRatio
    from harness.stages.ratios import PrefixMinimumRatio as PrefixMinimumRatio
    from harness.stages.ratios import ResponseRatio as ResponseRatio
    from harness.stages.ratios import SegmentRatio as SegmentRatio
    from harness.stages.ratios import prefix_minimum as prefix_minimum
    from harness.stages.ratios import segment_means as segment_means
    from harness.stages.ratios import segment_numbers as segment_numbers
    from harness.stages.refusals import need_no_negative as need_no_negative
    from harness.stages.refusals import need_verdicts as need_verdicts
    from harness.stages.refusals import refuse_large_k as refuse_large_k
    from harness.stages.refusals import refuse_lone_rollouts as refuse_lone_rollouts
    from harness.stages.refusals import refuse_rewards_outside as refuse_rewards_outside
    from harness.stages.refusals import refuse_split_groups as refuse_split_groups
    from harness.stages.regularise import KL_ESTIMATORS as KL_ESTIMATORS
    from harness.stages.regularise import EntropyBonus as EntropyBonus
    from harness.stages.regularise import ReferenceKL as ReferenceKL
    from harness.stages.regularise import kl_estimate as kl_estimate
    from harness.stages.replay import ReplayBuffer as ReplayBuffer
    from harness.stages.replay import ReplayPlan as ReplayPlan
    from harness.stages.replay import as_replays as as_replays
    from harness.stages.replay import subset as subset
    from harness.stages.replay import with_replays as with_replays
    from harness.stages.requests import Draw as Draw
    from harness.stages.requests import Generate as Generate
    from harness.stages.requests import Mixture as Mixture
    from harness.stages.requests import Program as Program
    from harness.stages.requests import Prompt as Prompt
    from harness.stages.requests import Score as Score
    from harness.stages.requests import Verify as Verify
    from harness.stages.rewrite import answer_of as answer_of
    from harness.stages.rewrite import behind_question as behind_question
    from harness.stages.rewrite import check_chatml as check_chatml
    from harness.stages.rewrite import is_text as is_text
    from harness.stages.rewrite import question_of as question_of
    from harness.stages.rewrite import replaced_groups as replaced_groups
    from harness.stages.rewrite import solution_of as solution_of
    from harness.stages.rewrite import turns as turns
    from harness.stages.rewrite import with_prompt as with_prompt
    from harness.stages.score import BoundedWeight as BoundedWeight
    from harness.stages.score import score_loss as score_loss
    from harness.stages.segments import THINK_END as THINK_END
    from harness.stages.segments import equal_parts as equal_parts
    from harness.stages.segments import find_mark as find_mark
    from harness.stages.segments import part_starts as part_starts
    from harness.stages.segments import segments_from as segments_from
    from harness.stages.segments import step_numbers as step_numbers
    from harness.stages.segments import step_pattern as step_pattern
    from harness.stages.surplus import SurplusRollout as SurplusRollout
    from harness.stages.surplus import without_rows as without_rows
    from harness.stages.tasks import DIALECTS as DIALECTS
    from harness.stages.tasks import TASK_KINDS as TASK_KINDS
    from harness.stages.tasks import Dialect as Dialect
    from harness.stages.tasks import Task as Task
    from harness.stages.tasks import TaskBuffer as TaskBuffer
    from harness.stages.tasks import check_answers as check_answers
    from harness.stages.tasks import check_proposals as check_proposals
    from harness.stages.token_stats import ENTROPY as ENTROPY
    from harness.stages.token_stats import LOGP as LOGP
    from harness.stages.token_stats import PROMPT_LOGP as PROMPT_LOGP
    from harness.stages.token_stats import LogProb as LogProb
    from harness.stages.token_stats import MinPForwardKL as MinPForwardKL
    from harness.stages.token_stats import MinPLogProb as MinPLogProb
    from harness.stages.token_stats import NucleusEntropy as NucleusEntropy
    from harness.stages.token_stats import TokenStat as TokenStat
    from harness.stages.top_tokens import TopEntropy as TopEntropy
    from harness.stages.top_tokens import TopToken as TopToken
    from harness.stages.top_tokens import following_mean as following_mean
    from harness.stages.top_tokens import row_quantile as row_quantile
    from harness.stages.top_tokens import top_token_says as top_token_says
    from harness.stages.trust_region import binary_kl as binary_kl
    from harness.stages.trust_region import probability_change as probability_change
    from harness.stages.trust_region import ratio_band as ratio_band
    from harness.stages.uncertain import UncertainKL as UncertainKL
    from harness.stages.uncertain import UncertainLoss as UncertainLoss
    from harness.stages.uncertain import UncertainWhitening as UncertainWhitening
    from harness.stages.uncertain import uncertain as uncertain
    from harness.statistics.estimators import pass_at_k as pass_at_k
    from harness.util.errors import UserError as UserError
