"""Planning without importing torch: a plan needs a method's hyper-parameters and checks, not its formulas.

Method files import torch at their top, as anyone expects, and that takes a second. While a plan is made,
names of torch are therefore answered by stand-ins, which let modules be imported and classes be defined. As
soon as anything asks for a value, or fails, the plan is made again with torch itself; and every module that
was imported with a stand-in is forgotten afterwards, so nothing that computes ever meets one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from inspect import isclass, isfunction
from types import ModuleType
from typing import Any, TypeVar

from harness import catalog

T = TypeVar("T")
_NAME = "torch"


class _ValueNeeded(BaseException):
    """Not an ``Exception``: a method's own ``except Exception`` must not swallow it."""


class _StandIn:
    """A name of torch, or what comes of it, whose value nobody has needed yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn()

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        if len(arguments) == 1 and not more and (isfunction(arguments[0]) or isclass(arguments[0])):
            return arguments[0]  # used as a decorator
        return _StandIn()

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return ()  # used as a base class

    def __getitem__(self, key: Any) -> Any:
        return self

    def __or__(self, other: Any) -> Any:
        return self

    __ror__ = __or__
    __hash__ = object.__hash__

    def _needed(self, *arguments: Any) -> Any:
        raise _ValueNeeded

    __bool__ = __iter__ = __len__ = __contains__ = __int__ = __float__ = __index__ = __complex__ = _needed
    __str__ = __repr__ = __format__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _needed
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _needed
    __pow__ = __rpow__ = __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = __neg__ = __abs__ = _needed
    __enter__ = __exit__ = __instancecheck__ = __subclasscheck__ = _needed


class _StandInModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn()


class _Finder(MetaPathFinder, Loader):
    """Finds torch and everything inside it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        inside = name == _NAME or name.startswith(f"{_NAME}.")
        return ModuleSpec(name, self, is_package=True) if inside else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return None


def without_torch(work: Callable[[], T]) -> T:
    """``work()``, with stand-ins for torch where that is enough and torch is not there anyway.

    ``work`` must have no effect besides its result, because it may be done twice.
    """
    if _NAME in sys.modules:
        return work()
    try:
        with _stand_ins():
            return work()
    except (_ValueNeeded, Exception):
        return work()  # a complaint must come from the real thing


@contextmanager
def _stand_ins() -> Iterator[None]:
    before, finder = set(sys.modules), _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        held = _touched([name for name in sys.modules if name not in before])
        for name in held:
            module = sys.modules.pop(name)
            parent, _, inner = name.rpartition(".")
            if getattr(sys.modules.get(parent), inner, None) is module:
                delattr(sys.modules[parent], inner)
        catalog.methods().forget(held)


def _touched(names: Sequence[str]) -> set[str]:
    """The modules among ``names`` that hold a stand-in, or anything from a module that does."""
    held = {name for name in names if isinstance(sys.modules[name], _StandInModule)}
    before = -1
    while len(held) > before:
        before = len(held)
        for name in names:
            if name not in held and any(_from(value, held) for value in vars(sys.modules[name]).values()):
                held.add(name)
    return held


def _from(value: Any, held: set[str]) -> bool:
    if isinstance(value, ModuleType):
        return value.__name__ in held
    kind = type(value)
    home = value.__module__ if isclass(value) or isfunction(value) else kind.__module__
    return kind is _StandIn or home in held
