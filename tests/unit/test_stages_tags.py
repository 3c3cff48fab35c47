"""Stages declare the tags of the batch that they read and write: their source says the same."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest
import torch

from harness.registry import methods as registry
from harness.stages.base import Out, Selection, Stage, StepContext
from harness.stages.batch import Batch
from harness.stages.compose import GIVEN_TAGS
from harness.util.errors import UserError

#: Modules whose functions are read, too, where a stage calls them.
FOLLOWED = ("methods.", "harness.stages.")
#: Stages without which a search that finds nothing would pass.
KNOWN = {"DynamicSampling", "TemperedRollout", "MixTempered", "TagPassVariance", "ElasticBounds",
         "MarkConflicts", "ConflictWeight", "VarianceControl"}  # fmt: skip


def tags_in_source(cls: type) -> tuple[set[str], set[str]]:
    """Tags read (``batch.tags["x"]``) and written (``with_tags(x=...)``) by a class, and by the functions of
    methods and stages that it calls; ``tags.get`` can do without the tag."""
    reads: set[str] = set()
    writes: set[str] = set()
    waiting: list[Any] = [c for c in cls.__mro__ if c.__module__ not in ("builtins", "harness.stages.base")]
    seen: set[Any] = set()
    while waiting:
        item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(item)))):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute):
                if node.value.attr in ("tags", "token_tags") and isinstance(node.slice, ast.Constant):
                    reads.add(str(node.slice.value))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in ("with_tags", "with_token_tags"):
                    writes |= {word.arg for word in node.keywords if word.arg}
            elif isinstance(node, ast.Name):
                module = sys.modules[getattr(item, "__module__", cls.__module__)]
                called = getattr(module, node.id, None)
                writes |= getattr(called, "sets_tags", frozenset())  # a request, whose answer has them
                if isinstance(called, FunctionType) and called.__module__.startswith(
                    (cls.__module__, *FOLLOWED)
                ):
                    waiting.append(called)
    return reads - GIVEN_TAGS, writes - GIVEN_TAGS


def forgotten(cls: type[Stage]) -> list[str]:
    """What is wrong with the declarations of ``cls``, with the remedy; nothing where they are true."""
    found = dict(zip(("reads_tags", "writes_tags"), tags_in_source(cls), strict=True))
    return [
        f"{cls.__module__}.{cls.__name__}: its source has {sorted(tags)}, declared are "
        f"{sorted(getattr(cls, name))}; write {name} = frozenset({sorted(tags)}) in the class"
        for name, tags in found.items()
        if tags != getattr(cls, name) - GIVEN_TAGS
    ]


def stage_classes(cls: type[Stage] = Stage) -> Iterator[type[Stage]]:
    for below in cls.__subclasses__():
        if below.__module__.startswith(("methods.", "harness.")):
            yield below
        yield from stage_classes(below)


def test_every_stage_declares_the_tags_of_its_source() -> None:
    for name in registry.entries():
        registry.load(name)
    found = set(stage_classes())
    assert {cls.__name__ for cls in found if cls.reads_tags or cls.writes_tags} >= KNOWN
    assert [line for cls in found for line in forgotten(cls)] == []


def mark(batch: Batch) -> Batch:
    return batch.with_token_tags(weight=batch.tags["age"][:, None] * torch.ones_like(batch.rollout_logp_BT))


class Forgetful(Selection):
    writes_tags = frozenset({"seen"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        return Out(mark(batch).with_tags(seen=batch.tags.get("seen", torch.zeros(len(batch)))))


def test_a_forgotten_declaration_is_told_with_its_remedy() -> None:
    reads, writes = forgotten(Forgetful)
    assert "write reads_tags = frozenset(['age']) in the class" in reads
    assert "declared are ['seen']; write writes_tags = frozenset(['seen', 'weight'])" in writes


def test_a_composition_goes_by_what_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = registry.load("grpo+bounds=etr")
    with pytest.raises(UserError, match="reads 'pass_variance', which nothing here sets"):
        composed().stages()
    bounds = type(registry.load("etr")().stages().loss.bounds)  # type: ignore[attr-defined]
    monkeypatch.setattr(bounds, "reads_tags", frozenset())
    composed().stages()
