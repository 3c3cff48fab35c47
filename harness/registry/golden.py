"""Golden replay: stored inputs and outputs of the methods' official code against this project's formulas.

A method's folder, ``tests/methods/<file stem>/``, holds ``caseN.json`` (hyper-parameters, tolerances,
explanations) with ``caseN.npz`` (inputs, and outputs named ``out_*``), and ``adapter.py`` beside them, which
defines ``outputs(case) -> {name: array}``. It only renames and reshapes and reads every hyper-parameter from
the json. It may also define ``MASKS = {output: stored array}`` where an output has a mask of its own (other
row order), and ``NOT_COVERED = {output: reason}``. Cases that lie elsewhere without an adapter, in a folder
named as the method, are replayed by the checkout's.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from harness.util.environment import ROOT
from harness.util.errors import UserError

#: Where a checkout keeps its methods' tests; ``adapter.py`` lies in the folder of each.
METHODS = Path("tests/methods")
ADAPTER = "adapter.py"


@dataclass(frozen=True)
class GoldenCase:
    """One stored case; ``case["logp"]`` is an array, ``case.hp["eps_low"]`` a hyper-parameter."""

    slug: str
    name: str
    meta: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    folder: Path = Path()

    @property
    def hp(self) -> Mapping[str, Any]:
        return self.meta["hyperparameters"]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays


@dataclass(frozen=True)
class ReplayRow:
    """One line of the report; ``status`` is ``ok``, ``FAIL``, ``not covered`` or ``no adapter``."""

    slug: str
    case: str
    output: str
    status: str
    abs_error: float | None = None
    rel_error: float | None = None
    note: str = ""

    def line(self) -> str:
        errors = "" if self.abs_error is None else f"abs {self.abs_error:8.1e}  rel {self.rel_error:8.1e}"
        note = f"  ({self.note})" if self.note else ""
        return f"{self.slug:<18} {self.case:<8} {self.output:<48} {errors:<27}  {self.status}{note}"


def checkout_folder() -> Path:
    """The methods' tests of the checkout one stands in, or of the checkout this file belongs to.

    Raises:
        UserError: there are none, e.g. the package is installed without its tests.
    """
    for root in (Path.cwd(), ROOT):
        if (root / METHODS).is_dir():
            return root / METHODS
    raise UserError(
        f"no golden adapter: neither an {ADAPTER} beside the cases, nor {METHODS} here or beside the package "
        "(installed without its tests?); run from a checkout"
    )


def cases(folder: Path) -> Iterator[GoldenCase]:
    """All cases of a folder of methods, or of one method's folder.

    Raises:
        UserError: there is no such folder, no case in it, or a json without its npz.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}")
    slugs = [folder] if any(folder.glob("case*.json")) else sorted(p for p in folder.iterdir() if p.is_dir())
    found = False
    for slug in slugs:
        for file in sorted(slug.glob("case*.json"), key=lambda p: (len(p.stem), p.stem)):
            if not file.with_suffix(".npz").exists():
                raise UserError(f"{file} has no {file.stem}.npz beside it")
            with np.load(file.with_suffix(".npz"), allow_pickle=False) as stored:
                arrays = {k: stored[k] for k in stored.files}
            found = True
            meta = json.loads(file.read_text(encoding="utf-8"))
            yield GoldenCase(slug.resolve().name, file.stem, meta, arrays, slug)
    if not found:
        raise UserError(
            f"{folder} holds no case*.json, and no folder in it does; name a folder of golden cases"
        )


def load_adapter(folder: Path) -> ModuleType | None:
    """The adapter in a method's folder, or None.

    While it is imported, the folder and the root of its checkout are on the import path: adapters share
    helpers.
    """
    file = folder.resolve() / ADAPTER
    if not file.is_file():
        return None
    spec: Any = importlib.util.spec_from_file_location(f"golden_adapter_{folder.resolve().name}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    root = next((p for p in file.parents if (p / METHODS).is_dir()), None)
    added = [str(file.parent), *([str(root)] if root else [])]
    sys.path[:0] = added
    try:
        spec.loader.exec_module(module)
    finally:
        for path in added:
            sys.path.remove(path)
    return module


def _adapter_of(case: GoldenCase, adapters: Path | None) -> ModuleType | None:
    """The adapter of a case: of ``adapters`` where given, else beside it, else the checkout's."""
    if adapters is None and (case.folder / ADAPTER).is_file():
        return load_adapter(case.folder)
    return load_adapter((adapters or checkout_folder()) / case.slug.replace("-", "_"))


def _where(stored: np.ndarray, mask_BT: np.ndarray | None) -> np.ndarray:
    """Where ``stored`` is compared: an array with [B,T] in front or at the end where the mask is 1."""
    if mask_BT is None or stored.ndim < 2:
        return np.ones(stored.shape, dtype=bool)
    mask = mask_BT.astype(bool)
    if stored.shape[:2] == mask.shape:
        return np.broadcast_to(mask.reshape(mask.shape + (1,) * (stored.ndim - 2)), stored.shape)
    if stored.shape[-2:] == mask.shape:
        return np.broadcast_to(mask, stored.shape)
    return np.ones(stored.shape, dtype=bool)


def compare(
    name: str, ours: Any, stored: np.ndarray, mask_BT: np.ndarray | None, rtol: float, atol: float
) -> tuple[float, float, str]:
    """Largest absolute and relative error, and why it fails ("" if it does not).

    The rule: |ours - stored| <= atol + rtol |stored| where the mask is 1; gradients are 0 elsewhere.
    """
    got = np.asarray(ours)
    if got.shape != stored.shape:
        return float("inf"), float("inf"), f"shape {got.shape}, stored {stored.shape}"
    where = _where(stored, mask_BT)
    a, b = got[where].astype(np.float64), stored[where].astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(a - b))
    error = np.where(np.isnan(error), np.inf, error)
    relative = np.where(np.abs(b) > atol, error / np.maximum(np.abs(b), atol or 1e-300), 0.0)
    problem = "" if bool((same | (error <= atol + rtol * np.abs(b))).all()) else "differs"
    if name.startswith("out_grad") and not bool((np.abs(got[~where]) <= atol).all()):
        problem = "gradient outside the mask"
    return float(error.max(initial=0.0)), float(relative.max(initial=0.0)), problem


def check_case(case: GoldenCase, adapter: ModuleType | None) -> list[ReplayRow]:
    """One row per stored output of ``case``."""
    if adapter is None:
        return [ReplayRow(case.slug, case.name, "-", "no adapter")]
    wanted = [name for name in case.arrays if name.startswith("out_")]
    try:
        ours = adapter.outputs(case)
    except Exception as error:  # one broken adapter must not hide the other methods
        return [
            ReplayRow(case.slug, case.name, n, "FAIL", note=f"{type(error).__name__}: {error}")
            for n in wanted
        ]
    reasons, masks = getattr(adapter, "NOT_COVERED", {}), getattr(adapter, "MASKS", {})
    rows = []
    for name in wanted:
        if name not in ours:
            status = "not covered" if name in reasons else "FAIL"
            note = reasons.get(name, "the adapter does not return it")
            rows.append(ReplayRow(case.slug, case.name, name, status, note=note))
            continue
        mask = case.arrays.get(masks.get(name, "mask"))
        rtol, atol = float(case.meta["rtol"]), float(case.meta["atol"])
        largest, relative, problem = compare(name, ours[name], case[name], mask, rtol, atol)
        rows.append(
            ReplayRow(case.slug, case.name, name, "FAIL" if problem else "ok", largest, relative, problem)
        )
    return rows


def replay(folder: Path, adapters: Path | None = None) -> list[ReplayRow]:
    """Check every case of ``folder``.

    Args:
        adapters: a folder ``<method>/adapter.py`` to take instead of those beside the cases.
    """
    if adapters is not None and not adapters.is_dir():
        raise UserError(f"no adapters' folder {adapters}")
    loaded: dict[str, ModuleType | None] = {}
    rows: list[ReplayRow] = []
    for case in cases(folder):
        if case.slug not in loaded:
            loaded[case.slug] = _adapter_of(case, adapters)
        rows += check_case(case, loaded[case.slug])
    return rows


def main(folder: Path, adapters: Path | None = None) -> int:
    """Print the report; 1 if anything fails, else 0."""
    rows = replay(folder, adapters)
    for row in rows:
        print(row.line())
    count = {s: sum(r.status == s for r in rows) for s in ("ok", "FAIL", "not covered", "no adapter")}
    print(
        f"{count['ok']} ok, {count['FAIL']} failed, {count['not covered']} not covered, "
        f"{count['no adapter']} cases without adapter"
    )
    return 1 if count["FAIL"] else 0
