"""Joins rows with what their user did before: the heart of the pipeline.

Targets (rows that want a history) and behaviours meet in one stream, sorted by user and by the
moment a behaviour becomes visible. One sweep over its Arrow batches, vectorised in NumPy, carries
the newest L behaviours of the current user from batch to batch, so memory is bounded however much
one user did. A behaviour is visible when ``time + lag < cutoff``, strictly: at equal moments the
target comes first.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.features import FeatureSpec, History

TARGET = -1
"""In the stream's ``_kind`` column, where a behaviour has the index of its history."""

Columns = dict[str, np.ndarray]


class Ranges(NamedTuple):
    """The histories of a batch's targets: target i saw rows start[i] to end[i] of ``columns``."""

    columns: Columns
    start: np.ndarray
    end: np.ndarray

    def ragged(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (offsets [n + 1] int32, rows of ``columns`` [total]), target after target."""
        length = self.end - self.start
        offsets = np.r_[0, np.cumsum(length)].astype(np.int32)
        rows = np.arange(offsets[-1]) + np.repeat(self.start - offsets[:-1], length)
        return offsets, rows


Emit = Callable[[pa.Table, list[Ranges]], pa.RecordBatch]


def attach_history(targets: DataFrame, behaviours: DataFrame, spec: FeatureSpec) -> DataFrame:
    """Add to each target the newest L visible behaviours of each kind, oldest first.

    Args:
        targets: the user column (encoded) and ``cutoff`` (bigint, microseconds), others pass.
        behaviours: user, kind, time and the mirrored item features, encoded.

    Returns:
        The targets less ``cutoff``, with ``KIND__FIELD`` (array<int> of exactly L, padded with 0 at
        the end) and ``KIND__length`` (int).
    """
    columns = [T.StructField(h.column("length"), T.IntegerType()) for h in spec.histories]
    columns += [
        T.StructField(h.column(name), T.ArrayType(T.IntegerType()))
        for h in spec.histories
        for name in h.fields
    ]
    passing = [f for f in targets.schema.fields if f.name != "cutoff"]
    schema = T.StructType(passing + columns)
    return sweep(
        targets, behaviours, spec, lambda histories: _padded(histories, schema.names), schema
    )


def sweep(
    targets: DataFrame,
    behaviours: DataFrame,
    spec: FeatureSpec,
    make_emit: Callable[[Sequence[History]], Emit],
    schema: T.StructType,
) -> DataFrame:
    """Run ``emit`` over every batch's targets with their histories.

    ``make_emit`` is called once a task, on the executor; what it returns gets the targets of a
    batch as a table, and one ``Ranges`` a history.
    """
    item_features = list(dict.fromkeys(f for h in spec.histories for f in h.fields.values()))
    own = [F.col(c) for c in targets.columns if c != "cutoff"]
    user = F.col(spec.user).alias("_user")
    left = targets.select(
        user, F.col("cutoff").alias("_at"), F.lit(TARGET).cast("byte").alias("_kind"), *own
    )
    lags = F.array(*[F.lit(h.lag).cast("long") for h in spec.histories])
    at = F.col("time") + F.element_at(lags, (F.col("kind") + 1).cast("int"))
    fields = [
        F.col(name).alias(f"_b_{name}") for name in item_features if name in behaviours.columns
    ]
    right = behaviours.select(
        user, at.alias("_at"), F.col("kind").alias("_kind"), F.col("time").alias("_b_time"), *fields
    )
    stream = left.unionByName(right, allowMissingColumns=True)
    order = ["_user", "_at", "_kind", *[c for c in stream.columns if c.startswith("_b_")]]
    stream = stream.repartition("_user").sortWithinPartitions(*order)
    histories = spec.histories

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _sweep(batches, histories, make_emit(histories))

    return stream.mapInArrow(run, schema)


def _sweep(
    batches: Iterable[pa.RecordBatch], histories: Sequence[History], emit: Emit
) -> Iterator[pa.RecordBatch]:
    carried: list[Columns] = []
    carried_user = None
    for batch in batches:
        if batch.num_rows == 0:
            continue
        users = batch.column("_user").to_numpy()
        kinds = batch.column("_kind").to_numpy()
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
        first_row = np.repeat(starts, np.diff(np.r_[starts, len(users)]))
        targets = np.flatnonzero(kinds == TARGET)
        ranges, kept = [], []
        for k, history in enumerate(histories):
            mine = kinds == k
            columns = _columns(batch, history, mine)
            held = 0
            if carried and carried_user == users[0]:
                held = len(carried[k]["time"])
                columns = {n: np.concatenate([carried[k][n], columns[n]]) for n in columns}
            above = np.cumsum(mine) - mine + held
            # The user that the batch begins with also owns what was carried.
            floor = np.where(first_row == 0, 0, above[first_row])
            end = above[targets]
            ranges.append(Ranges(columns, np.maximum(end - history.length, floor[targets]), end))
            newest = max(len(columns["time"]) - history.length, floor[-1])
            kept.append({n: values[newest:] for n, values in columns.items()})
        carried, carried_user = kept, users[-1]
        if len(targets):
            yield emit(pa.Table.from_batches([batch]).take(targets), ranges)


def _columns(batch: pa.RecordBatch, history: History, mine: np.ndarray) -> Columns:
    mask = pa.array(mine)
    sources = {"time": "_b_time"} | {name: f"_b_{f}" for name, f in history.fields.items()}
    return {name: batch.column(c).filter(mask).to_numpy() for name, c in sources.items()}


def _padded(histories: Sequence[History], names: Sequence[str]) -> Emit:
    def emit(targets: pa.Table, ranges: list[Ranges]) -> pa.RecordBatch:
        for history, (columns, start, end) in zip(histories, ranges, strict=True):
            length = (end - start).astype(np.int32)
            targets = targets.append_column(history.column("length"), pa.array(length))
            steps = np.arange(history.length)
            inside = steps < length[:, None]
            where = np.where(inside, start[:, None] + steps, 0)
            offsets = np.arange(len(length) + 1, dtype=np.int32) * history.length
            for name in history.fields:
                values = columns[name].astype(np.int32)
                taken = values[where] if len(values) else np.zeros(where.shape, np.int32)
                values = np.where(inside, taken, np.int32(0))
                lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))
                targets = targets.append_column(history.column(name), lists)
        return targets.select(names).combine_chunks().to_batches()[0]

    return emit
