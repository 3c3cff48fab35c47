"""The report as data: which lines stand in which table, with which numbers, marks and ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from harness.report.analysis.entropy import Discipline
from harness.report.analysis.equal import Equal
from harness.report.analysis.robustness import Surface
from harness.report.analysis.scores import FloatArray
from harness.report.data.groups import Group
from harness.report.data.reported import Beside
from harness.statistics import Interval

CONTROLS, RECONSTRUCTIONS = "Controls", "Reconstructions (never ranked)"


@dataclass(frozen=True)
class Line:
    """One method in one table. Scores are shares in [0, 1]; ``None`` is printed as a dash.

    ``delta`` is the difference in pass@1 to the reference, ``delta_interval`` its own 95 % interval (not
    corrected), ``p`` its Holm-corrected p.
    """

    group: Group
    block: str
    expected: int | None
    marks: tuple[str, ...]
    pass_at: Mapping[int, float]
    interval: Interval | None = None
    delta: float | None = None
    delta_interval: tuple[float, float] | None = None
    p: float | None = None
    rank: tuple[int, int] | None = None
    entropy: tuple[float, float] | None = None
    numbers: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        return self.pass_at.get(1)


@dataclass(frozen=True)
class Table:
    """One table of scores.

    Attributes:
        name: ``average`` or a test set.
        ks: the columns.
        detectable: the true difference to the reference that the median row would be found with, in score
            units; ``detectable_k`` that in pass@``top_k``.
        top_k: the k > 1 that differences in pass@k are taken at, the largest of ``ks``.
        spread_p: Bartlett's p of equal seed variances over the trainings; ``spread_k_p`` in pass@``top_k``.
    """

    name: str
    ks: tuple[int, ...]
    lines: tuple[Line, ...]
    detectable: float | None
    comparisons: int
    top_k: int | None = None
    detectable_k: float | None = None
    spread_p: float | None = None
    spread_k_p: float | None = None

    @cached_property
    def votes(self) -> list[str]:
        """``maj@k`` of every k that any line has, by k."""
        keys = set().union(*(line.numbers for line in self.lines))
        return sorted((key for key in keys if key.startswith("maj@")), key=lambda key: int(key[4:]))

    @property
    def blocks(self) -> list[tuple[str, list[Line]]]:
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            found.setdefault(line.block, []).append(line)
        return list(found.items())


@dataclass(frozen=True)
class Report:
    """Everything the writers need.

    Attributes:
        curves: pass@1..K averaged over test sets, [S, K], by :attr:`Group.key`.
        discipline: what each row's entropy did, by :attr:`Group.key`; its plain numbers are the lines' too.
        beside: the papers' own numbers of these methods, each with ours or the reason why not.
        equal: the rows at one common pass@1; None where there is no such level.
        facts: the outcome in a few numbers, each with what it counts.
        robustness: the methods over the grid of learning rates, by the tuning trials; None without them.
    """

    title: str
    subtitle: str
    reference: str
    notes: tuple[tuple[str, str], ...]
    groups: tuple[Group, ...]
    tables: tuple[Table, ...]
    curves: Mapping[str, FloatArray]
    discipline: Mapping[str, Discipline] = field(default_factory=dict)
    equal: Equal | None = None
    facts: tuple[tuple[str, str], ...] = ()
    beside: tuple[Beside, ...] = ()
    robustness: Surface | None = None

    @property
    def ranked(self) -> bool:
        """Whether any row has a rank."""
        return any(line.rank is not None for line in self.tables[0].lines)

    def is_ranked(self, group: Group) -> bool:
        """Whether the row has a rank."""
        return any(line.rank is not None for line in self.tables[0].lines if line.group is group)
