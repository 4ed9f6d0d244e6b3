"""Loads the jagged batches of one rank from Parquet, through Petastorm.

Petastorm shards row groups by index, whatever their size, so each rank gets its own files, with
about equal rows. Every rank takes the same number of steps; a rank without rows left gets empty
batches. Each epoch compares the rows read with the manifests.

The rows of a user follow each other in a file. Training therefore shuffles the rows of several
files, in a seeded order of the files, together.

Out-of-vocabulary dropout: in scoring, ids newer than the model read the unknown row. New ids differ
from rare ones (today's news is read, last week's is not), so training replaces a share of the ids
first seen on an example's own day by the unknown id.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from din_model.data.batch import Batch, example_columns, from_columns, list_lengths
from din_model.data.petastorm_reader import row_groups
from din_model.data.rows import Columns, Rows, from_arrow, together
from din_model.errors import InputError
from din_model.features import UNKNOWN, FeatureSpec

SHUFFLED = 1 << 17
"""Rows from which those of several files are shuffled: enough to mix users, and little memory."""


class File(NamedTuple):
    """A Parquet file, its row count by the manifest, and what was known before its day.

    ``first_new``: vocabulary -> the first id assigned on the file's own day; empty if unknown.
    ``sample_rate``: the share of unclicked rows that was kept; each stands for 1 / sample_rate
    rows.
    """

    url: str
    rows: int
    first_new: Mapping[str, int] = MappingProxyType({})
    sample_rate: float = 1.0


def shard_files(files: Sequence[File], ranks: int) -> list[list[File]]:
    """Assign files to ranks, largest first to the rank with the fewest rows.

    Returns:
        One list of files per rank.
    """
    shares: list[list[File]] = [[] for _ in range(ranks)]
    for file in sorted(files, key=lambda f: (-f.rows, f.url)):
        min(shares, key=lambda shard: sum(f.rows for f in shard)).append(file)
    return shares


class Loader:
    """Epochs of batches for one rank.

    Attributes:
        rows: rows per epoch over all ranks, by the manifests.
        read: rows that this rank has read, in all complete epochs.
        due: rows that this rank should have read in them, by the manifests.
        steps: batches per epoch, equal on every rank.
    """

    def __init__(  # nine independent settings of reading, each with one caller-visible meaning
        self,
        files: Sequence[File],
        spec: FeatureSpec,
        batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        seed: int | None = None,
        extra: Sequence[str] = (),
        oov_dropout: float = 0.0,
    ) -> None:
        """Shard the files over the ranks.

        Args:
            files: the files of all ranks.
            spec: names the columns.
            batch_size: rows per batch of a rank.
            rank: this rank.
            ranks: number of ranks.
            seed: of the order of files and rows; None keeps the order of the files.
            extra: columns to read beside those of a batch.
            oov_dropout: share of a day's new ids to read as unknown; needs a seed.
        """
        shares = shard_files(files, ranks)
        self.files, self.spec, self.batch_size, self.seed = shares[rank], spec, batch_size, seed
        self._rows = [sum(f.rows for f in files) for files in shares]
        self._rank, self._new_as_unknown = rank, oov_dropout
        self._sampled = any(f.sample_rate < 1 for f in files)
        self.rows, self.read, self.due = sum(self._rows), 0, 0
        self.steps = -(-max(self._rows) // batch_size)
        self.columns = list(dict.fromkeys([*example_columns(spec), *extra]))

    def pass_over(self, epochs: int) -> None:
        """Count epochs as read, because an earlier process has read them."""
        self.read += epochs * self._rows[self._rank]
        self.due += epochs * self._rows[self._rank]

    def epoch(self, number: int = 0, start: int = 0) -> Generator[tuple[Batch, int], None, None]:
        """Yield (batch, rows of this step over all ranks); the order depends on seed and number.

        Batches before step ``start`` are read and dropped, so that random draws stay the same.
        Reading is many times faster than training.

        Raises:
            InputError: the files hold more or fewer rows than the manifests say.
        """
        for step, columns in enumerate(self.chunks(number)):
            if step >= start:
                yield from_columns(columns, self.spec), self._global_rows(step)

    def chunks(self, number: int = 0) -> Iterator[Columns]:
        """Yield the columns of each batch, as ``epoch`` reads them."""
        for rows in self.parts(number):
            yield rows.expanded()

    def parts(self, number: int = 0) -> Iterator[Rows]:
        """Yield the rows of each batch; those in the order of the files share histories."""
        rng = None if self.seed is None else np.random.default_rng([self.seed, number, self._rank])
        pieces: list[Rows] = []
        read, yielded, missing = 0, 0, self.batch_size
        for pool in self._pools(rng):
            size, start = len(pool), 0
            read += size
            order = None if rng is None else rng.permutation(size)
            while start < size:
                stop = min(start + missing, size)
                pieces.append(
                    pool.slice(start, stop) if order is None else pool.take(order[start:stop])
                )
                missing, start = missing - (stop - start), stop
                if not missing:
                    yield together(pieces)
                    pieces, yielded, missing = [], yielded + 1, self.batch_size
        self.read += read
        self.due += self._rows[self._rank]
        if read != self._rows[self._rank]:
            raise InputError(
                f"read {read} rows of {len(self.files)} files, but their manifests say"
                f" {self._rows[self._rank]}: build the dates again"
            )
        if pieces:
            yielded += 1
            yield together(pieces)
        for _ in range(self.steps - yielded):
            yield self._no_rows()

    def _global_rows(self, step: int) -> int:
        left = [rows - step * self.batch_size for rows in self._rows]
        return sum(min(max(rows, 0), self.batch_size) for rows in left)

    def _pools(self, rng: np.random.Generator | None) -> Iterator[Rows]:
        """Yield rows to shuffle together: of one file after another, or of several in training."""
        pool: list[Rows] = []
        for rows in self._files(rng):
            pool.append(rows)
            if rng is None or sum(map(len, pool)) >= SHUFFLED:
                yield together(pool)
                pool = []
        if pool:
            yield together(pool)

    def _files(self, rng: np.random.Generator | None) -> Iterator[Rows]:
        """Yield the rows of each row group."""
        files = (
            self.files if rng is None else [self.files[i] for i in rng.permutation(len(self.files))]
        )
        for file in files:
            # One file per reader, because Petastorm sorts the paths it is given.
            for columns in row_groups(file.url, self.columns):
                rows = from_arrow(file.url, columns, self.spec)
                if rng is not None:
                    rows = self._drop_new_ids(rows, file.first_new, rng)
                yield _weighted(rows, file.sample_rate) if self._sampled else rows

    def _drop_new_ids(
        self, rows: Rows, first_new: Mapping[str, int], rng: np.random.Generator
    ) -> Rows:
        """Replace a share of the day's new ids by the unknown id, in a history for all its rows."""
        stored, replaced = rows.columns | rows.histories, Columns()
        given = {f.vocabulary for f in self.spec.vectors}  # a night has the vectors of new items
        trained = {v: n for v, n in first_new.items() if v not in given}
        for vocabulary, first in trained.items() if self._new_as_unknown else ():
            features, fields = self.spec.used_by(vocabulary)
            names = [f.name for f in features] + [history.column(name) for history, name in fields]
            for name in (n for n in names if n in self.columns):
                new = np.flatnonzero(stored[name] >= first)
                values = stored[name].copy()
                values.flat[new[rng.random(len(new)) < self._new_as_unknown]] = UNKNOWN
                replaced[name] = values
        columns = {name: replaced.get(name, values) for name, values in rows.columns.items()}
        histories = {name: replaced.get(name, values) for name, values in rows.histories.items()}
        return Rows(columns, histories, rows.history_of)

    def _no_rows(self) -> Rows:
        widths = list_lengths(self.spec)
        columns = {
            name: np.zeros((0, widths[name]) if name in widths else 0, np.int64)
            for name in self.columns
        }
        return Rows(columns, {}, np.arange(0))


def _weighted(rows: Rows, sample_rate: float) -> Rows:
    """Return the rows with weights that make up for unclicked rows that were sampled out."""
    stands_for = np.where(rows.columns["label"] > 0, 1.0, 1 / sample_rate).astype(np.float32)
    weight = {"weight": rows.columns.get("weight", np.float32(1)) * stands_for}
    return replace(rows, columns=rows.columns | weight)
