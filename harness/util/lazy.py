"""Import a heavy package when something of it is first used.

Method files import torch at their top, as anyone expects, and that takes a second. A plan, a list or a
refused setting needs a method's hyper-parameters and checks, not its formulas: the command line therefore
has torch loaded by the first use of it. It is the real package, only later. (``LazyLoader`` of the standard
library does not serve: in Python 3.11 a second ``import torch`` asks for its ``__spec__``, which loads it.)
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

#: What the import system asks of a module that it finds among the imported ones.
_ASKED_BY_IMPORT = frozenset(("__spec__", "__class__", "__name__"))
_loading = threading.RLock()


class _WhenUsed(ModuleType):
    """A module that has not run yet; any attribute of it makes it run, and an ordinary module of it."""

    def __getattribute__(self, name: str) -> Any:
        if name in _ASKED_BY_IMPORT:
            return super().__getattribute__(name)
        with _loading:
            if super().__getattribute__("__class__") is _WhenUsed:
                spec = super().__getattribute__("__spec__")
                self.__class__ = ModuleType  # type: ignore[assignment]
                try:
                    spec.loader.exec_module(self)
                except BaseException:
                    del sys.modules[spec.name]  # as after a failed import: the next one tries again
                    raise
        return getattr(self, name)


def load_when_used(name: str) -> None:
    """Have ``import name`` cost nothing until something of it is used; no effect once it is loaded."""
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return  # it is loaded, or whoever imports it gets the usual complaint
    module = _WhenUsed(name)
    for key, value in vars(importlib.util.module_from_spec(spec)).items():
        setattr(module, key, value)
    sys.modules[name] = module


def is_loaded(name: str) -> bool:
    """Whether the package has really been imported."""
    return name in sys.modules and type(sys.modules[name]) is not _WhenUsed
