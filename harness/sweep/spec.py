"""The sweep file: which methods, seeds and settings, how they are tuned, and where they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness import catalog
from harness.config import slug
from harness.errors import UserError, unknown
from harness.sweep.text import (
    check_keys,
    flatten,
    list_of,
    mapping_of,
    override,
    read_yaml,
    scalar,
    whole_number,
)

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Tuning:
    """The equal tuning budget: every learning rate x every knob setting, one seed, on validation.

    Attributes:
        lrs: learning rates that every method tries.
        knobs: per method the settings of its main knob, equally many for all.
        seed: the trials' seed; must not be a reported one.
        metric: validation scores whose mean decides; ties go to the smaller learning rate, then to the
            earlier knob setting.
        settings: further settings of the trials only.
    """

    lrs: tuple[float, ...]
    knobs: Mapping[str, tuple[Settings, ...]]
    seed: int
    metric: tuple[str, ...] = ("pass@1", "pass@8")
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        name: names the results folder; the file's stem unless given.
        title, subtitle: headings of the leaderboard.
        methods: registered names or method files.
        seeds: every method runs with each.
        models, benchmarks: further axes; empty means the default of the configuration.
        settings: overrides of every run; per_method: of one method's runs.
        controls: name -> overrides of an extra row (``method`` chooses the method, default the baseline).
        base_temperatures: sampling temperatures at which the untrained model is evaluated; may be empty.
        tuning: what ``sweep tune`` tries; tuned_from: the tuned file of another sweep to take choices from.
        launcher: where runs go; local, slurm: resources per launcher.
        runs_dir, results_dir: where run folders and result records live.
    """

    path: Path
    name: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    title: str = ""
    subtitle: str = ""
    models: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    settings: Settings = field(default_factory=dict)
    per_method: Mapping[str, Settings] = field(default_factory=dict)
    controls: Mapping[str, Settings] = field(default_factory=dict)
    base_temperatures: tuple[float, ...] = (1.0,)
    tuning: Tuning | None = None
    tuned_from: str = ""
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


#: Keys that the command line sets as ``key=value`` besides the settings of the runs.
OPTIONS = ("launcher", "workers", "runs_dir", "results_dir", "name", "methods", "seeds")
_FILE_KEYS = [f.name for f in fields(Sweep) if f.name not in ("path", "extra")]
_TUNING_KEYS = [f.name for f in fields(Tuning)]


def load_sweep(path: Path, options: Sequence[str] = ()) -> Sweep:
    """Read and check a sweep file.

    Args:
        options: ``key=value`` from the command line: :data:`OPTIONS`, or overrides of every run.

    Raises:
        UserError: anything that is wrong, with the key and the nearest valid one.
    """
    raw = read_yaml(path)
    check_keys(raw, _FILE_KEYS, str(path))
    extra = []
    for option in options:
        key, sign, value = option.partition("=")
        if not sign:
            raise UserError(f"'{option}' is not key=value, e.g. workers=2 or train.steps=50")
        if key == "workers":
            raw["local"] = {**(raw.get("local") or {}), "workers": scalar(value)}
        elif key in OPTIONS:
            raw[key] = scalar(value)
        elif "." not in key and key not in ("device",):
            raise unknown(
                "option", key, [*OPTIONS, "device"], "(or a setting of the runs such as train.lr=…)"
            )
        else:
            extra.append(option)
    return _check(_build(path, raw, tuple(extra)), any(o.startswith("methods=") for o in options))


def _build(path: Path, raw: Mapping[str, Any], extra: tuple[str, ...]) -> Sweep:
    where = str(path)
    values: dict[str, Any] = {"path": path, "extra": extra, "name": path.stem}
    values |= {k: v for k, v in raw.items() if v is not None}
    values["name"] = str(values["name"])
    for key in ("methods", "seeds"):
        if not values.get(key):
            raise UserError(f"{where}: '{key}' is missing; list at least one")
    values["methods"] = tuple(
        method_reference(str(m), path.parent) for m in list_of(values, "methods", where)
    )
    values["seeds"] = tuple(whole_number(s, f"{where}: seeds") for s in list_of(values, "seeds", where))
    for key in ("models", "benchmarks"):
        values[key] = tuple(str(v) for v in list_of(values, key, where))
    temperatures = list_of({"t": values.get("base_temperatures", [1.0])}, "t", where)
    values["base_temperatures"] = tuple(float(t) for t in temperatures)
    values["settings"] = flatten(mapping_of(values, "settings", where))
    for key in ("per_method", "controls"):
        table = mapping_of(values, key, where)
        values[key] = {str(name): flatten(mapping_of(table, name, where)) for name in table}
    values["per_method"] = {
        method_reference(name, path.parent): own for name, own in values["per_method"].items()
    }
    for own in values["controls"].values():
        if own.get("method"):
            own["method"] = method_reference(str(own["method"]), path.parent)
    for key in ("local", "slurm"):
        values[key] = dict(mapping_of(values, key, where))
    if values.get("tuning"):
        values["tuning"] = _tuning(mapping_of(values, "tuning", where), path)
    return Sweep(**values)


def _tuning(raw: Mapping[str, Any], path: Path) -> Tuning:
    where = f"{path}: tuning"
    check_keys(raw, _TUNING_KEYS, where)
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
    return Tuning(
        lrs=tuple(float(lr) for lr in list_of(raw, "lrs", where)),
        knobs=knobs,
        seed=whole_number(raw["seed"], f"{where}: seed"),
        metric=(metric,) if isinstance(metric, str) else tuple(metric),
        settings=flatten(mapping_of(raw, "settings", where)),
    )


def _knob(raw: Settings, where: str) -> tuple[Settings, ...]:
    """``{w_min: [0.5, 0.7]}`` as two settings; several keys move together. A bare name is the method's."""
    columns = {k if "." in k else f"method.{k}": v for k, v in raw.items()}
    sizes = {len(v) if isinstance(v, list) else 0 for v in columns.values()}
    if len(sizes) != 1 or 0 in sizes:
        raise UserError(f"{where}: give a list of values per hyper-parameter, all of one length")
    return tuple({k: v[i] for k, v in columns.items()} for i in range(sizes.pop()))


def _check(sweep: Sweep, narrowed: bool) -> Sweep:
    where = str(sweep.path)
    if slug(sweep.name) != sweep.name:
        raise UserError(
            f"{where}: '{sweep.name}' cannot name a folder; use letters, digits, '-', '_' and '.'"
        )
    for key, values in (("methods", sweep.methods), ("seeds", sweep.seeds), ("models", sweep.models)):
        doubled = [str(v) for v in values if list(values).count(v) > 1]
        if doubled:
            raise UserError(f"{where}: {key} lists '{doubled[0]}' twice")
    # A narrower methods=… on the command line must not make the file's own tables wrong.
    if not narrowed:
        knobs = sweep.tuning.knobs if sweep.tuning else {}
        rows = {*sweep.methods, *(str(c.get("method", "")) for c in sweep.controls.values())}
        for key, table in (("per_method", sweep.per_method), ("tuning: knobs", knobs)):
            for name in set(table) - rows:
                raise UserError(f"{where}: {key} names '{name}', which is not in methods")
    clash = set(sweep.controls) & {"base", *sweep.methods}
    if clash:
        raise UserError(f"{where}: control '{clash.pop()}' has the name of another row; choose another one")
    if sweep.tuning and sweep.tuning.seed in sweep.seeds:
        raise UserError(
            f"{where}: seeds contain the tuning seed {sweep.tuning.seed}; reported seeds must be fresh"
        )
    return sweep


def overrides(sweep: Sweep, name: str, *layers: Settings) -> list[str]:
    """Override strings of a run of method ``name`` (empty: the default one); later layers win."""
    merged: dict[str, Any] = {"runs_dir": sweep.runs_dir, **sweep.settings, **sweep.per_method.get(name, {})}
    for layer in layers:
        merged |= layer
    merged.pop("method", None)
    head = [f"method={name}"] if name else []
    return [*head, *(override(k, v) for k, v in merged.items()), *sweep.extra]


def method_reference(name: str, folder: Path = Path()) -> str:
    """A registered name, or an absolute ``file.py:name`` for a file here or in ``folder``."""
    if ".py" in name:
        file, _, inner = name.partition(".py:")
        path = Path(f"{file}.py" if inner else name).expanduser()
        beside = folder / path
        path = path if path.is_file() else beside
        if not path.is_file():
            raise UserError(f"no method file {name}")
        entry = catalog.methods().find(f"{path.resolve()}:{inner}" if inner else str(path.resolve()))
        return f"{entry.file}:{entry.name}"
    catalog.methods().find(name)
    return name
