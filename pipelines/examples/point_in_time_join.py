"""The point-in-time join: rows with the behaviours that were visible at their cutoff.

Targets (rows that need a history) and behaviours form one stream, sorted by user and by the time a
behaviour becomes visible. One vectorised sweep over its Arrow batches carries the newest L
behaviours of the current user from batch to batch, so memory is bounded however much a user did. A
behaviour is visible if ``time + lag < cutoff``, strictly: at equal times the target comes first.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.data.rows import padded
from din_model.features import AGE, AGE_BUCKETS, FeatureSpec, History

TARGET = -1
"""Value of the stream's ``_kind`` for targets; behaviours have the index of their kind."""

Columns = dict[str, NDArray[Any]]


class Ranges(NamedTuple):
    """The histories of a batch's targets: target i sees rows start[i] to end[i] of ``columns``."""

    columns: Columns
    start: NDArray[Any]
    end: NDArray[Any]

    def lists(self, names: Iterable[str], cutoff: NDArray[Any]) -> tuple[NDArray[Any], Columns]:
        """Return (offsets [n + 1] int32, name -> values [total]), target after target.

        Args:
            names: names in ``columns``, or the age (its bucket at each target's cutoff).
            cutoff: of each target [n], microseconds.
        """
        length = self.end - self.start
        offsets = np.r_[0, np.cumsum(length)].astype(np.int32)
        rows = np.arange(offsets[-1]) + np.repeat(self.start - offsets[:-1], length)
        values = {}
        for name in names:
            if name == AGE:
                values[name] = _age_bucket(np.repeat(cutoff, length) - self.columns["time"][rows])
            else:
                values[name] = self.columns[name][rows]
        return offsets, values


Emit = Callable[[pa.Table, list[Ranges]], pa.RecordBatch]


def _age_bucket(age: NDArray[Any]) -> NDArray[Any]:
    """Microseconds to bucket (see din_model.features); exact, because frexp is."""
    _, exponent = np.frexp(age // 10**6 + 1)
    return np.minimum(exponent, AGE_BUCKETS - 1).astype(np.int32)


def attach_history(
    targets: DataFrame, behaviours: DataFrame, spec: FeatureSpec, once_in: Sequence[str] = ()
) -> DataFrame:
    """Add to each target the newest L visible behaviours of each kind, oldest first.

    Args:
        targets: encoded user and ``cutoff`` (bigint, microseconds); other columns pass through.
        behaviours: user, kind, time and the mirrored item features, encoded.
        spec: the histories.
        once_in: two columns of the targets, a group and the order in it: of the targets of a user
            and cutoff in a group only the first has its history, and the others have null.

    Returns:
        The targets without ``cutoff``, with ``KIND__length`` (int) and ``KIND__FIELD``, packed: the
            bytes of int32 values, which cross Spark much faster than lists. ``unpack`` turns them
            into lists on the way to a file, ``unpacked`` in a frame.
    """
    columns = [T.StructField(h.column("length"), T.IntegerType()) for h in spec.histories]
    columns += [T.StructField(name, T.BinaryType()) for name in spec.history_lengths]
    passing = [f for f in targets.schema.fields if f.name != "cutoff"]
    schema = T.StructType(passing + columns)
    group = (spec.user, "_at", *once_in[:1]) if once_in else ()
    return sweep(
        targets, behaviours, spec, lambda histories: _pack(histories, schema.names, group), schema,
        once_in,
    )  # fmt: skip


def unpack(spec: FeatureSpec) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return a function that turns each ``KIND__FIELD`` into a list<int32>, or null."""
    packed = spec.history_lengths

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield replaced(batch, {name: _lists(batch.column(name)) for name in packed})

    return run


def unpacked(attached: DataFrame, spec: FeatureSpec) -> DataFrame:
    """Return the rows of ``attach_history`` with lists of length L, padded."""
    packed = spec.history_lengths

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return pad(unpack(spec)(batches), spec)

    schema = T.StructType(
        [
            T.StructField(f.name, T.ArrayType(T.IntegerType())) if f.name in packed else f
            for f in attached.schema.fields
        ]
    )
    return attached.mapInArrow(run, schema)


def pad(batches: Iterable[pa.RecordBatch], spec: FeatureSpec) -> Iterator[pa.RecordBatch]:
    """Pad each ``KIND__FIELD``, none of them null, with zeros to the length of its history."""
    for batch in batches:
        yield replaced(
            batch,
            {
                name: _of_length(name, batch.column(name), length)
                for name, length in spec.history_lengths.items()
            },
        )


def replaced(batch: pa.RecordBatch, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    """Return the batch with other values in some columns, which keep their places."""
    names = batch.schema.names
    every = dict(zip(names, batch.columns, strict=True)) | columns
    return pa.RecordBatch.from_arrays(list(every.values()), names)


def _of_length(name: str, lists: pa.ListArray, length: int) -> pa.ListArray:
    offsets = np.arange(len(lists) + 1, dtype=np.int32) * length
    return pa.ListArray.from_arrays(offsets, padded(name, lists, length).ravel())


def sweep(
    targets: DataFrame,
    behaviours: DataFrame,
    spec: FeatureSpec,
    make_emit: Callable[[Sequence[History]], Emit],
    schema: T.StructType,
    order: Sequence[str] = (),
) -> DataFrame:
    """Run ``emit`` over every batch's targets with their histories.

    ``make_emit`` is called once per task, on the executor. Its result gets the targets of a batch
    as a table, and one ``Ranges`` per history. ``order``: columns that sort the targets of a user
    and cutoff.
    """
    user, histories = spec.user, spec.histories
    # A behaviour uses the columns of the target's features: narrow rows are cheap to sort.
    mirrored = {f for h in histories for f in h.fields.values()} & set(behaviours.columns)
    fields = [f.name for f in spec.features if f.name in mirrored]
    left = targets.withColumnRenamed("cutoff", "_at")
    left = left.withColumn("_kind", F.lit(TARGET).cast("byte"))
    lags = F.array(*[F.lit(h.lag).cast("long") for h in histories])
    at = F.col("time") + F.element_at(lags, (F.col("kind") + 1).cast("int"))
    right = behaviours.select(user, at.alias("_at"), F.col("kind").alias("_kind"), *fields)
    stream = left.unionByName(right, allowMissingColumns=True).repartition(user)
    # Spark compares the first sort column in place and fetches the row for the others. One number
    # that orders by user and about a second decides almost every comparison.
    seconds = F.greatest(F.lit(0), F.least(F.lit(2**32 - 1), F.shiftright("_at", 20)))
    first = F.shiftleft(F.col(user).cast("long"), 32) + seconds
    stream = stream.withColumn("_first", first)
    stream = stream.sortWithinPartitions("_first", "_at", "_kind", *order, *fields).drop("_first")

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _sweep(batches, user, histories, make_emit(histories))

    return stream.mapInArrow(run, schema)


def _sweep(
    batches: Iterable[pa.RecordBatch], user: str, histories: Sequence[History], emit: Emit
) -> Iterator[pa.RecordBatch]:
    """Cut the sorted stream into histories, carrying each user's newest behaviours along.

    With length 2, user 7 has behaviours a, b, c and targets x, y, and a batch ends after b:

        batch 1:   7 a    7 x    7 b   |   batch 2:   7 c    7 y
        behaviours of batch 1   [a, b]     target x: end 1, start max(1 - 2, 0) = 0  -> [a]
        carried to batch 2      [a, b]     the newest 2 of the user that the batch ends with
        behaviours of batch 2   [a, b, c]  target y: end 3, start max(3 - 2, 0) = 1  -> [b, c]

    ``end`` counts the behaviours of the stream before a target, the carried ones included. The
    history may not start before the user's own first behaviour (``floor``): a user who begins
    within the batch owns nothing of what was carried.
    """
    carried: list[Columns] = []
    carried_user = None
    for batch in batches:
        if batch.num_rows == 0:
            continue
        users = batch.column(user).to_numpy()
        kinds = batch.column("_kind").to_numpy()
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
        first_row = np.repeat(starts, np.diff(np.r_[starts, len(users)]))
        targets = np.flatnonzero(kinds == TARGET)
        ranges, to_carry = [], []
        for k, history in enumerate(histories):
            of_kind = kinds == k
            columns = _columns(batch, history, of_kind)
            carried_rows = 0
            if carried and carried_user == users[0]:
                carried_rows = len(carried[k]["time"])
                columns = {n: np.concatenate([carried[k][n], columns[n]]) for n in columns}
            rows_before = np.cumsum(of_kind) - of_kind + carried_rows
            # The first user of the batch also owns the carried behaviours.
            floor = np.where(first_row == 0, 0, rows_before[first_row])
            end = rows_before[targets]
            ranges.append(Ranges(columns, np.maximum(end - history.length, floor[targets]), end))
            newest = max(len(columns["time"]) - history.length, floor[-1])
            to_carry.append({n: values[newest:] for n, values in columns.items()})
        carried, carried_user = to_carry, users[-1]
        if len(targets):
            yield emit(pa.Table.from_batches([batch]).take(targets), ranges)


def _columns(batch: pa.RecordBatch, history: History, of_kind: NDArray[Any]) -> Columns:
    mask = pa.array(of_kind)
    columns = {n: batch.column(f).filter(mask).to_numpy() for n, f in history.fields.items()}
    return columns | {"time": batch.column("_at").filter(mask).to_numpy() - history.lag}


def _pack(histories: Sequence[History], names: Sequence[str], group: Sequence[str]) -> Emit:
    """Emit the targets with the lengths and the packed fields of their histories.

    With columns ``group``, only the first of neighbouring targets with the same group has fields.
    """
    starts = RunStarts(group)

    def emit(targets: pa.Table, ranges: list[Ranges]) -> pa.RecordBatch:
        first = starts(targets) if group else np.ones(len(targets), bool)
        at = targets.column("_at").to_numpy()[first]
        for history, every in zip(histories, ranges, strict=True):
            length = (every.end - every.start).astype(np.int32)
            own = Ranges(every.columns, every.start[first], every.end[first])
            offsets, columns = own.lists(history.lists, at)
            targets = targets.append_column(history.column("length"), pa.array(length))
            for name, values in columns.items():
                packed = pa.py_buffer(values.astype(np.int32, copy=False))
                buffers = [None, pa.py_buffer(offsets * 4), packed]
                binary = pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
                targets = targets.append_column(history.column(name), at_starts(binary, first))
        return targets.select(names).combine_chunks().to_batches()[0]

    return emit


class RunStarts:
    """Finds the rows of batches that begin a run of equal values, over the ends of batches."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._last: list[Any] | None = None

    def __call__(self, batch: pa.Table | pa.RecordBatch) -> NDArray[Any]:
        """Return whether each row of the next batch, which has rows, begins a run [rows]."""
        columns = [batch.column(name).to_numpy() for name in self._names]
        differs = np.any([values[1:] != values[:-1] for values in columns], axis=0)
        first = [values[0] for values in columns]
        begins = np.r_[first != self._last, differs]
        self._last = [values[-1] for values in columns]
        return begins


def at_starts(values: pa.Array, starts: NDArray[Any]) -> pa.Array:
    """Return one value for each True in ``starts`` [rows], in order, and null for the others."""
    if starts.all():
        return values
    return values.take(pa.array(np.cumsum(starts) - 1, mask=~starts))


def _lists(packed: pa.Array) -> pa.Array:
    """Binary [rows] -> list<int32> [rows]; null stays null."""
    rows = len(packed)
    bounds = np.frombuffer(packed.buffers()[1], np.int32)[packed.offset :][: rows + 1] // 4
    values = pa.array([], pa.int32())
    if bounds[-1] > bounds[0]:
        values = pa.array(np.frombuffer(packed.buffers()[2], np.int32, bounds[-1])[bounds[0] :])
    missing = pa.array(packed.is_null().to_numpy(zero_copy_only=False))
    offsets = pa.array((bounds - bounds[0]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, values, mask=missing)
