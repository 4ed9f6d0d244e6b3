"""state(D): each user's newest L behaviours per kind at the end of D, and those not yet visible.

One row per user: ``KIND__time`` (array<bigint>, oldest first) and ``KIND__FIELD`` (array<int>) of
the same length. Building D reads state(D-1) and day D only; a cold build of many days gives the
same rows.
"""

from collections.abc import Sequence
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.features import FeatureSpec, History
from pipelines.examples.point_in_time_join import Emit, Ranges, sweep


def advance(
    state: DataFrame | None, behaviours: DataFrame, spec: FeatureSpec, end: int
) -> DataFrame:
    """Return the state at ``end`` (microseconds) from an earlier one and the behaviours since.

    Behaviours that happened but are not visible at ``end`` (because of their lag or a delayed
    click) are kept without limit. Users without new behaviours are passed through unread.
    """
    user = spec.user
    touched = behaviours.select(user).distinct()
    if state is not None:
        # Behaviours that were waiting may be visible now and push older ones out.
        longer = [F.size(h.column("time")) > h.length for h in spec.histories]
        trimmed = state.where(reduce(lambda a, b: a | b, longer)).select(user)
        touched = touched.union(trimmed).distinct()
        past = as_behaviours(state.join(touched, user, "left_semi"), spec)
        behaviours = behaviours.unionByName(past, allowMissingColumns=True)
    targets = touched.withColumn("cutoff", F.lit(end))
    schema = _schema(behaviours, spec)
    fresh = sweep(targets, behaviours, spec, lambda histories: _lists(histories, user), schema)
    for k, history in enumerate(spec.histories):
        waiting = behaviours.where((F.col("kind") == k) & (F.col("time") + history.lag >= end))
        fresh = _append_waiting(fresh, waiting, history, user)
    if state is None:
        return fresh
    return state.join(touched, user, "left_anti").unionByName(fresh)


def as_behaviours(state: DataFrame, spec: FeatureSpec) -> DataFrame:
    """Return the state as rows: user, kind, time and the mirrored item features."""
    frames = []
    for k, history in enumerate(spec.histories):
        names = {"time": "time"} | history.fields
        zipped = F.arrays_zip(*[F.col(history.column(n)).alias(n) for n in names])
        rows = state.select(spec.user, F.explode(zipped).alias("_"))
        values = [F.col(f"_.{n}").alias(name) for n, name in names.items()]
        frames.append(rows.select(spec.user, F.lit(k).cast("byte").alias("kind"), *values))
    return reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), frames)


def _append_waiting(fresh: DataFrame, waiting: DataFrame, history: History, user: str) -> DataFrame:
    if waiting.isEmpty():
        return fresh
    names = {"time": "time"} | history.fields
    pair = F.struct(*[F.col(name).alias(n) for n, name in names.items()])
    lists = waiting.groupBy(user).agg(F.sort_array(F.collect_list(pair)).alias("_waiting"))
    joined = fresh.join(lists, user, "left")
    for n in names:
        column = history.column(n)
        longer = F.concat(column, F.col("_waiting")[n])
        joined = joined.withColumn(column, F.coalesce(longer, column))
    return joined.drop("_waiting")


def _schema(behaviours: DataFrame, spec: FeatureSpec) -> T.StructType:
    fields = [behaviours.schema[spec.user]]
    for history in spec.histories:
        fields.append(T.StructField(history.column("time"), T.ArrayType(T.LongType())))
        for name in history.fields:
            fields.append(T.StructField(history.column(name), T.ArrayType(T.IntegerType())))
    return T.StructType(fields)


def _lists(histories: Sequence[History], user: str) -> Emit:
    """Emit the targets (users) with their histories as lists."""

    def emit(targets: pa.Table, ranges: list[Ranges]) -> pa.RecordBatch:
        columns, names = [targets.column(user)], [user]
        for history, ranges_of_kind in zip(histories, ranges, strict=True):
            offsets, values = ranges_of_kind.lists(("time", *history.fields), targets.column("_at"))
            for name in values:
                lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[name]))
                columns.append(lists.cast(pa.list_(pa.int64() if name == "time" else pa.int32())))
                names.append(history.column(name))
        return pa.Table.from_arrays(columns, names).combine_chunks().to_batches()[0]

    return emit
