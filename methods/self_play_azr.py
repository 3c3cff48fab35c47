r"""Self-play with proposed tasks: Absolute Zero Reasoner and its analysis (arXiv 2510.27072).

One policy proposes tasks and solves them. A task is a program with an input and its output, of three kinds:
find the output, find an input, find the program. With acc the share of n solutions to a valid proposal that
are right:

    proposer  one_minus: 1 - acc, but 0 at acc = 0;  inverse: 1 - acc;  half: 1 - 2 |acc - 1/2|, 0 at the ends
              -1/2 for a program that does not run, -1 for a response without the form
    solver    1, or -1/2 for a wrong answer, -1 without the form

    A = (G - mean) / sqrt(var + 1e-8)   with G_t = R_t + gamma G_{t+1}, over the tokens of ONE role and kind

and the six batches train together, one rollout a prompt, clip 0.2, no KL. A frozen proposer
(``train_propose`` false) proposes, but its rows do not train.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from entrobench import (
    DIALECTS,
    TASK_KINDS,
    Advantage,
    Batch,
    Dialect,
    FixedBounds,
    Generate,
    Method,
    Out,
    PolicyLoss,
    Problem,
    Program,
    Prompt,
    Reward,
    RolloutProgram,
    RunConfig,
    Selection,
    Stages,
    StepContext,
    Task,
    TaskBuffer,
    UserError,
    Verify,
    at_last_token,
    check_answers,
    check_proposals,
    concat,
    grpo_stages,
    hp,
    register,
    returns_to_go,
    whitened,
)

if TYPE_CHECKING:
    from torch import Tensor

VARIANTS = ("one_minus", "inverse", "half")
#: Kinds of programs that ``tasks`` may name; the last has no interpreter here.
PYTHON = "python"
_SOLVES = len(TASK_KINDS)  # roles: 0, 1, 2 propose a kind, 3, 4, 5 solve it


def learnability(acc_B: Tensor, variant: str = "one_minus") -> Tensor:
    """The reward of a valid proposal, ``[B]``, from the share of its solutions that are right."""
    if variant == "inverse":
        return 1 - acc_B
    if variant == "half":
        return torch.where((acc_B > 0) & (acc_B < 1), 1 - 2 * (acc_B - 0.5).abs(), 0.0)
    return torch.where(acc_B > 0, 1 - acc_B, 0.0)


def proposer_reward(acc_B: Tensor, valid_B: Tensor, format_B: Tensor, variant: str = "one_minus") -> Tensor:
    """:func:`learnability`, -1/2 without ``valid_B``, -1 without ``format_B`` (bool each)."""
    return torch.where(format_B, torch.where(valid_B, learnability(acc_B, variant), -0.5), -1.0)


def solver_reward(acc_B: Tensor, format_B: Tensor) -> Tensor:
    """acc where it is over 0, else -1/2; -1 without ``format_B``."""
    return torch.where(format_B, torch.where(acc_B > 0, acc_B, -0.5), -1.0)


def role_advantages(reward_B: Tensor, role_B: Tensor, mask_BT: Tensor, gamma: float = 1.0) -> Tensor:
    """Returns to go, whitened over the tokens of each role and kind by themselves, ``[B,T]``."""
    returns_BT = returns_to_go(at_last_token(reward_B, mask_BT), mask_BT, gamma)
    out_BT = torch.zeros_like(returns_BT)
    for role in torch.unique(role_B):
        rows = role_B == role
        out_BT[rows] = whitened(returns_BT[rows], mask_BT[rows], "unbiased")
    return out_BT


def update_sparsity(before: Tensor, after: Tensor, dtype: torch.dtype) -> float:
    """S: share of weights that are exactly equal in both, as ``dtype``; it hangs on the type, so name it."""
    return float((before.to(dtype) == after.to(dtype)).double().mean())


class Tasks(TaskBuffer):
    """The buffer, and what is logged of the two roles."""

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        solves, entropy = role_of(batch) >= _SOLVES, batch.old["entropy"]
        metrics = {"azr/tasks": float(sum(map(len, self.tasks.values())))}
        for name, rows in (("propose", ~solves), ("solve", solves)):
            chosen_BT = batch.mask_BT & rows[:, None]
            if bool(chosen_BT.any()):
                metrics[f"azr/entropy_{name}"] = float(entropy[chosen_BT].mean())
        return metrics


def role_of(batch: Batch) -> Tensor:
    """Role and kind of each row, ``[B]``; a row without one solves."""
    return batch.tag("role_task", float(_SOLVES))


@dataclass(frozen=True)
class SelfPlay(RolloutProgram):
    """Proposals of every kind, solutions to estimate how hard they are, then solutions that train.

    ``prompts_per_step`` is the batch of one role and kind, ``group_size`` n, the solutions of an estimate.
    """

    tasks: Tasks
    dialect: Dialect
    references: int

    writes_tags = frozenset({"role_task", "accuracy", "format", "extra"})

    def run(self, ctx: StepContext) -> Program:
        proposing = list(self._proposing(ctx))
        proposed = yield Generate(proposing, 1)
        proposed = yield Verify(proposed, partial(check_proposals, self.dialect))
        valid = {
            row: Task.of(json.loads(verdict.canonical or ""))
            for row, verdict in enumerate(proposed.verdicts or ())
            if verdict.correct
        }
        accuracy = torch.zeros(len(proposed))
        if valid:
            trying = [self._solving(_kind(proposing[row]), task, row, 1) for row, task in valid.items()]
            tried = yield Generate(trying, ctx.group_size)
            tried = yield Verify(tried, partial(check_answers, self.dialect))
            accuracy[list(valid)] = tried.correct_B.view(len(valid), -1).mean(1)
        fresh: dict[str, list[Task]] = {kind: [] for kind in TASK_KINDS}
        for row, task in valid.items():
            if self.tasks.add(kind := _kind(proposing[row]), task):
                fresh[kind].append(task)
        solving = list(self._chosen(fresh, ctx))
        solved = yield Generate(solving, 1)
        solved = yield Verify(solved, partial(check_answers, self.dialect))
        return concat([_tagged(proposed, 0, proposing, accuracy), _tagged(solved, _SOLVES, solving)])

    def _proposing(self, ctx: StepContext) -> Iterator[Prompt]:
        for number, kind in enumerate(TASK_KINDS):
            for i in range(ctx.prompts_per_step):
                # inputs are asked for to any program that is there
                of = TASK_KINDS[:-1] if kind == TASK_KINDS[-1] else (kind,)
                shown = self._drawn(of, self.references, ctx, "references", kind, i)
                meta = {"kind": kind, "program": shown[0].program}
                name = f"propose/{kind}/{i}"
                yield Prompt(
                    Problem(name, self.dialect.propose(kind, shown), meta=meta),
                    number * ctx.prompts_per_step + i,
                )

    def _chosen(self, fresh: Mapping[str, list[Task]], ctx: StepContext) -> Iterator[Prompt]:
        """This step's tasks first, then others of the buffer."""
        group = len(TASK_KINDS) * ctx.prompts_per_step
        for kind in TASK_KINDS:
            for i in range(ctx.prompts_per_step):
                own = fresh[kind]
                task = own[i] if i < len(own) else self._drawn((kind,), 1, ctx, "solve", kind, i)[0]
                yield self._solving(kind, task, group, 2)
                group += 1

    def _drawn(self, kinds: Sequence[str], n: int, ctx: StepContext, *purpose: object) -> list[Task]:
        """``n`` different tasks of these kinds at most."""
        known = [task for kind in kinds for task in self.tasks.tasks[kind]]
        order = torch.randperm(len(known), generator=ctx.generator(*purpose))
        return [known[int(i)] for i in order[:n]]

    def _solving(self, kind: str, task: Task, group: int, stream: int) -> Prompt:
        problem = Problem(
            f"solve/{kind}/{group}", self.dialect.solve(kind, task), json.dumps(task.plain()), {"kind": kind}
        )
        return Prompt(problem, group, stream=stream)


def _kind(prompt: Prompt) -> str:
    return str(prompt.problem.meta["kind"])


def _tagged(batch: Batch, first: int, prompts: list[Prompt], accuracy_B: Tensor | None = None) -> Batch:
    roles = [float(first + TASK_KINDS.index(_kind(prompt))) for prompt in prompts]
    formed = [float(verdict.status != "unparsed") for verdict in batch.verdicts or ()]
    return batch.with_tags(
        role_task=torch.tensor(roles), format=torch.tensor(formed), extra=torch.ones(len(batch)),
        accuracy=batch.correct_B if accuracy_B is None else accuracy_B,
    )  # fmt: skip


@dataclass(frozen=True)
class RoleReward(Reward):
    """:func:`proposer_reward` and :func:`solver_reward`."""

    variant: str = "one_minus"

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        right_B, solves_B = batch.correct_B, role_of(batch) >= _SOLVES
        format_B = batch.tag("format", 1.0) > 0
        acc_B = batch.tags.get("accuracy", right_B)
        propose_B = proposer_reward(acc_B, right_B > 0, format_B, self.variant)
        reward_B = torch.where(solves_B, solver_reward(right_B, format_B), propose_B)
        metrics = {}
        for name, rows_B in (("propose", ~solves_B), ("solve", solves_B)):
            if bool(rows_B.any()):
                metrics[f"azr/{name}_right"] = float(right_B[rows_B].mean())
                metrics[f"azr/{name}_reward"] = float(reward_B[rows_B].mean())
        return Out(reward_B, metrics)


@dataclass(frozen=True)
class RoleAdvantage(Advantage):
    """A of :func:`role_advantages`."""

    gamma: float = 1.0

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(role_advantages(batch.rewards(), role_of(batch), batch.mask_BT, self.gamma))


@dataclass(frozen=True)
class SolverOnly(Selection):
    """Leaves the proposer's rows out, where it is frozen."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        return Out(batch.rows(role_of(batch) >= _SOLVES))


@register("self-play-azr")
@dataclass(frozen=True)
class SelfPlayAZR(Method):
    """REINFORCE++ on tasks that the policy proposes and solves itself."""

    tasks: str = hp(
        "characters", "what programs are written in: characters of the testbed, text, or python (refused)",
        choices=(*DIALECTS, PYTHON),
    )  # fmt: skip
    propose_reward: str = hp("one_minus", "reward of a valid proposal from its accuracy", choices=VARIANTS)
    train_propose: bool = hp(True, "whether the proposer trains, or is frozen")
    references: int = hp(6, "programs that a prompt for a proposal shows (one on the testbed)", ge=1)
    buffer: int = hp(16384, "tasks of a kind that are kept", ge=1)
    gamma: float = hp(1.0, "discount of later rewards", gt=0, le=1)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)

    def validate(self, run: RunConfig) -> None:
        if run.train.random_reward:
            raise UserError(
                "self-play-azr stores the tasks that are judged valid, which a coin cannot say; leave "
                "train.random_reward out"
            )
        if self.tasks == PYTHON:
            raise UserError(
                "method.tasks=python needs a sandbox outside this program, without network, and there is "
                "none; use method.tasks=text, a language of our own"
            )
        if self.tasks == "characters" and run.rollout.max_response_tokens > 28:
            raise UserError(
                "method.tasks=characters leaves 28 of the testbed's 64 tokens for a response, fewer than "
                f"rollout.max_response_tokens={run.rollout.max_response_tokens}; lower that, or use "
                "method.tasks=text"
            )

    def stages(self) -> Stages:
        dialect = DIALECTS[self.tasks]
        tasks = Tasks(dialect, self.buffer)
        made = grpo_stages().with_(
            rollout=SelfPlay(tasks, dialect, self.references),
            reward=RoleReward(self.propose_reward),
            advantage=RoleAdvantage(self.gamma),
            loss=PolicyLoss(bounds=FixedBounds(self.eps_low, self.eps_high), aggregation="token-mean"),
            components={"tasks": tasks},
        )
        return made if self.train_propose else made.with_(selection=SolverOnly())
