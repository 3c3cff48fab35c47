"""Two sections of a sweep file, read strictly: how methods are tuned, and which paper a recipe reproduces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.config.composition import is_composed, parse
from harness.config.values import flatten
from harness.registry import methods
from harness.sweep.axes import Overrides
from harness.sweep.text import check_keys, list_of, mapping_of, positive_number, whole_number
from harness.util.errors import UserError

#: By how much a grid of learning rates grows on a side, see :attr:`Tuning.extend`.
GROWTH = 2


@dataclass(frozen=True)
class Tuning:
    """The equal tuning budget: every learning rate x every knob setting, one seed, on validation.

    Attributes:
        lrs: learning rates that every method tries.
        extend: how many times a method's grid may grow on each side, by a factor of two, while its best
            trial lies on that edge; 0: never.
        knobs: per method the settings of its main knob, equally many for all.
        seed: the trials' seed; must not be a reported one.
        metric: validation scores whose mean decides; ties go to the smaller learning rate, then to the
            earlier knob setting.
        settings: further settings of the trials only.
        temperatures: sampling temperatures that are tried, on the validation split, for rows that ask for
            their best one.
        at: ``model`` and/or ``training_set``: methods are tuned only there, and the choice holds for the
            others too; ``{training_set: a}`` is a choice for each model. Empty: each setting for itself.
        lr_from: a method of ``knobs``: those without knobs of their own run at its rate, and stay untuned.
    """

    lrs: tuple[float, ...]
    knobs: Mapping[str, tuple[Overrides, ...]]
    seed: int
    metric: tuple[str, ...] = ("pass@1", "pass@8")
    settings: Overrides = field(default_factory=dict)
    at: Mapping[str, str] = field(default_factory=dict)
    temperatures: tuple[float, ...] = ()
    lr_from: str = ""
    extend: int = 0

    def tunes(self, methods: Sequence[str]) -> list[str]:
        """Those of ``methods`` that are tuned: all, or those with knobs where the others take a rate."""
        return [name for name in methods if name in self.knobs] if self.lr_from else list(methods)


@dataclass(frozen=True)
class Reproduces:
    """What a paper recipe is a recipe of.

    Attributes:
        paper: title and arXiv id.
        result: the table or figure, and which of its rows.
        reported: the paper's numbers, in words.
        differs: what is not as in the paper, a line each.
    """

    paper: str
    result: str
    reported: str
    differs: tuple[str, ...] = ()


def read_tuning(raw: Mapping[str, Any], path: Path) -> Tuning:
    where = f"{path}: tuning"
    check_keys(raw, [f.name for f in fields(Tuning)], where)
    for key in ("lrs", "knobs", "seed"):
        if raw.get(key) is None:
            raise UserError(f"{where}: '{key}' is missing")
    knobs = {
        method_reference(str(name), path.parent): _knob(
            flatten(mapping_of(raw["knobs"], name, where)), f"{where}: {name}"
        )
        for name in mapping_of(raw, "knobs", where)
    }
    metric = raw.get("metric", Tuning.metric)
    lr_from = method_reference(str(raw["lr_from"]), path.parent) if raw.get("lr_from") else ""
    if lr_from and lr_from not in knobs:
        raise UserError(f"{where}: lr_from names {lr_from}, which has no knobs; give it a line under knobs")
    return Tuning(
        lrs=tuple(float(lr) for lr in list_of(raw, "lrs", where)),
        knobs=knobs,
        seed=whole_number(raw["seed"], f"{where}: seed"),
        metric=(metric,) if isinstance(metric, str) else tuple(metric),
        settings=flatten(mapping_of(raw, "settings", where)),
        at={str(k): str(v) for k, v in mapping_of(raw, "at", where).items()},
        temperatures=tuple(
            positive_number(t, f"{where}: temperatures") or 1.0 for t in list_of(raw, "temperatures", where)
        ),
        lr_from=lr_from,
        extend=whole_number(raw.get("extend", 0), f"{where}: extend"),
    )


def _knob(raw: Overrides, where: str) -> tuple[Overrides, ...]:
    """``{w_min: [0.5, 0.7]}`` as two settings; several keys move together. A bare name is the method's."""
    columns = {k if "." in k else f"method.{k}": v for k, v in raw.items()}
    sizes = {len(v) if isinstance(v, list) else 0 for v in columns.values()}
    if len(sizes) != 1 or 0 in sizes:
        raise UserError(f"{where}: give a list of values per hyper-parameter, all of one length")
    return tuple({k: v[i] for k, v in columns.items()} for i in range(sizes.pop()))


def read_reproduces(raw: Mapping[str, Any], where: str) -> Reproduces:
    where = f"{where}: reproduces"
    check_keys(raw, [f.name for f in fields(Reproduces)], where)
    for key in ("paper", "result", "reported"):
        if not raw.get(key):
            raise UserError(f"{where}: '{key}' is missing")
    told = {key: " ".join(str(raw[key]).split()) for key in ("paper", "result", "reported")}
    return Reproduces(**told, differs=tuple(str(line) for line in list_of(raw, "differs", where)))


def method_reference(name: str, folder: Path = Path()) -> str:
    """A registered name, or an absolute ``file.py:name`` for a file here or in ``folder``.

    Of a composed method all names are replaced so, and the parts stand in the order of the step.
    """
    if is_composed(name):
        return parse(name).renamed(lambda method: method_reference(method, folder)).name
    if ".py" in name:
        file, _, inner = name.partition(".py:")
        path = Path(f"{file}.py" if inner else name).expanduser()
        beside = folder / path
        path = path if path.is_file() else beside
        if not path.is_file():
            raise UserError(f"no method file {name}")
        entry = methods.find(f"{path.resolve()}:{inner}" if inner else str(path.resolve()))
        return f"{entry.file}:{entry.name}"
    methods.find(name)
    return name
