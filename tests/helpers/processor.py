"""A pytest plugin that counts processor seconds: ``pytest -p tests.helpers.processor tests/methods``.

A machine that others compute on tells nothing by the clock. Counted are the tests' own process and the
children it has waited for, by test function and by entry. A test counts for the entry, or the folder of
``tests/methods``, that its parameters name, and else for the folder it lies in; several entries of one file
share what counts for their folder. What all share, libraries and a first pass of a model, is paid for before
the first test. With ``--processor-to FILE`` each test is a line of JSON there.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

import pytest

#: So many groups are listed.
LISTED = 30


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--processor-to", default=None, help="file that gets a line of JSON for each test")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Processor(config), "entrobench-processor")


def spent() -> float:
    """Processor seconds of this process and of its children that have ended."""
    return sum(usage.ru_utime + usage.ru_stime for usage in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


class Processor:
    """What each test took, set-up and all."""

    def __init__(self, config: pytest.Config) -> None:
        self._file, self._started = config.getoption("processor_to"), spent()
        self._groups, self._counts = defaultdict[str, float](float), defaultdict[str, int](int)
        self._folders, self._entries = defaultdict[str, float](float), defaultdict[str, float](float)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if any(item.nodeid.startswith("tests/methods") for item in session.items):
            from tests.helpers.tiny import tiny_trainer

            tiny_trainer().step()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = spent()
        result = yield
        self._add(item, spent() - before)
        return result

    def _add(self, item: pytest.Item, seconds: float) -> None:
        group = item.nodeid.partition("[")[0]
        self._groups[group] += seconds
        self._counts[group] += 1
        params = getattr(getattr(item, "callspec", None), "params", {})
        entry, folder = named(item.nodeid, params)
        if entry:
            self._entries[entry] += seconds
        elif folder:
            self._folders[folder] += seconds
        if self._file:
            line = {"test": item.nodeid, "entry": entry, "folder": folder, "s": round(seconds, 4)}
            with Path(self._file).open("a") as handle:
                handle.write(json.dumps(line) + "\n")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        write = terminalreporter.write_line
        write(f"processor: {spent() - self._started:.1f} s, in tests {sum(self._groups.values()):.1f} s")
        for group, seconds in sorted(self._groups.items(), key=lambda item: -item[1])[:LISTED]:
            write(f"{seconds:8.2f} s {self._counts[group]:5d} x  {group}")
        write("by entry:")
        for entry, seconds in sorted(by_entry(self._entries, self._folders).items(), key=lambda e: -e[1]):
            write(f"{seconds:8.2f} s  {entry}")


def named(nodeid: str, params: Mapping[str, Any]) -> tuple[str, str]:
    """The entry and the folder of ``tests/methods`` that a test is about; empty where there is none."""
    stems = _stems()
    for value in params.values():
        first = value[0] if isinstance(value, tuple) and value else value
        if isinstance(first, str) and first in stems:
            return first, stems[first]
        if isinstance(first, str) and first in stems.values():
            return "", first
    found = re.match(r"tests/methods/(\w+)/", nodeid)
    return "", found[1] if found else ""


def by_entry(entries: Mapping[str, float], folders: Mapping[str, float]) -> dict[str, float]:
    """Seconds of every entry, with its part of what counts for its folder."""
    total, stems = dict(entries), _stems()
    for folder, seconds in folders.items():
        own = [name for name, stem in stems.items() if stem == folder]
        for name in own:
            total[name] = total.get(name, 0.0) + seconds / len(own)
    return total


def _stems() -> dict[str, str]:
    from harness.registry import methods

    return {name: entry.file.stem for name, entry in methods.entries().items()}
