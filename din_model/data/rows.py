"""Rows of examples in memory: columns by row, and each history once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from din_model.errors import InputError
from din_model.features import FeatureSpec

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Rows:
    """Rows of one or more files.

    Attributes:
        columns: name -> values [rows], or [rows, L] for lists.
        histories: KIND__FIELD -> ids [histories, L], padded with zeros.
        history_of: the history of each row [rows].
    """

    columns: Columns
    histories: Columns
    history_of: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.history_of)

    @property
    def each_has_its_own(self) -> bool:
        """Whether no two rows share a history; rows are in the order of their histories."""
        return len(next(iter(self.histories.values()), self.history_of)) == len(self)

    def take(self, rows: NDArray[Any]) -> "Rows":
        """Return some rows, each with a history of its own."""
        columns = {name: values.take(rows, 0) for name, values in self.columns.items()}
        of_rows = self.history_of[rows]
        histories = {name: values.take(of_rows, 0) for name, values in self.histories.items()}
        return Rows(columns, histories, np.arange(len(rows)))

    def slice(self, start: int, stop: int) -> "Rows":
        """Return neighbouring rows, which share histories as before."""
        history_of = self.history_of[start:stop]
        first, last = history_of[0], history_of[-1] + 1
        # Copies, because torch takes no arrays over Arrow's memory, which cannot be written.
        columns = {name: values[start:stop].copy() for name, values in self.columns.items()}
        histories = {name: values[first:last] for name, values in self.histories.items()}
        return Rows(columns, histories, history_of - first)

    def expanded(self) -> Columns:
        """Return all columns by row; each row has its history."""
        if self.each_has_its_own:
            return self.columns | self.histories
        histories = {n: values.take(self.history_of, 0) for n, values in self.histories.items()}
        return self.columns | histories


def together(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    columns, histories = (
        {name: np.concatenate([of_part[name] for of_part in of_all]) for name in of_all[0]}
        for of_all in ([p.columns for p in parts], [p.histories for p in parts])
    )
    counts = [len(next(iter(p.histories.values()), ())) for p in parts]
    before = np.r_[0, np.cumsum(counts[:-1])]
    history_of = [p.history_of + n for p, n in zip(parts, before, strict=True)]
    return Rows(columns, histories, np.concatenate(history_of))


def from_arrow(url: str, columns: Mapping[str, pa.Array], spec: FeatureSpec) -> Rows:
    """Make rows from the columns of a row group, in which a null is the history of the row before.

    Raises:
        InputError: lists that are longer than their history, or differ in length where all have
            one; the first row has no history.
    """
    lengths = spec.history_lengths
    plain = {
        name: _matrix(f"{url}: column {name}", values)
        for name, values in columns.items()
        if name not in lengths
    }
    own = {
        name: padded(f"{url}: column {name}", columns[name].drop_null(), length)
        for name, length in lengths.items()
        if name in columns
    }
    rows = len(next(iter(columns.values())))
    if not own:
        return Rows(plain, own, np.arange(rows))
    history_of = np.cumsum(columns[next(iter(own))].is_valid().to_numpy(zero_copy_only=False)) - 1
    if rows and history_of[0] < 0:
        raise InputError(f"{url}: a row has no history: build the date again")
    return Rows(plain, own, history_of)


def _matrix(name: str, values: pa.Array) -> NDArray[Any]:
    """Return a column as an array over Arrow's own memory; lists have one length."""
    if not pa.types.is_list(values.type):
        return values.to_numpy(zero_copy_only=False)
    lengths = np.unique(np.diff(values.offsets.to_numpy()))
    if len(lengths) > 1:
        raise InputError(
            f"{name}: lists of {lengths[0]} to {lengths[-1]} ids; all must have one length"
        )
    return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)


def padded(name: str, values: pa.Array, length: int) -> NDArray[Any]:
    """Return lists as [lists, length], padded with zeros.

    Raises:
        InputError: a list is longer; ``name`` says of what.
    """
    lengths = np.diff(values.offsets.to_numpy())
    if lengths.max(initial=0) > length:
        raise InputError(f"{name}: a list of {lengths.max()} ids; at most {length} are expected")
    matrix = np.zeros((len(values), length), np.int32)
    matrix[np.arange(length) < lengths[:, None]] = values.flatten().to_numpy()
    return matrix
