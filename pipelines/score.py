"""Scores a table of candidates on the executors: the UDF, and the frame around it.

Candidates meet the state in the same sweep that makes examples (pipelines.history), so the history
at night is the history of training. Within a batch, all of a user's candidates share one history:
it is moved and embedded once.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pyspark import SparkFiles
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.artefact import Facts, load
from din_model.batch import Histories, with_histories
from din_model.config import Section
from din_model.features import UNKNOWN, FeatureSpec, History
from din_model.interest import pairs_of
from din_model.memory import keep_freed
from din_model.model import DIN
from pipelines.history import Emit, Ranges, attach_history, sweep, unpacked
from pipelines.sources import start_of
from pipelines.state import as_behaviours
from pipelines.vocabulary import decode, encode, padded

ROWS_AT_ONCE = 2048
"""Candidates in one forward pass: bounds the memory of a worker, whatever a user has to score."""


@dataclass(frozen=True)
class ScoreConfig(Section):
    """``model``: None is the champion; else a version, ``@alias`` or ``models:/NAME/7``.

    ``because``: so many behaviours that weighed most are written with each score.
    ``replay``: score the impressions of the date itself, and compare their histories with the
    examples'; nothing is published.
    """

    model: str | None = None
    because: int = 0
    replay: bool = False


def ship(spark: SparkSession, model_folder: Path, name: str) -> str:
    """Send a model's files to every executor, once; return what ``score`` is to call them."""
    place = Path(tempfile.mkdtemp()) / f"{name}-{os.urandom(4).hex()}"
    shutil.copytree(model_folder, place)
    spark.sparkContext.addFile(str(place), recursive=True)
    return place.name


def score(
    candidates: DataFrame,
    state: DataFrame,
    spec: FeatureSpec,
    shipped: str,
    day: date,
    because: int,
) -> DataFrame:
    """Return user, item, score, history_length, unknown_item and, if asked, because.

    Args:
        candidates: encoded (see ``encoded``), one row a (user, item).
        state: the state at the end of the day before ``day``.
        because: number of behaviours to tell, as array<struct<kind, item (id), weight>>.
    """
    targets = candidates.withColumn("cutoff", F.lit(start_of(day, spec.time_zone)))
    columns = [
        T.StructField("user_key", T.StringType()),
        T.StructField("item_key", T.StringType()),
        T.StructField("score", T.DoubleType()),
        T.StructField("history_length", T.IntegerType()),
        T.StructField("unknown_item", T.BooleanType()),
    ]
    reason = T.StructType(
        [
            T.StructField("kind", T.StringType()),
            T.StructField("item", T.IntegerType()),
            T.StructField("weight", T.DoubleType()),
        ]
    )
    if because:
        columns.append(T.StructField("because", T.ArrayType(reason)))
    behaviours = as_behaviours(state, spec)
    schema = T.StructType(columns)
    return sweep(targets, behaviours, spec, lambda _: scorer(*_model(shipped), because), schema)


def encoded(candidates: DataFrame, spec: FeatureSpec, vocabulary: DataFrame) -> DataFrame:
    """Encode candidates as examples are, keeping the user's and item's own keys beside the ids."""
    keyed = candidates.withColumns({"user_key": F.col(spec.user), "item_key": F.col(spec.item)})
    rows = encode(keyed, spec.features, vocabulary)
    lists = [f for f in spec.features if f.is_list]
    whole = rows.drop(*[f.name for f in lists]).columns
    return rows.select(*whole, *[column for f in lists for column in padded(f)])


def finished(
    scores: DataFrame, spec: FeatureSpec, vocabulary: DataFrame, because: int
) -> DataFrame:
    """Rank within each user, and give users, items and reasons their own keys and types."""
    user, item = spec[spec.user], spec[spec.item]
    best_first = Window.partitionBy("user_key").orderBy(F.desc("score"), "item_key")
    rows = scores.withColumn("rank", F.row_number().over(best_first))
    if because:
        told = rows.select("user_key", "item_key", F.posexplode("because").alias("pos", "why"))
        told = told.select("user_key", "item_key", "pos", "why.kind", "why.item", "why.weight")
        pairs = [(h.kind, spec.told_by(h).vocabulary) for h in spec.histories]
        of_kind = F.create_map(*[F.lit(name) for pair in pairs for name in pair])
        told = decode(told, "item", of_kind[F.col("kind")], vocabulary)
        why = F.sort_array(F.collect_list(F.struct("pos", "kind", "item", "weight")))
        told = told.groupBy("user_key", "item_key").agg(why.alias("because"))
        told = told.withColumn(
            "because", F.expr("transform(because, w -> named_struct('kind', w.kind, 'item', w.item,"
                              " 'weight', w.weight))")
        )  # fmt: skip
        rows = rows.drop("because").join(told, ["user_key", "item_key"], "left")
    kinds = {"int64": "bigint", "string": "string"}
    columns = [
        F.col("user_key").cast(kinds[user.type]).alias(user.name),
        F.col("item_key").cast(kinds[item.type]).alias(item.name),
        *[
            c
            for c in ("score", "rank", "history_length", "unknown_item", "because")
            if c in rows.columns
        ],
    ]
    return rows.select(*columns)


def scorer(model: DIN, facts: Facts, because: int) -> Emit:
    """The UDF's own function: a batch's targets and their histories -> one row a target."""

    def emit(targets: pa.Table, ranges: list[Ranges]) -> pa.RecordBatch:
        parts = []
        for start in range(0, len(targets), ROWS_AT_ONCE):
            part = targets.slice(start, ROWS_AT_ONCE)
            those = [
                r._replace(start=r.start[start:][:ROWS_AT_ONCE], end=r.end[start:][:ROWS_AT_ONCE])
                for r in ranges
            ]
            parts.append(_score_part(model, facts, part, those, because))
        return pa.concat_tables(parts).combine_chunks().to_batches()[0]

    return emit


@torch.inference_mode()
def _score_part(
    model: DIN, facts: Facts, targets: pa.Table, ranges: list[Ranges], because: int
) -> pa.Table:
    spec = model.spec
    columns = {n: _array(targets.column(n)) for n in targets.column_names if _is_id(targets, n)}
    histories, history_of = shared_histories(
        spec.histories, ranges, targets.column("_at").to_numpy()
    )
    batch = with_histories(columns, spec, histories, history_of)
    logits, weights = model.explain(batch)
    length = sum(r.end - r.start for r in ranges)
    names = ["user_key", "item_key", "score", "history_length", "unknown_item"]
    arrays = [
        targets.column("user_key"),
        targets.column("item_key"),
        pa.array(facts.probability(logits).numpy()),
        pa.array(np.asarray(length, np.int32)),
        pa.array(columns[spec.item] == UNKNOWN),
    ]
    if because:
        names.append("because")
        arrays.append(_because(spec, batch.histories, history_of, weights, len(targets), because))
    return pa.Table.from_arrays(arrays, names)


def shared_histories(
    histories: Sequence[History], ranges: Sequence[Ranges], cutoff: np.ndarray
) -> tuple[dict[str, Histories], torch.Tensor]:
    """Keep each distinct history once: (kind -> histories [H], history of each target [B])."""
    bounds = np.stack([x for r in ranges for x in (r.start, r.end)], axis=1)
    # A user's targets are neighbours, so a change of bounds is a new history.
    new = np.r_[True, (bounds[1:] != bounds[:-1]).any(axis=1)]
    first = np.flatnonzero(new)
    made = {}
    for history, found in zip(histories, ranges, strict=True):
        distinct = found._replace(start=found.start[first], end=found.end[first])
        offsets, values = distinct.lists(history.lists, cutoff[first])
        fields = {n: torch.from_numpy(v.astype(np.int64)) for n, v in values.items()}
        made[history.kind] = Histories(fields, torch.from_numpy(offsets.astype(np.int64)))
    return made, torch.from_numpy(np.cumsum(new) - 1)


def _because(
    spec: FeatureSpec, histories: dict[str, Histories], history_of: torch.Tensor,
    weights: dict[str, torch.Tensor], rows: int, most: int,
) -> pa.Array:  # fmt: skip
    """The behaviours of largest weight of each row, largest first."""
    row, kind, item, weight = [], [], [], []
    for k, history in enumerate(spec.histories):
        pairs = pairs_of(histories[history.kind], history_of)
        name = next(n for n, f in history.fields.items() if f == spec.told_by(history).name)
        row.append(pairs.row.numpy())
        kind.append(np.full(len(pairs.row), k))
        item.append(pairs.of_behaviour(histories[history.kind].fields[name]).numpy())
        weight.append(weights[history.kind].numpy())
    rows_, kinds, items, values = map(np.concatenate, (row, kind, item, weight))
    order = np.lexsort((items, -values, rows_))
    start = np.searchsorted(rows_[order], np.arange(rows + 1))
    nth = np.arange(len(order)) - start[rows_[order]]
    order = order[nth < most]
    offsets = np.searchsorted(rows_[order], np.arange(rows + 1)).astype(np.int32)
    names = np.array([h.kind for h in spec.histories], dtype=object)
    struct = pa.StructArray.from_arrays(
        [
            pa.array(names[kinds[order]], pa.string()),
            pa.array(items[order].astype(np.int32)),
            pa.array(values[order].astype(np.float64)),
        ],
        ["kind", "item", "weight"],
    )
    return pa.ListArray.from_arrays(pa.array(offsets), struct)


@lru_cache(maxsize=1)
def _model(shipped: str) -> tuple[DIN, Facts]:
    """Loaded once a worker process; its threads are the task's slots."""
    keep_freed()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return load(Path(SparkFiles.get(shipped)))


def _is_id(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return not name.startswith("_") and (pa.types.is_integer(kind) or pa.types.is_list(kind))


def _array(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_list(column.type):
        flat = column.combine_chunks().flatten().to_numpy()
        return flat.reshape(len(column), -1)
    return column.to_numpy()


def replay_differences(
    shown: DataFrame, examples: DataFrame, state: DataFrame, spec: FeatureSpec, day: date
) -> tuple[int, int]:
    """Attach histories to impressions the way the night does; return (rows, rows that differ).

    Args:
        shown: the good impressions of ``day``, encoded, with example_id.
        examples: the published examples of the same day.
    """
    targets = shown.withColumn("cutoff", F.lit(start_of(day, spec.time_zone)))
    again = unpacked(attach_history(targets, as_behaviours(state, spec), spec), spec)
    columns = [h.column(c) for h in spec.histories for c in ("length", *h.lists)]
    key = ["example_id", spec.user, spec.item]
    fingerprint = F.xxhash64(*key, *columns)
    first = examples.select(fingerprint.alias("hash")).groupBy("hash").count()
    second = again.select(fingerprint.alias("hash")).groupBy("hash").count()
    paired = first.join(second.withColumnRenamed("count", "replayed"), "hash", "full")
    gap = F.abs(F.coalesce("count", F.lit(0)) - F.coalesce("replayed", F.lit(0)))
    total = paired.agg(F.sum(F.coalesce("count", F.lit(0))), F.sum(gap)).first()
    assert total is not None
    return int(total[0] or 0), int(total[1] or 0)
