"""The types of a result record, schema 2. There is no other list of its fields.

A field that is empty or None is not written. Lists of one evaluation set have an entry for each of its
problems, in the order of ``problem_ids``.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

SCHEMA = 2
Role = Literal["base", "control", "method"]
ROLES: tuple[Role, ...] = ("base", "control", "method")


class _Part(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    pass


class PassSamples(_Part, kw_only=True, frozen=True):
    """Samples that a profile draws for pass@k of k > 1 alone.

    Attributes:
        n: samples of each problem.
        correct: how many of them are right.
        problem_ids: which problems.
        temperature, top_p: how they were drawn.
    """

    n: int
    correct: list[int]
    problem_ids: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None


class Evaluation(_Part, kw_only=True, frozen=True):
    """What was measured on one set.

    Attributes:
        n: samples of each problem.
        correct: how many of them are right.
        problem_ids: which problems.
        distinct, distinct_correct: different answers of each problem, and different right ones.
        maj: k -> share of problems that a majority vote of k samples gets right, over all subsets.
        mean_length: tokens of a response.
        truncated, unparsed, timeout: shares of responses that the length limit ended, in which no answer
            could be read, and on which the grader ran out of time.
        samples_sha256: digest of (problem, sample, text) of all samples.
        profile, profile_hash: of sets that a profile evaluates; splits of the training problems have none.
        graded_by: grader with its version.
        agreement: share of samples on which a second grader agrees; second_accuracy: right by it.
        temperature, top_p, max_tokens: how the samples were drawn, tokens of a response at most.
        shortened: problems with fewer, as their prompts leave no room.
        prompts: digest of the prompts.
        samples: name of the file of the samples.
        passes: ``pass`` in JSON; samples of its own for pass@k, where the profile draws them.
    """

    n: int
    correct: list[int]
    problem_ids: list[str] | None = None
    distinct: list[int] | None = None
    distinct_correct: list[int] | None = None
    maj: dict[str, float | None] = {}
    mean_length: float | None = None
    truncated: float | None = None
    unparsed: float | None = None
    timeout: float | None = None
    samples_sha256: str | None = None
    profile: str | None = None
    profile_hash: str | None = None
    graded_by: str | None = None
    agreement: float | None = None
    second_accuracy: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    shortened: int | None = None
    prompts: str | None = None
    samples: str | None = None
    passes: PassSamples | None = msgspec.field(default=None, name="pass")

    @property
    def for_pass(self) -> Evaluation | PassSamples:
        """The samples that pass@k of k > 1 comes from."""
        return self.passes or self


class FrontierPoint(_Part, kw_only=True, frozen=True):
    """One checkpoint on the validation set.

    Attributes:
        step: training step; 0 is the untrained model.
        n: samples of each problem.
        correct: how many of them are right, by problem.
        distinct_correct: different right answers of each problem.
        entropy_nats: mean training entropy of the last steps before it, nats per token.
    """

    step: int
    n: int
    correct: list[int]
    distinct_correct: list[int] | None = None
    entropy_nats: float | None = None


class Probe(_Part, kw_only=True, frozen=True):
    """The entropy probe at one step.

    Attributes:
        generated_tokens: training tokens generated until then.
        entropy_nats: per token; entropy_seq_nats: per response.
    """

    step: int
    generated_tokens: int | float
    entropy_nats: float | None = None
    entropy_seq_nats: float | None = None


class Budget(_Part, kw_only=True, frozen=True):
    """What the run used up.

    Attributes:
        generated_tokens: of training rollouts; train_tokens: passed through the update.
        updates: optimiser steps; steps: rollout steps, and those on demonstrations.
        extra_forward_tokens: passed forward beyond what plain training needs.
        verifier_calls: answers judged in training.
        wall_s: seconds.
    """

    generated_tokens: int | float | None = None
    updates: int | float | None = None
    steps: int | float | None = None
    train_tokens: int | float | None = None
    extra_forward_tokens: int | float | None = None
    verifier_calls: int | float | None = None
    wall_s: float | None = None


class MethodCard(_Part, kw_only=True, frozen=True):
    """The header of the method's card, as far as tables show it; ``paper`` is a citation or an address."""

    title: str | None = None
    track: str | None = None
    fidelity: str | None = None
    reconstruction: bool = False
    paper: str | None = None
    arxiv: str | None = None


class Settings(_Part, kw_only=True, frozen=True):
    """Sections of the run's configuration by name (:mod:`harness.config.schema`), beside ``train``."""

    data: dict[str, Any] = {}
    rollout: dict[str, Any] = {}
    probe: dict[str, Any] = {}
    eval: dict[str, Any] = {}
    device: str | None = None


class RunResult(_Part, tag_field="schema", tag=SCHEMA, kw_only=True, frozen=True):
    """What a run writes as ``result.json``.

    Attributes:
        run_id: name of its folder, which ends in its identity (``config_hash``).
        method: registered name; role: ``base`` where nothing was trained.
        seed: of prompts, sampling and minibatches.
        model: path or name of the starting weights; benchmark: of the training problems, with its version.
        numerics_version: raised when the harness changes numbers.
        evals: set -> what was measured on it; empty for a tuning trial.
        hyperparameters: of the method; train: section ``train`` of the configuration; sft: section ``sft``
            with its method's hash and hyper-parameters, where steps on demonstrations came first.
        config_hash, method_hash, data_hash, model_hash: digests of what the numbers depend on.
        commit: of the checkout, ``+changes`` where files differ; hardware: CPU or GPUs.
        untested_on_gpu: ways that it took and that nobody had tried on a GPU.
        processes_used: numbers of processes that shared it; determinism: level of equality of a rerun.
        budget: what it used up; evaluated_step: the step whose weights were evaluated.
        left_out: split -> problems whose prompts do not fit the context; the run did without them.
        trained_by: run whose training it took over; empty where it trained itself.
        probe: by step; frontier: by step; frontier_problem_ids: the validation problems of its points, None
            where they are all; trace: metric -> mean over each of at most 25 windows of steps,
            with ``step`` and ``generated_tokens`` at the end of each.
        activity: share of tokens whose gradient differs from plain GRPO's, mean over steps.
        target_tracking_error: mean distance of the entropy to the method's target, nats; above_target: share
            of steps in which it lay above.
        validation: ``pass@k`` of the evaluated weights on the validation set.
    """

    run_id: str
    method: str
    seed: int
    model: str
    benchmark: str
    numerics_version: int
    evals: dict[str, Evaluation]
    role: Role = "method"
    hyperparameters: dict[str, Any] = {}
    train: dict[str, Any] = {}
    sft: dict[str, Any] = {}
    config_hash: str | None = None
    method_hash: str | None = None
    data_hash: str | None = None
    model_hash: str | None = None
    commit: str | None = None
    hardware: str | None = None
    untested_on_gpu: list[str] = []
    processes_used: list[int] = []
    determinism: str | None = None
    budget: Budget = Budget()
    evaluated_step: int | None = None
    left_out: dict[str, int] = {}
    trained_by: str = ""
    probe: list[Probe] = []
    frontier: list[FrontierPoint] = []
    frontier_problem_ids: list[str] | None = None
    trace: dict[str, list[int | float | None]] = {}
    activity: float | None = None
    target_tracking_error: float | None = None
    above_target: float | None = None
    validation: dict[str, float | None] = {}


class Record(RunResult, tag=SCHEMA, kw_only=True, frozen=True):
    """A line of ``records.jsonl``: a run's result with what only its sweep knows.

    Attributes:
        sweep: its name; method: the row's label; role: what the row is.
        regime: the frozen settings that the sweep names, with their version; None where it names none.
        tuned: whether settings were chosen by tuning; tuning_choice: which, by ``section.key``.
        changes: of a control, what it changes of the tuned run of its method.
        settings: other sections of the configuration.
        method_card: None for the untrained model and for files without a card.
        model_name, training_set: as the sweep names them, where it has several.
        lr_at_grid_edge: tuning chose an end of its grid of learning rates.
        tuning_stale: tuned with older code of the method.
    """

    role: Role
    tuned: bool
    sweep: str | None = None
    regime: str | None = None
    tuning_choice: dict[str, Any] | None = None
    changes: dict[str, Any] | None = None
    settings: Settings = Settings()
    method_card: MethodCard | None = None
    model_name: str | None = None
    training_set: str | None = None
    lr_at_grid_edge: bool | None = None
    tuning_stale: bool = False


def as_record(result: RunResult, **known: Any) -> Record:
    """The result with ``known`` in place of or beside its own fields."""
    return Record(**{"tuned": False, **msgspec.structs.asdict(result), **known})
