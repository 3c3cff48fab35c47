"""A sweep, as its file and the command line say it: which methods, seeds and settings, and where they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.sweep.axes import Entry, Place, Settings, places
from harness.sweep.sections import Reproduces, Tuning


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        name: names the results folder; the file's stem unless given.
        title, subtitle: headings of the leaderboard.
        methods: registered names or method files.
        seeds: every method runs with each.
        models, training_sets: further axes; empty means the default of the configuration.
        settings: overrides of every run; per_method: of one method's runs.
        controls: name -> what an extra row changes of a tuned method (``method`` chooses it, default the
            baseline); see :mod:`harness.sweep.controls` for words that stand for values.
        base_temperatures: sampling temperatures at which the untrained model is evaluated; may be empty;
            the word ``tuned`` is the one that tuning chose.
        tuning: what ``sweep tune`` tries; tuned_from: the tuned file of another sweep to take choices from.
        allow_stale_tuning: submit although tuning chose with other code of a method.
        gpu_hours: stated estimate of one run, used until runs have been measured.
        reproduces: for the recipe of a paper, what it reproduces.
        launcher: where runs go; local, slurm: resources per launcher.
        runs_dir, results_dir: where run folders and result records live.
    """

    path: Path
    name: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    title: str = ""
    subtitle: str = ""
    models: tuple[Entry, ...] = ()
    training_sets: tuple[Entry, ...] = ()
    settings: Settings = field(default_factory=dict)
    per_method: Mapping[str, Settings] = field(default_factory=dict)
    controls: Mapping[str, Settings] = field(default_factory=dict)
    base_temperatures: tuple[float | str, ...] = (1.0,)
    tuning: Tuning | None = None
    tuned_from: str = ""
    allow_stale_tuning: bool = False
    gpu_hours: float | None = None
    reproduces: Reproduces | None = None
    launcher: str = "local"
    local: Settings = field(default_factory=dict)
    slurm: Settings = field(default_factory=dict)
    runs_dir: str = "runs"
    results_dir: str = "results"
    extra: tuple[str, ...] = ()

    @property
    def tuned_path(self) -> Path:
        """Where the tuning's choice is kept: beside the sweep file."""
        if self.tuned_from:
            return self.path.parent / self.tuned_from
        return self.path.with_name(f"{self.path.stem}.tuned.yaml")

    @property
    def results(self) -> Path:
        return Path(self.results_dir) / self.name

    @property
    def places(self) -> tuple[Place, ...]:
        """Every model with every training set, in the file's order."""
        return tuple(places(self.models, self.training_sets))

    @property
    def tuning_places(self) -> tuple[Place, ...]:
        """Where the methods are tuned."""
        at = self.tuning.at if self.tuning else {}
        names = (at.get("model"), at.get("training_set"))
        return tuple(
            place for place in self.places
            if names[0] in (None, place.model.name) and names[1] in (None, place.training_set.name)
        )  # fmt: skip
