"""Petastorm -> the ragged batches of one rank.

Petastorm deals out row groups by number, whatever their size, so each rank is given files of its
own, about equal in rows. Every rank takes the same number of steps; one that has run out takes part
with batches of no rows. What was read is counted against the manifests, every epoch.

A model scores ids that are newer than itself through the unknown row. New ids are not like rare
ones (today's news is read, last week's is not), so training must show it that row as a night will:
a share of the ids first seen on an example's own day read as unknown there.
"""

import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from din_model.data.batch import Batch, example_columns, from_columns
from din_model.errors import InputError
from din_model.features import UNKNOWN, FeatureSpec

Columns = dict[str, NDArray[Any]]


class File(NamedTuple):
    """A Parquet file, the rows that its manifest says it has, and what was known before its day.

    ``first_new``: vocabulary -> the first id given on the file's own day; none if nobody knows.
    ``sample_rate``: the share of unclicked rows that was kept; each stands for 1 / sample_rate.
    """

    url: str
    rows: int
    first_new: Mapping[str, int] = MappingProxyType({})
    sample_rate: float = 1.0


def shard_files(files: Sequence[File], ranks: int) -> list[list[File]]:
    """Deal the files out, largest first to whoever has the fewest rows: one list a rank."""
    shares: list[list[File]] = [[] for _ in range(ranks)]
    for file in sorted(files, key=lambda f: (-f.rows, f.url)):
        min(shares, key=lambda mine: sum(f.rows for f in mine)).append(file)
    return shares


class Loader:
    """Epochs of batches for one rank.

    Attributes:
        rows: of all ranks, an epoch, as the manifests say.
        read: that this rank has read so far, in all epochs.
        steps: batches an epoch, the same on every rank.
    """

    def __init__(
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
        """``seed`` None keeps the files' order; ``extra`` columns are read beside the batch's.

        ``oov_dropout``: the share of a day's new ids to read as unknown; it needs a seed.
        """
        shares = shard_files(files, ranks)
        self.mine, self.spec, self.batch_size, self.seed = shares[rank], spec, batch_size, seed
        self._rows = [sum(f.rows for f in files) for files in shares]
        self._rank, self._new_as_unknown = rank, oov_dropout
        self._sampled = any(f.sample_rate < 1 for f in files)
        self.rows, self.read = sum(self._rows), 0
        self.steps = -(-max(self._rows) // batch_size)
        self.columns = list(dict.fromkeys([*example_columns(spec), *extra]))

    def pass_over(self, epochs: int) -> None:
        """Count epochs as read: an earlier process has read them."""
        self.read += epochs * self._rows[self._rank]

    def epoch(self, number: int = 0, start: int = 0) -> Generator[tuple[Batch, int], None, None]:
        """Yield (batch, rows of this step over all ranks); order depends on seed and number.

        Those before step ``start`` are read and dropped, so that what is drawn stays the same:
        reading is many times faster than training.

        Raises:
            InputError: the files hold more or fewer rows than the manifests say.
        """
        for step, columns in enumerate(self.chunks(number)):
            if step >= start:
                yield from_columns(columns, self.spec), self._global_rows(step)

    def chunks(self, number: int = 0) -> Iterator[Columns]:
        """The columns of each batch, as epoch() reads them."""
        rng = None if self.seed is None else np.random.default_rng([self.seed, number, self._rank])
        left: Columns | None = None
        already, taken = self.read, 0
        for columns in self._files(rng):
            size, start = len(columns["label"]), 0
            self.read += size
            order = np.arange(size) if rng is None else rng.permutation(size)
            while start < size:
                lacking = self.batch_size - (len(left["label"]) if left else 0)
                rows = order[start : start + lacking]
                batch = {name: values.take(rows, 0) for name, values in columns.items()}
                if left is not None:
                    batch = {name: np.concatenate([left[name], v]) for name, v in batch.items()}
                start, left = start + lacking, batch
                if len(batch["label"]) == self.batch_size:
                    taken, left = taken + 1, None
                    yield batch
        if (read := self.read - already) != self._rows[self._rank]:
            raise InputError(
                f"read {read} rows of {len(self.mine)} files, but their manifests say"
                f" {self._rows[self._rank]}: build the dates again"
            )
        if left is not None:
            taken += 1
            yield left
        for _ in range(self.steps - taken):
            yield self._no_rows()

    def _global_rows(self, step: int) -> int:
        left = [rows - step * self.batch_size for rows in self._rows]
        return sum(min(max(rows, 0), self.batch_size) for rows in left)

    def _files(self, rng: np.random.Generator | None) -> Iterator[Columns]:
        """Each file's columns; lists of one length come as matrices."""
        files = (
            self.mine if rng is None else [self.mine[i] for i in rng.permutation(len(self.mine))]
        )
        for file in files:
            for columns in self._read(file):
                if rng is not None:
                    columns = self._forget_new(columns, file.first_new, rng)
                yield _weighed(columns, file.sample_rate) if self._sampled else columns

    def _read(self, file: File) -> Iterator[Columns]:
        with warnings.catch_warnings():
            # Petastorm 0.12 is loud about the pyarrow API that it was written for.
            warnings.simplefilter("ignore")
            from din_model.data.petastorm_reader import row_groups

            # One file a reader: Petastorm sorts the paths that it is given.
            yield from row_groups(file.url, self.columns)

    def _forget_new(
        self, columns: Columns, first_new: Mapping[str, int], rng: np.random.Generator
    ) -> Columns:
        """The columns with a share of the day's new ids made unknown."""
        forgotten: Columns = {}
        for vocabulary, first in first_new.items() if self._new_as_unknown else ():
            features, fields = self.spec.used_by(vocabulary)
            names = [f.name for f in features] + [history.column(name) for history, name in fields]
            for name in (n for n in names if n in self.columns):
                new = np.flatnonzero(columns[name] >= first)
                values = columns[name].copy()
                values.flat[new[rng.random(len(new)) < self._new_as_unknown]] = UNKNOWN
                forgotten[name] = values
        return columns | forgotten

    def _no_rows(self) -> Columns:
        widths = {f.name: f.max_length for f in self.spec.features if f.is_list}
        widths |= {h.column(n): h.length for h in self.spec.histories for n in h.lists}
        return {
            name: np.zeros((0, widths[name]) if name in widths else 0, np.int64)
            for name in self.columns
        }


def _weighed(columns: Columns, sample_rate: float) -> Columns:
    """The columns with a weight that makes up for the unclicked rows that were left out."""
    stands_for = np.where(columns["label"] > 0, 1.0, 1 / sample_rate).astype(np.float32)
    return columns | {"weight": columns.get("weight", np.float32(1)) * stands_for}
