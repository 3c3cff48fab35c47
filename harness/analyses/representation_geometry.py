"""RankMe and alpha-ReQ of a model's last layer, over a run's checkpoints and its start (arXiv 2509.23024).

The formulas are :mod:`harness.statistics.spectrum`. All checkpoints are given the same texts; the spread of a
change is that over random halves of them, the same halves for every checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.analyses.base import Analysis, Finding
from harness.analyses.subject import Subject, find_subject, problems_of, quietly
from harness.config.fields import hp
from harness.registry import benchmarks
from harness.registry.analyses import analysis
from harness.statistics.spectrum import power_law, rankme, variance_shares
from harness.util.errors import UserError
from harness.util.progress import phase

if TYPE_CHECKING:
    from harness.statistics.estimators import FloatArray

#: Ranks that the paper fits, and how many directions that takes: the R² ends ten ranks before the last.
PUBLISHED, ENOUGH = (12, 100), 110


def fit_ranks(fit: str, directions: int) -> tuple[int, int]:
    """First and last rank of the power law: ``FIRST:LAST``, or for ``auto`` the published ones.

    Fewer than 110 directions scale them: first and last are then the same shares of all.

    Raises:
        UserError: ranks that there are not, or too few directions for any fit.
    """
    if fit == "auto":
        scale = min(1.0, directions / ENOUGH)
        first, last = max(2, round(PUBLISHED[0] * scale)), round(PUBLISHED[1] * scale)
        if last - first < 3:
            raise UserError(
                f"{directions} directions are too few for a power law; take more texts (half of them less "
                "one count), or a wider model"
            )
        return first, last
    words = fit.split(":")
    if len(words) != 2 or not all(word.isdigit() for word in words):
        raise UserError(f"fit={fit} is no range of ranks; write fit=12:100, or fit=auto")
    first, last = map(int, words)
    if not 1 <= first < last <= directions:
        raise UserError(
            f"fit={fit}: ranks go from 1 to {directions} here, the number of features or that of half the "
            "texts less one; lower the last rank, or take more texts"
        )
    return first, last


@analysis("representation-geometry")
@dataclass(frozen=True)
class RepresentationGeometry(Analysis):
    """Expansion (RankMe up, alpha down) or compression against the start of the run."""

    problems: str = hp(
        "", "BENCHMARK:SPLIT,… of the texts; a run's own are its benchmark's, all but training"
    )
    texts: int = hp(1024, "texts at most, taken evenly from all of them", ge=4)
    steps: str = hp("all", "checkpoints: all, or numbers and last between commas; 0 is always there")
    fit: str = hp("auto", "ranks of the power law, FIRST:LAST; auto is 12:100, scaled below 110 directions")
    max_eigenvals: int = hp(2048, "eigenvalues that are kept at most", ge=16)
    halves: int = hp(16, "random halves of the texts, for the spread of changes", ge=2)
    seed: int = hp(0, "of the halves", ge=0)
    batch_rows: int = hp(64, "texts read at once", ge=1)
    dtype: str = hp("", "of the model; empty is a run's own, float32 for a model")
    device: str = hp("auto", "auto, cpu or cuda", choices=("auto", "cpu", "cuda"))

    def of(self, word: str) -> Finding:
        subject = find_subject(word)
        texts, source = self._texts(subject)
        points = subject.points(self.steps if self.steps == "all" else f"0,{self.steps}")
        rng = np.random.default_rng(self.seed)
        halves = [np.sort(rng.permutation(len(texts))[: len(texts) // 2]) for _ in range(self.halves)]
        spectra = self._spectra(subject, points, texts, halves)
        width = spectra[0][1].shape[1]
        directions = min(len(texts) // 2 - 1, width, self.max_eigenvals)
        ranks = fit_ranks(self.fit, directions)
        measured = [self._numbers(share, ranks) for share, _, _ in spectra]
        of_halves = [[self._numbers(share, ranks) for share in own] for *_, own in spectra]
        beside, rows, steps = subject.beside(), [], []
        for point, numbers, own in zip(points, measured, of_halves, strict=True):
            changes = {
                key: (numbers[key] - measured[0][key], _spread(own, of_halves[0], key))
                for key in ("rankme", "alpha")
            }
            at = beside.get(point.step, {})
            first = point.step == points[0].step
            shown = [None] * 4 if first else [*changes["rankme"], *changes["alpha"]]
            rows.append((
                point.step, numbers["rankme"], *shown[:2], numbers["alpha"], *shown[2:], numbers["r2"],
                numbers["r2_100"], at.get("entropy"), at.get("pass@1"), at.get("pass@8"),
            ))  # fmt: skip
            steps.append({
                "step": point.step, **numbers, "beside": at,
                "change": None if first else {k: {"value": v, "spread": s} for k, (v, s) in changes.items()},
            })  # fmt: skip
        for entry, (share, _, _) in zip(steps, spectra, strict=True):
            entry["variance_shares"] = share.tolist()
        notes = [
            f"{len(texts)} texts of {source}, {width} features; alpha over ranks {ranks[0]} to {ranks[1]}"
            + ("" if ranks == PUBLISHED else f" (published: {PUBLISHED[0]} to {PUBLISHED[1]})")
            + f"; ± is the standard deviation of the change over {self.halves} random halves of the texts.",
            "Compare equal numbers of texts only: RankMe exceeds neither them less one nor the features.",
        ]
        if math.isnan(measured[0]["r2"]) or measured[0]["r2"] < 0.8:
            notes.append("R² is low: no power law, so alpha is only a ratio of slopes.")
        data: dict[str, Any] = {
            "settings": asdict(self), "texts": len(texts), "of": source, "features": width,
            "fit": list(ranks), "points": steps,
        }  # fmt: skip
        columns = ("step", "RankMe", "change", "±", "alpha", "change", "±", "R²", "R² to 100", "H (nats)")
        return Finding(subject.label, subject.folder, (*columns, "pass@1", "pass@8"), rows, notes, data)

    def _texts(self, subject: Subject) -> tuple[list[str], str]:
        """The texts, and where they are from."""
        places = [place.strip() for place in self.problems.split(",") if place.strip()]
        if not places:
            name = subject.setting("data", "benchmark")
            if name is None:
                raise UserError(
                    f"{subject.label} is a model, with no problems of its own; write problems=BENCHMARK:SPLIT"
                )
            own = subject.setting("data", "train_split")
            places = [f"{name}:{split}" for split in benchmarks.load(str(name)).splits() if split != own]
        found = [problem.prompt for place in places for problem in problems_of(place)]
        share = min(1.0, self.texts / len(found))
        kept = [found[int(i / share)] for i in range(min(self.texts, len(found)))]
        if len(kept) < 4:
            raise UserError(f"{', '.join(places)} has {len(kept)} texts, too few for a spectrum; take more")
        return kept, ", ".join(places)

    def _spectra(
        self, subject: Subject, points: Sequence[Any], texts: Sequence[str], halves: Sequence[Any]
    ) -> list[tuple[FloatArray, FloatArray, list[FloatArray]]]:
        """Of each checkpoint: variance shares, features, and the shares of every half."""
        from harness.analyses.features import last_features
        from harness.model.policy import load_policy
        from harness.rollout.engines.base import choose_device
        from harness.run.checkpoints import load_weights

        with phase("load model", announce=True):
            quietly()
            policy = load_policy(
                subject.source, revision=subject.revision, device=choose_device(self.device),
                dtype=self.dtype or str(subject.setting("model", "dtype", "float32")),
            )  # fmt: skip
        found = []
        for point in points:
            if point.checkpoint is not None:
                load_weights(point.checkpoint, policy)
            with phase(f"features of step {point.step}", len(texts), "texts"):
                features = last_features(policy, texts, self.batch_rows)
            try:
                shares = [
                    variance_shares(rows, self.max_eigenvals)
                    for rows in (features, *(features[h] for h in halves))
                ]
            except ValueError as error:
                raise UserError(f"step {point.step} of {subject.label}: {error}") from error
            found.append((shares[0], features, shares[1:]))
        return found

    def _numbers(self, share_R: FloatArray, ranks: tuple[int, int]) -> dict[str, float]:
        try:
            law = power_law(share_R, *ranks)
        except ValueError as error:
            raise UserError(f"{error}; write another fit=FIRST:LAST") from error
        return {"rankme": rankme(share_R), "alpha": law.alpha, "r2": law.r2, "r2_100": law.r2_100}


def _spread(own: Sequence[dict[str, float]], start: Sequence[dict[str, float]], key: str) -> float:
    """Standard deviation of the change over the halves."""
    changes = [now[key] - then[key] for now, then in zip(own, start, strict=True)]
    return float(np.std(changes, ddof=1))
