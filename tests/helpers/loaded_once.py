"""Whether each file of ours is one module: in this process, in a worker, and for what was pickled.

A script of its own, which is copied away from the checkout. Prints the folder that all of it comes from.
"""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from pathlib import Path
from typing import Any

OWN = ("entrobench", "harness", "methods", "benchmarks")


def names_by_file() -> dict[str, list[str]]:
    """File of ours -> the names under which it is imported."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    folders = [Path(files[name] or "").resolve().parent for name in OWN if name in files]
    found: dict[str, list[str]] = {}
    for name, file in files.items():
        if file and any(Path(file).resolve().is_relative_to(folder) for folder in folders):
            found.setdefault(str(Path(file).resolve()), []).append(name)
    return found


def use() -> Any:
    """Import all that is public, the methods by name and by path, a benchmark; a method's instance."""
    import entrobench
    from harness.cli.doctor import shadows
    from harness.registry import benchmarks, methods

    assert shadows() == []
    for name in entrobench._EXPORTS:
        getattr(entrobench, name)
    for name in ("dapo", "grpo"):
        entry = methods.find(name)
        assert methods.load(name) is methods.load(str(entry.file)), f"{name} is two classes"
        assert issubclass(methods.load(name), entrobench.Method)
    assert isinstance(benchmarks.load("micro"), object)
    return methods.load("dapo")()


def in_worker(pickled: bytes) -> tuple[dict[str, list[str]], bytes]:
    """What a worker has loaded once it has unpickled and used the same."""
    there = pickle.loads(pickled)
    assert type(there) is type(use()), "the pickled method is of another class in the worker"
    return names_by_file(), pickle.dumps(there)


def main() -> None:
    mine = use()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        loaded, back = pool.apply(in_worker, (pickle.dumps(mine),))
    assert type(pickle.loads(back)) is type(mine), "what a worker pickled is of another class here"
    roots = set()
    for found in (names_by_file(), loaded):
        assert len(found) > 30, f"only {len(found)} files of ours are loaded"
        for file, names in found.items():
            assert len(names) == 1, f"{file} is loaded as {names}"
            roots.add(
                file.removesuffix(".py").removesuffix("/__init__").removesuffix(names[0].replace(".", "/"))
            )
    print("\n".join(roots))


if __name__ == "__main__":
    main()
