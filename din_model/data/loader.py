"""Loads the jagged batches of one rank from Parquet, through Petastorm.

Petastorm shards row groups by index, whatever their size, so each rank gets its own files, with
about equal rows. Every rank takes the same number of steps; a rank without rows left gets empty
batches. Each epoch compares the rows read with the manifests.

Out-of-vocabulary dropout: in scoring, ids newer than the model read the unknown row. New ids differ
from rare ones (today's news is read, last week's is not), so training replaces a share of the ids
first seen on an example's own day by the unknown id.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from din_model.data.batch import Batch, example_columns, from_columns, list_lengths
from din_model.data.petastorm_reader import row_groups
from din_model.errors import InputError
from din_model.features import UNKNOWN, FeatureSpec

Columns = dict[str, NDArray[Any]]


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
        rng = None if self.seed is None else np.random.default_rng([self.seed, number, self._rank])
        partial: Columns | None = None
        read, yielded = 0, 0
        for columns in self._files(rng):
            size, start = len(columns["label"]), 0
            read += size
            order = np.arange(size) if rng is None else rng.permutation(size)
            while start < size:
                missing = self.batch_size - (len(partial["label"]) if partial else 0)
                rows = order[start : start + missing]
                batch = {name: values.take(rows, 0) for name, values in columns.items()}
                if partial is not None:
                    batch = {name: np.concatenate([partial[name], v]) for name, v in batch.items()}
                start, partial = start + missing, batch
                if len(batch["label"]) == self.batch_size:
                    yielded, partial = yielded + 1, None
                    yield batch
        self.read += read
        self.due += self._rows[self._rank]
        if read != self._rows[self._rank]:
            raise InputError(
                f"read {read} rows of {len(self.files)} files, but their manifests say"
                f" {self._rows[self._rank]}: build the dates again"
            )
        if partial is not None:
            yielded += 1
            yield partial
        for _ in range(self.steps - yielded):
            yield self._no_rows()

    def _global_rows(self, step: int) -> int:
        left = [rows - step * self.batch_size for rows in self._rows]
        return sum(min(max(rows, 0), self.batch_size) for rows in left)

    def _files(self, rng: np.random.Generator | None) -> Iterator[Columns]:
        """Yield the columns of each file; lists of one length come as matrices."""
        files = (
            self.files if rng is None else [self.files[i] for i in rng.permutation(len(self.files))]
        )
        for file in files:
            # One file per reader, because Petastorm sorts the paths it is given.
            for columns in row_groups(file.url, self.columns):
                if rng is not None:
                    columns = self._drop_new_ids(columns, file.first_new, rng)
                yield _weighted(columns, file.sample_rate) if self._sampled else columns

    def _drop_new_ids(
        self, columns: Columns, first_new: Mapping[str, int], rng: np.random.Generator
    ) -> Columns:
        """Replace a share of the day's new ids by the unknown id."""
        replaced: Columns = {}
        given = {f.vocabulary for f in self.spec.vectors}  # a night has the vectors of new items
        trained = {v: n for v, n in first_new.items() if v not in given}
        for vocabulary, first in trained.items() if self._new_as_unknown else ():
            features, fields = self.spec.used_by(vocabulary)
            names = [f.name for f in features] + [history.column(name) for history, name in fields]
            for name in (n for n in names if n in self.columns):
                new = np.flatnonzero(columns[name] >= first)
                values = columns[name].copy()
                values.flat[new[rng.random(len(new)) < self._new_as_unknown]] = UNKNOWN
                replaced[name] = values
        return columns | replaced

    def _no_rows(self) -> Columns:
        widths = list_lengths(self.spec)
        return {
            name: np.zeros((0, widths[name]) if name in widths else 0, np.int64)
            for name in self.columns
        }


def _weighted(columns: Columns, sample_rate: float) -> Columns:
    """Return the columns with weights that make up for unclicked rows that were sampled out."""
    stands_for = np.where(columns["label"] > 0, 1.0, 1 / sample_rate).astype(np.float32)
    return columns | {"weight": columns.get("weight", np.float32(1)) * stands_for}
