"""The samples of one evaluation, kept as they come: part files now, one parquet when it is complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from harness.util.errors import UserError
from harness.util.files import replacing

#: A part is written after this many samples or seconds, whichever comes first.
PART_ROWS, PART_S = 512, 10.0


@dataclass(frozen=True)
class Sample:
    """One response with its verdicts; a row of the samples file.

    Attributes:
        tokens: response length, the end token included.
        stop: ``end``, ``stop`` or ``length`` (cut off by the token limit).
        status, canonical: the grader's verdict and the answer it read.
        second: the independent second grader's verdict; empty where there is none.
        graded_by: grader and version behind the verdicts.
        logp_sum: log-prob of the response at temperature 1, in nats.
    """

    problem_id: str
    sample: int
    text: str
    tokens: int
    stop: str
    status: str
    canonical: str | None
    second: str
    logp_sum: float
    graded_by: str


COLUMNS = tuple(f.name for f in fields(Sample))


class SampleStore:
    """Samples ``0 .. n-1`` of every problem: in ``<path stem>.parts/``, and in ``path`` once all are there.

    Args:
        warn: told, in one line, of a damaged file that was moved aside.
        writer: tells the parts of several processes that write beside each other apart.

    Raises:
        UserError: the file holds samples of other problems.
    """

    def __init__(
        self,
        path: Path,
        problem_ids: Sequence[str],
        n: int,
        warn: Callable[[str], None] = lambda text: None,
        writer: str = "",
    ) -> None:
        self.path, self.n, self._writer = path, n, writer
        self._order = {problem_id: i for i, problem_id in enumerate(problem_ids)}
        self._parts = path.with_suffix(".parts")
        self._rows: dict[tuple[str, int], Sample] = {}
        self._count = dict.fromkeys(problem_ids, 0)
        self.problems_done = 0  # problems whose every sample is there
        self.right = 0
        self._unwritten: list[Sample] = []
        self._last_write = time.monotonic()
        for file in [path, *sorted(self._parts.glob("*.parquet"))]:
            if file.exists():
                for sample in self._read(file, warn):
                    self._keep(sample)

    def _read(self, file: Path, warn: Callable[[str], None]) -> list[Sample]:
        try:
            samples = read_samples(file)
        except CorruptSamples as error:
            aside = file.with_name(f"{file.name}.corrupt")
            file.replace(aside)
            warn(f"{error}; it was moved to {aside.name} and its samples are drawn again")
            return []
        strange = next((s for s in samples if s.problem_id not in self._order or s.sample >= self.n), None)
        if strange is not None:
            raise UserError(
                f"{file} holds sample {strange.sample} of '{strange.problem_id}', which this evaluation does "
                "not draw; move the file away, or give another out="
            )
        return samples

    @property
    def problems(self) -> int:
        return len(self._order)

    def __len__(self) -> int:
        return len(self._rows)

    def has(self, problem_id: str, sample: int) -> bool:
        return (problem_id, sample) in self._rows

    @property
    def complete(self) -> bool:
        return len(self._rows) == len(self._order) * self.n

    def _keep(self, sample: Sample) -> None:
        key = (sample.problem_id, sample.sample)
        if key not in self._rows:
            self._count[sample.problem_id] += 1
            self.problems_done += self._count[sample.problem_id] == self.n
        before = self._rows.get(key)
        self.right += (sample.status == "right") - (before is not None and before.status == "right")
        self._rows[key] = sample

    def add(self, sample: Sample) -> None:
        """Keep a sample; it is on disk within ten seconds if :meth:`keep_up` is called now and then."""
        self._keep(sample)
        self._unwritten.append(sample)
        self.keep_up()

    def keep_up(self) -> None:
        """Write what has waited for ten seconds, or is many samples."""
        if len(self._unwritten) >= PART_ROWS or time.monotonic() - self._last_write >= PART_S:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet as a part of its own."""
        if self._unwritten:
            # not what another process is writing now, whose name begins with a dot
            taken = [int(p.name[:6]) for p in self._parts.glob("[0-9]*.parquet*")]
            name = f"{max(taken, default=-1) + 1:06d}{self._writer}.parquet"
            write_samples(self._parts / name, self._unwritten)
        self._unwritten, self._last_write = [], time.monotonic()

    def regraded(self, samples: Iterable[Sample]) -> None:
        """Put ``samples`` in the place of those with the same problem and number, here and on disk."""
        for sample in samples:
            self._keep(sample)
        if self.complete:
            self.finish()
            return
        parts = list(self._parts.glob("*.parquet"))
        self._unwritten = list(self._rows.values())
        self.flush()  # first the new part, then the old ones go: a stop in between loses nothing
        for part in parts:
            part.unlink()

    def samples(self) -> list[Sample]:
        """All samples by problem, in the benchmark's order, and number: the same after any interruption."""
        return sorted(self._rows.values(), key=lambda s: (self._order[s.problem_id], s.sample))

    def finish(self) -> None:
        """Write everything into one file and remove the parts (damaged ones, moved aside, stay)."""
        if not self.complete:
            raise ValueError(f"{len(self)} of {len(self._order) * self.n} samples: the rest is not drawn yet")
        write_samples(self.path, self.samples())
        self._unwritten = []
        if self._parts.is_dir():
            for part in self._parts.glob("*.parquet"):
                part.unlink()
            if not any(self._parts.iterdir()):
                self._parts.rmdir()


class CorruptSamples(Exception):
    """A samples file that cannot be read; the message names it and says why."""


def read_samples(path: Path) -> list[Sample]:
    """The samples in a parquet file.

    Raises:
        CorruptSamples: it is cut off, not parquet, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise CorruptSamples(f"samples file {path} cannot be read ({reason})") from error
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise CorruptSamples(f"samples file {path} has no column '{missing[0]}'")
    return [Sample(*row) for row in zip(*(table[name].to_pylist() for name in COLUMNS), strict=True)]


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write a parquet file that appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"str": pa.string(), "str | None": pa.string(), "int": pa.int64(), "float": pa.float64()}
    schema = pa.schema([(f.name, kinds[str(f.type)]) for f in fields(Sample)])
    columns = list(zip(*map(astuple, samples), strict=True)) or [()] * len(COLUMNS)
    table = pa.table(
        {name: list(values) for name, values in zip(COLUMNS, columns, strict=True)}, schema=schema
    )
    with replacing(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)
