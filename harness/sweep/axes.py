"""A sweep's models and training sets, each with settings of its own; together they make its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from harness.config.schema import SECTIONS
from harness.config.values import flatten
from harness.sweep.text import mapping_of, positive_number
from harness.util.errors import UserError, unknown

Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class AxisEntry:
    """A model or a training set.

    Attributes:
        name: what tables and run keys call it.
        settings: of all runs with it, ``model.path`` or ``data.benchmark`` among them.
        per_method: of one method's runs with it.
        gpu_hours: stated estimate of one run with it; None leaves it to the sweep's.
    """

    name: str
    settings: Overrides = field(default_factory=dict)
    per_method: Mapping[str, Overrides] = field(default_factory=dict)
    gpu_hours: float | None = None


@dataclass(frozen=True)
class Setting:
    """One model and one training set: methods are compared within a setting, never across."""

    model: AxisEntry
    training_set: AxisEntry

    @property
    def name(self) -> str:
        return f"{self.model.name}/{self.training_set.name}"

    @property
    def gpu_hours(self) -> float | None:
        """The stated estimate of a run here; the model's stands above the training set's."""
        return self.training_set.gpu_hours if self.model.gpu_hours is None else self.model.gpu_hours

    @property
    def settings(self) -> dict[str, Any]:
        """What the setting asks of all its runs."""
        return {**self.model.settings, **self.training_set.settings}

    def per_method(self, method: str) -> dict[str, Any]:
        """What the setting asks of one method's runs."""
        return {**self.model.per_method.get(method, {}), **self.training_set.per_method.get(method, {})}


@dataclass(frozen=True)
class Axis:
    """``models:`` or ``training_sets:``: the section of bare keys, and the setting that a name is."""

    key: str
    section: str
    main: str

    def read(self, raw: Any, where: str, reference: Any) -> tuple[AxisEntry, ...]:
        """``[name, …]``, or ``{name: settings}`` where entries differ in more than their name.

        Args:
            reference: turns a method's name in ``per_method`` into the one that plans use.

        Raises:
            UserError: neither form, or a key that is none.
        """
        if raw is None:
            return ()
        if isinstance(raw, str) or not isinstance(raw, Mapping | list | tuple):
            raise UserError(
                f"{where}: '{self.key}' must be a list of names, or a mapping from names to settings"
            )
        table = raw if isinstance(raw, Mapping) else {str(name): None for name in raw}
        if len(table) < len(raw):
            doubled = next(name for name in raw if list(raw).count(name) > 1)
            raise UserError(f"{where}: {self.key} lists '{doubled}' twice")
        return tuple(self._entry(str(name), table, name, where, reference) for name in table)

    def _entry(self, name: str, table: Mapping[Any, Any], key: Any, where: str, reference: Any) -> AxisEntry:
        here = f"{where}: {self.key}: {name}"
        own = dict(mapping_of(table, key, f"{where}: {self.key}"))
        methods = mapping_of(own, "per_method", here)
        per_method = {
            reference(str(m)): flatten(mapping_of(methods, m, f"{here}: per_method")) for m in methods
        }
        own.pop("per_method", None)
        hours = own.pop("gpu_hours", None)
        settings = {self._full(k, here): v for k, v in flatten(own).items()}
        settings = {f"{self.section}.{self.main}": name, **settings}
        return AxisEntry(name, settings, per_method, positive_number(hours, f"{here}: gpu_hours"))

    def _full(self, key: str, where: str) -> str:
        """``revision`` of a model is ``model.revision``; a dotted key is what it says."""
        if "." in key:
            return key
        known = [f.name for f in fields(SECTIONS[self.section])]  # type: ignore[arg-type]
        if key not in known:
            raise unknown(f"key in {where}:", key, [*known, "per_method", "gpu_hours"])
        return f"{self.section}.{key}"


MODELS = Axis("models", "model", "path")
TRAINING_SETS = Axis("training_sets", "data", "benchmark")
AXES = (MODELS, TRAINING_SETS)
_DEFAULT = AxisEntry("default")


def grid(models: Sequence[AxisEntry], training_sets: Sequence[AxisEntry]) -> Iterator[Setting]:
    """Every model with every training set; the configuration's default where an axis is empty."""
    for model in models or (_DEFAULT,):
        for training_set in training_sets or (_DEFAULT,):
            yield Setting(model, training_set)


def narrowed(key: str, raw: Any, names: Any) -> Any:
    """The file's axis ``raw`` cut down to ``names`` from the command line; they are new where it has none.

    Raises:
        UserError: a name that the file's axis does not have.
    """
    wanted = [str(name) for name in (names if isinstance(names, list) else [names])]
    if not raw:
        return wanted
    for name in wanted:
        if name not in raw:
            raise unknown(key.removesuffix("s").replace("_", " "), name, map(str, raw))
    return {name: raw[name] for name in wanted} if isinstance(raw, Mapping) else wanted
