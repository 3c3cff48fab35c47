"""Whether problems of training are told from others by two greedy answers (arXiv 2510.09259).

A problem that RL has trained on has one path of reasoning left. The model answers it greedily, and again when
it is asked for another way; the more alike the entropies of the two run, the more suspicious. The formulas
are :mod:`harness.statistics.detection`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from harness.analyses.base import Analysis, Finding
from harness.analyses.second_answer import Answers, Asks, answer_twice, asking_of
from harness.analyses.subject import Subject, find_subject, problems_of, quietly
from harness.config.fields import hp
from harness.problems import templates
from harness.problems.problem import Problem, verify_all
from harness.registry import benchmarks
from harness.registry.analyses import analysis
from harness.rollout.engines.base import ENGINES, Engine, open_engine
from harness.statistics.detection import detection, likeness
from harness.util.errors import UserError
from harness.util.progress import phase


@dataclass(frozen=True)
class Asked:
    """A problem with its final prompt, how it is put again, whether it is a member, and whose it is."""

    problem: Problem
    ask: Asks
    member: bool
    benchmark: Any


@analysis("self-critique-mia")
@dataclass(frozen=True)
class SelfCritique(Analysis):
    """ROC AUC of the likeness of two answers, members of training against others."""

    members: str = hp(
        "", "BENCHMARK:SPLIT that was trained on; a run's own are the problems that it drew first"
    )
    others: str = hp("", "BENCHMARK:SPLIT as hard that was not; a run's own is its validation split")
    n: int = hp(100, "problems of each kind at most", ge=2)
    steps: str = hp("0,last", "checkpoints: all, or numbers and last between commas")
    top: int = hp(50, "K: likeliest tokens whose entropy is taken, not normalised", ge=1)
    max_tokens: int | None = hp(
        None, "limit of a first answer, twice that of a second; null is a run's own, 4096 for a model", ge=1
    )
    template: str = hp("", "template around the questions; empty is a run's own, and a prompt as it is")
    engine: str = hp("hf", "what draws", choices=tuple(ENGINES))
    batch_rows: int = hp(64, "answers drawn at once", ge=1)
    dtype: str = hp("", "of the model; empty is a run's own, float32 for a model")
    device: str = hp("auto", "auto, cpu or cuda", choices=("auto", "cpu", "cuda"))

    def of(self, word: str) -> Finding:
        subject = find_subject(word)
        points = subject.points(self.steps)
        template = self.template or str(subject.setting("data", "template", "") or "")
        places = self._places(subject)
        with phase("load model", announce=True):
            quietly()
            engine = open_engine(
                self.engine, subject.source, revision=subject.revision, device=self.device,
                dtype=self.dtype or str(subject.setting("model", "dtype", "float32")),
                batch_rows=self.batch_rows,
            )  # fmt: skip
        try:
            asked = self._asked(subject, places, template, engine)
            found = [self._at(subject, point, asked, template, engine) for point in points]
        finally:
            engine.close()
        beside, rows = subject.beside(), []
        for entry in found:
            at = beside.get(entry["step"], {})
            entry["beside"] = at
            rows.append((
                entry["step"], entry["auc"], *entry["interval"], entry["f1"], entry["youden"],
                entry["hits_at_5"], *entry["mean_score"], *entry["right"], at.get("entropy"),
            ))  # fmt: skip
        count = [sum(one.member is member for one in asked) for member in (True, False)]
        notes = [
            f"{count[0]} members ({places[0]}), {count[1]} others ({places[1]}); in brackets the 95 % "
            "interval of the AUC over problems. Higher scores are more suspicious; 0.5 tells nothing.",
            "Both kinds have to be as hard: compare the shares of right first answers.",
        ]
        if engine.determinism == "statistical":
            notes.append("On a GPU greedy answers depend on the batch in the last bits.")
        columns = ("step", "AUC", "[", "]", "best F1", "Youden J", "TPR at 5 % FPR")
        more = ("score, members", "others", "right, members", "others", "H (nats)")
        data = {"settings": asdict(self), "members": places[0], "others": places[1], "points": found}
        return Finding(subject.label, subject.folder, columns + more, rows, notes, data)

    def _places(self, subject: Subject) -> tuple[str, str]:
        """Where members and others are from, in words or as BENCHMARK:SPLIT."""
        name = subject.setting("data", "benchmark")
        if name is None and not (self.members and self.others):
            raise UserError(
                f"{subject.label} is a model, so nobody knows what it was trained on; write "
                "members=BENCHMARK:SPLIT and others=BENCHMARK:SPLIT"
            )
        split = subject.setting("data", "validation_split")
        return (
            self.members or f"{name}:{subject.setting('data', 'train_split')}",
            self.others or f"{name}:{split}",
        )

    def _asked(self, subject: Subject, places: tuple[str, str], template: str, engine: Engine) -> list[Asked]:
        """Members first, then the others, each with its prompt."""
        members = (
            problems_of(places[0]) if self.members else drawn_by(subject, problems_of(places[0]), self.n)
        )
        sets = (members, problems_of(places[1]))
        if twice := {p.id for p in sets[0]} & {p.id for p in sets[1]}:
            raise UserError(f"problem {min(twice)} is a member and an other; take splits that share none")
        found = []
        for place, problems in zip(places, sets, strict=True):
            if len(problems) < 2:
                raise UserError(f"{place} has {len(problems)} problems to ask, at least 2 are needed")
            benchmark = benchmarks.load(place.partition(":")[0])
            for problem in problems[: self.n]:
                shown = replace(problem, prompt=_prompt(problem, template, engine))
                found.append(Asked(shown, asking_of(benchmark), problems is members, benchmark))
        return found

    def _at(
        self, subject: Subject, point: Any, asked: Sequence[Asked], template: str, engine: Engine
    ) -> dict[str, Any]:
        """What the weights of one moment give."""
        if point.checkpoint is not None:
            from harness.run.checkpoints import state_in

            engine.load_weights(state_in(point.checkpoint)["weights"].items())
        limit = self.max_tokens or int(subject.setting("rollout", "max_response_tokens", 4096))
        if engine.max_positions is not None:
            limit = min(limit, engine.max_positions)
        stops = templates.find(template).stop_texts if template else ()
        answers = answer_twice(
            engine, [one.problem for one in asked], [one.ask for one in asked], max_tokens=limit,
            top=self.top, stop_texts=stops,
        )  # fmt: skip
        score = np.array([likeness(each.first.entropies, each.second.entropies) for each in answers])
        member = np.array([one.member for one in asked])
        right = _right(asked, answers)
        try:
            numbers = detection(score, member)
        except ValueError as error:
            raise UserError(f"step {point.step} of {subject.label}: {error}; take other problems") from error
        kinds = (member, ~member)
        return {
            "step": point.step, "auc": numbers.auc, "interval": [numbers.interval.low, numbers.interval.high],
            "f1": numbers.f1, "youden": numbers.youden, "hits_at_5": numbers.hits_at_5,
            "mean_score": [float(score[kind].mean()) for kind in kinds],
            "right": [float(right[kind].mean()) for kind in kinds],
            "generated_tokens": sum(
                len(one.token_ids) for each in answers for one in (each.first, each.second)
            ),
            "problems": [
                {
                    "id": one.problem.id, "member": one.member, "score": float(value), "right": bool(good),
                    "tokens": [len(each.first.token_ids), len(each.second.token_ids)],
                }
                for one, each, value, good in zip(asked, answers, score, right, strict=True)
            ],
        }  # fmt: skip


def drawn_by(subject: Subject, problems: Sequence[Problem], n: int) -> list[Problem]:
    """The first ``n`` different training problems that a run has drawn.

    Raises:
        UserError: its prompts do not come in the plain order, so that its checkpoint does not say which.
    """
    from harness.run.checkpoints import state_in
    from harness.run.compose import from_dict
    from harness.stages.defaults import ShuffledPrompts

    trained = [point for point in subject.points("all") if point.checkpoint is not None]
    run = from_dict(subject.config)
    source = run.method.stages().prompts
    state: Mapping[str, Any] = {}
    if trained:
        assert trained[-1].checkpoint is not None
        state = state_in(trained[-1].checkpoint).get("components", {}).get("prompts", {})
    if type(source) is not ShuffledPrompts or "drawn" not in state:
        raise UserError(
            f"{subject.label} does not say which problems it drew (no checkpoint, or prompts in an order of "
            "its method); write members=BENCHMARK:SPLIT"
        )
    source.bind(problems, run.seed)
    return source.draw(min(n, int(state["drawn"]), len(problems)))


def _prompt(problem: Problem, template: str, engine: Engine) -> str:
    if not template or "question" not in problem.meta:
        return problem.prompt
    tokenizer: Any = getattr(engine, "tokenizer", None) or engine.policy.tokenizer  # type: ignore[attr-defined]
    return templates.find(template).render(str(problem.meta["question"]), tokenizer)


def _right(asked: Sequence[Asked], answers: Sequence[Answers]) -> Any:
    """Whether each first answer is right, ``[N]``."""
    found = np.zeros(len(asked), dtype=bool)
    for benchmark in {id(one.benchmark): one.benchmark for one in asked}.values():
        rows = [i for i, one in enumerate(asked) if one.benchmark is benchmark]
        verdicts = verify_all(
            benchmark, [asked[i].problem for i in rows], [answers[i].first.text for i in rows]
        )
        found[rows] = [verdict.correct for verdict in verdicts]
    return found
