"""A sweep, as its file and the command line say it: which methods, seeds and settings, and where they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.sweep.axes import AxisEntry, Overrides, Setting, grid
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
        regime: ``name@version`` of the benchmark's frozen settings (:mod:`harness.sweep.regimes`).
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
        extra: settings of every run from the command line, and typed: as they stood there.
    """

    path: Path
    name: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    title: str = ""
    subtitle: str = ""
    models: tuple[AxisEntry, ...] = ()
    training_sets: tuple[AxisEntry, ...] = ()
    regime: str = ""
    settings: Overrides = field(default_factory=dict)
    per_method: Mapping[str, Overrides] = field(default_factory=dict)
    controls: Mapping[str, Overrides] = field(default_factory=dict)
    base_temperatures: tuple[float | str, ...] = (1.0,)
    tuning: Tuning | None = None
    tuned_from: str = ""
    allow_stale_tuning: bool = False
    gpu_hours: float | None = None
    reproduces: Reproduces | None = None
    launcher: str = "local"
    local: Overrides = field(default_factory=dict)
    slurm: Overrides = field(default_factory=dict)
    runs_dir: str = "runs"
    results_dir: str = "results"
    extra: Overrides = field(default_factory=dict)
    typed: tuple[str, ...] = ()

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
    def grid(self) -> tuple[Setting, ...]:
        """Every model with every training set, in the file's order."""
        return tuple(grid(self.models, self.training_sets))

    @property
    def tuning_grid(self) -> tuple[Setting, ...]:
        """Where the methods are tuned."""
        at = self.tuning.at if self.tuning else {}
        names = (at.get("model"), at.get("training_set"))
        return tuple(
            setting for setting in self.grid
            if names[0] in (None, setting.model.name) and names[1] in (None, setting.training_set.name)
        )  # fmt: skip
