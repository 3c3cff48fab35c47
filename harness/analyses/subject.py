"""What a word of ``entrobench analyse`` means: a run with its checkpoints, or a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evaluation.model import is_run_folder
from harness.model.source import model_label, resolve_model
from harness.registry import benchmarks
from harness.run.best import frontier_points
from harness.run.checkpoints import step_of
from harness.run.trace import entropy_before
from harness.statistics import mean_pass_at_ks, printable_ks
from harness.util.errors import UserError
from harness.util.files import parse_json, read_json


@dataclass(frozen=True)
class Point:
    """Weights of one moment: ``checkpoint`` replaces those of the model; None are the model's own."""

    step: int
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Subject:
    """A run's folder and configuration, or a model without one.

    Attributes:
        source, revision: of the model that the run started from, or of the model itself.
        config: the run's settings by section, empty for a model.
    """

    label: str
    folder: Path | None
    source: str
    revision: str | None
    config: Mapping[str, Any]

    def points(self, steps: str) -> list[Point]:
        """The weights that ``steps`` names: ``all``, or numbers and ``last`` between commas; 0 is the start.

        Raises:
            UserError: no checkpoint of that step, or a model, which has no steps.
        """
        if self.folder is None:
            if not {word.strip() for word in steps.split(",")} <= {"all", "0", "last"}:
                raise UserError(f"steps={steps}: {self.label} is a model, which has no steps; leave it out")
            return [Point(0)]
        there = {0: Point(0)}
        for kind in ("best", "step"):
            for path in sorted(self.folder.glob(f"checkpoints/{kind}-*")):
                there.setdefault(step_of(path), Point(step_of(path), path))
        if steps == "all":
            return [there[step] for step in sorted(there)]
        chosen = set[int]()
        for word in steps.split(","):
            step = max(there) if word.strip() == "last" else int(word) if word.strip().isdigit() else -1
            if step not in there:
                known = ", ".join(map(str, sorted(there)))
                raise UserError(
                    f"{self.label} has no weights of step {word.strip()}; it has {known} (a run keeps all of "
                    "its checkpoints with train.keep_checkpoints=1000)"
                )
            chosen.add(step)
        return [there[step] for step in sorted(chosen)]

    def steps(self) -> list[dict[str, Any]]:
        """The lines of the run's ``metrics.jsonl``, without the one of step 0."""
        path = None if self.folder is None else self.folder / "metrics.jsonl"
        if path is None or not path.is_file():
            return []
        rows = [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [row for row in rows if row.get("step")]

    def beside(self) -> dict[int, dict[str, float | None]]:
        """Entropy of training and validation scores of each frontier point, by step."""
        if self.folder is None:
            return {}
        rows, found = self.steps(), dict[int, dict[str, float | None]]()
        for point in frontier_points(self.folder):
            n = int(point["n"])
            ks = printable_ks(n, (1, 8))
            scores = mean_pass_at_ks(n, point["correct"], ks)
            found[int(point["step"])] = {
                "entropy": entropy_before(int(point["step"]), rows),
                **{f"pass@{k}": float(score) for k, score in zip(ks, scores, strict=True)},
            }
        return found

    def setting(self, section: str, key: str, default: Any = None) -> Any:
        return self.config.get(section, {}).get(key, default)


def find_subject(word: str) -> Subject:
    """The run in the folder ``word``, or the model of that name.

    Raises:
        UserError: there is neither.
    """
    shipped, folder = benchmarks.shipped_models(), Path(word).expanduser()
    if folder.is_dir() and is_run_folder(folder):
        config = read_json(folder / "config.json")["config"]
        source = resolve_model(str(config["model"]["path"]), shipped)
        return Subject(folder.resolve().name, folder, source, config["model"]["revision"], config)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(f"{word} is neither the folder of a run nor of a model (no config.json in it)")
    path = resolve_model(word, shipped)
    return Subject(model_label(word, path, shipped), None, path, None, {})


def quietly() -> None:
    """Load models without bars of progress, which say nothing here."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def run_of(word: str) -> Subject:
    """The run in the folder ``word``.

    Raises:
        UserError: it is no run's folder.
    """
    folder = Path(word).expanduser()
    if not (folder.is_dir() and is_run_folder(folder)):
        raise UserError(f"{word} is no run's folder; give one, e.g. runs/grpo-s1-64aff491efd3")
    return find_subject(word)


def problems_of(place: str) -> Sequence[Any]:
    """All problems of ``BENCHMARK:SPLIT``.

    Raises:
        UserError: no such benchmark or split; names the remedy.
    """
    name, sign, split = place.partition(":")
    if not sign:
        raise UserError(f"'{place}' names no split; write BENCHMARK:SPLIT, e.g. micro:validation")
    benchmark = benchmarks.load(name)
    if split not in benchmark.splits():
        raise UserError(f"{name} has no split '{split}'; it has {', '.join(benchmark.splits())}")
    return benchmark.problems(split)
