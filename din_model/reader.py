"""Petastorm -> the ragged batches of one rank.

Petastorm deals out row groups by number, whatever their size, so each rank is given files of its
own, about equal in rows. Every rank takes the same number of steps; one that has run out takes part
with batches of no rows. What was read is counted against the manifests, every epoch.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from din_model.batch import Batch, example_columns, from_columns
from din_model.errors import InputError
from din_model.features import FeatureSpec

Columns = dict[str, np.ndarray]


class File(NamedTuple):
    """A Parquet file and the rows that its manifest says it has."""

    url: str
    rows: int


def share(files: Sequence[File], ranks: int) -> list[list[File]]:
    """Deal the files out, largest first to whoever has the fewest rows: one list a rank."""
    shares: list[list[File]] = [[] for _ in range(ranks)]
    for file in sorted(files, key=lambda f: (-f.rows, f.url)):
        min(shares, key=lambda mine: sum(f.rows for f in mine)).append(file)
    return shares


class Reader:
    """Epochs of batches for one rank.

    Attributes:
        rows: of all ranks, an epoch.
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
    ) -> None:
        """``seed`` None keeps the files' order; ``extra`` columns are read beside the batch's."""
        shares = share(files, ranks)
        self.mine, self.spec, self.batch_size, self.seed = shares[rank], spec, batch_size, seed
        self._rows = [sum(f.rows for f in files) for files in shares]
        self._rank = rank
        self.rows = sum(self._rows)
        self.steps = -(-max(self._rows) // batch_size)
        self.columns = list(dict.fromkeys([*example_columns(spec), *extra]))

    def epoch(self, number: int = 0) -> Iterator[tuple[Batch, int]]:
        """Yield (batch, rows of this step over all ranks); order depends on seed and number.

        Raises:
            InputError: the files hold more or fewer rows than the manifests say.
        """
        for step, columns in enumerate(self.chunks(number)):
            yield from_columns(columns, self.spec), self._global_rows(step)

    def chunks(self, number: int = 0) -> Iterator[Columns]:
        """The columns of each batch, as epoch() reads them."""
        rng = None if self.seed is None else np.random.default_rng([self.seed, number, self._rank])
        left: Columns | None = None
        read = taken = 0
        for columns in self._files(rng):
            size = len(columns["label"])
            read += size
            if rng is not None:
                order = rng.permutation(size)
                columns = {name: values[order] for name, values in columns.items()}
            if left is not None:
                columns = {n: np.concatenate([left[n], v]) for n, v in columns.items()}
            start, size = 0, len(columns["label"])
            while size - start >= self.batch_size:
                yield {n: v[start : start + self.batch_size] for n, v in columns.items()}
                start, taken = start + self.batch_size, taken + 1
            left = {n: v[start:] for n, v in columns.items()}
        if read != self._rows[self._rank]:
            raise InputError(
                f"read {read} rows of {len(self.mine)} files, but their manifests say"
                f" {self._rows[self._rank]}: build the dates again"
            )
        if left is not None and len(left["label"]):
            taken += 1
            yield left
        for _ in range(self.steps - taken):
            yield self._no_rows()

    def _global_rows(self, step: int) -> int:
        left = [rows - step * self.batch_size for rows in self._rows]
        return sum(min(max(rows, 0), self.batch_size) for rows in left)

    def _files(self, rng: np.random.Generator | None) -> Iterator[Columns]:
        """Each file's columns; lists of one length come as matrices."""
        urls = [file.url for file in self.mine]
        if rng is not None:
            urls = [urls[i] for i in rng.permutation(len(urls))]
        if not urls:
            return
        with warnings.catch_warnings():
            # Petastorm 0.12 is loud about the pyarrow API that it was written for.
            warnings.simplefilter("ignore")
            from petastorm import make_batch_reader

            reader = make_batch_reader(
                urls,
                schema_fields=[f"^{name}$" for name in self.columns],
                # One worker: with several the order is not reproducible. Reading still runs ahead.
                workers_count=1,
                shuffle_row_groups=False,
                num_epochs=1,
            )
            with reader:
                for group in reader:
                    yield {name: getattr(group, name) for name in self.columns}

    def _no_rows(self) -> Columns:
        widths = {f.name: f.max_length for f in self.spec.features if f.is_list}
        widths |= {h.column(n): h.length for h in self.spec.histories for n in h.fields}
        return {
            name: np.zeros((0, widths[name]) if name in widths else 0, np.int64)
            for name in self.columns
        }
