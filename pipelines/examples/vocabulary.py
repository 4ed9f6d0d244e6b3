"""Append-only vocabularies: a key gets an id at first sight, and the id never changes.

0 is padding and 1 unknown (din_model.features). Ids follow the order (first date, key), so they
depend neither on partitioning nor on whether days are built one by one or together. The part
published for a date holds the keys first seen when it was built; the parts together are the
vocabulary.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from din_model.errors import InputError, reading
from din_model.features import FIRST_ID, PADDING, UNKNOWN, Feature, FeatureSpec
from pipelines.caching import caching
from pipelines.columns import finite
from pipelines.examples.partitioning import with_rank
from pipelines.store.data_sets import STATE, VOCABULARY
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store

SCHEMA = "vocabulary string, key string, id int"


def open_vocabulary(spark: SparkSession, store: Store) -> tuple[DataFrame, dict[str, int]]:
    """Return all (vocabulary, key, id) of the store, and the next free id of each vocabulary."""
    manifests = store.manifests(VOCABULARY)
    next_id: dict[str, int] = {}
    for manifest in manifests:
        for name, free_id in manifest.facts["next_id"].items():
            next_id[name] = max(free_id, next_id.get(name, FIRST_ID))
    with_rows = [m for m in manifests if m.rows]
    table = store.read(spark, with_rows) if with_rows else spark.createDataFrame([], SCHEMA)
    return table, next_id


def key_batches(store: Store, spec: FeatureSpec) -> Iterator[pa.RecordBatch]:
    """Return all (vocabulary, key, id) of a store without Spark, a batch in memory at a time.

    Raises:
        InputError: nothing is built in the store, or with another spec; or a file cannot be read.
    """
    built = store.manifests(STATE)
    if not built or FeatureSpec.from_json(built[-1].facts["spec"]).hash != spec.hash:
        raise InputError(
            f"{store.url}: was not built with the spec of the model, so its ids are others: set"
            " store.path to the store that the model was trained on"
        )
    return chain.from_iterable(map(partial(_batches, store), store.manifests(VOCABULARY)))


def _batches(store: Store, part: Manifest) -> Iterator[pa.RecordBatch]:
    for url in store.urls(part):
        with reading(url), store.fs.open(url, "rb") as file:
            yield from pq.ParquetFile(file).iter_batches(columns=["vocabulary", "key", "id"])


def keys_of(rows: DataFrame, features: Sequence[Feature]) -> DataFrame:
    """Return (vocabulary, key, day) of every value in ``rows``, which has features and time."""
    day = F.to_date(F.timestamp_micros("time")).alias("day")
    pairs = []
    for f in features:
        if f.type != "number":
            keys = F.col(f.name) if f.is_list else F.array(f.name)
            pairs.append(F.struct(F.lit(f.vocabulary).alias("vocabulary"), keys.alias("keys")))
    each = rows.select(day, F.explode(F.array(*pairs)).alias("pair"))
    each = each.select("day", "pair.vocabulary", F.explode("pair.keys").alias("key"))
    return each.where("key is not null")


def require_unique(vocabulary: DataFrame, part: DataFrame) -> None:
    """Check that no key and no id is there twice: it would double every row that holds it.

    Args:
        vocabulary: all parts.
        part: the part whose ids are new.

    Raises:
        InputError: a key is there twice, or a new id.
    """
    for rows, column in ((vocabulary, "key"), (part, "id")):
        counts = rows.groupBy("vocabulary", column).count()
        if repeated := counts.where("count > 1").limit(1).collect():
            name, value, count = repeated[0]
            raise InputError(
                f"vocabulary: {column} {value!r} of {name} is there {count} times: run the job"
                " again, or build it anew in another store.path"
            )


# Over 50 lines with its docstring; it is one SQL plan, read from top to bottom.
@caching()
def grow(store: Store, day: date, keys: DataFrame) -> Manifest:
    """Assign ids to new keys, and publish them as the part of ``day``.

    Rebuilding a date keeps the ids of its first build; only keys never seen get new ones. In the
    manifest, ``first_new`` is the first id of the day's own keys in each vocabulary that had keys
    before, and ``known`` the next id when the date was first built.

    Args:
        store: where it is published.
        day: the date.
        keys: (vocabulary, key, day), once per occurrence.

    Raises:
        InputError: more than 2^31 keys in a vocabulary, or another number of rows written.
    """
    spark = keys.sparkSession
    known, next_id = open_vocabulary(spark, store)
    first_seen = keys.groupBy("vocabulary", "key").agg(F.min("day").alias("day"))
    new = first_seen.join(known, ["vocabulary", "key"], "left_anti")
    ranked = with_rank(new, "vocabulary", "day", "key")
    counts = dict(sorted(map(tuple, ranked.groupBy("vocabulary").count().collect())))
    first_new = {name: next_id[name] for name in counts if name in next_id}
    shift, total = {}, 0
    for name, count in counts.items():
        shift[name] = next_id.get(name, FIRST_ID) - total
        next_id[name] = next_id.get(name, FIRST_ID) + count
        total += count
    if any(following > 2**31 - 1 for following in next_id.values()):
        raise InputError(
            f"vocabulary of {day}: more than 2^31 keys in one of {sorted(next_id)}: hash the keys"
        )
    shifts = spark.createDataFrame(
        sorted(shift.items()) or [("", 0)], "vocabulary string, shift long"
    )
    numbered = ranked.join(F.broadcast(shifts), "vocabulary")
    part = numbered.select(
        "vocabulary", "key", (F.col("rank") + F.col("shift")).cast("int").alias("id")
    )
    before = store.manifest(VOCABULARY, day)
    if before and before.rows:
        part = store.read(spark, [before]).unionByName(part)
        first_new |= before.facts["first_new"]

    def check(manifest: Manifest) -> None:
        expected = total + (before.rows if before else 0)
        if manifest.rows != expected:
            raise InputError(
                f"vocabulary of {day}: {manifest.rows} rows were written instead of {expected}:"
                " run the job again"
            )
        written = store.read(spark, [manifest])
        parts = [m for m in store.manifests(VOCABULARY) if m.date != str(day) and m.rows]
        everything = store.read(spark, parts).unionByName(written) if parts else written
        require_unique(everything, written)

    part = part.orderBy("vocabulary", "id")
    known_then = before.facts["known"] if before and not counts else dict(next_id)
    facts = {"next_id": next_id, "new": counts, "first_new": first_new, "known": known_then}
    return store.publish(VOCABULARY, day, part, facts, check)


def encode(rows: DataFrame, features: Sequence[Feature], vocabulary: DataFrame) -> DataFrame:
    """Replace keys by ids (lists: array<int>) and numbers by bucket ids; unknown and null by 1.

    Numbers that enter the model as values stay as they are, NaN if missing or not finite.
    """
    for f in features:
        if f.is_value:
            nothing = F.lit(float("nan")).cast("float")
            rows = rows.withColumn(f.name, F.coalesce(finite(F.col(f.name)), nothing))
            continue
        if f.type == "number":
            value = F.col(f.name)
            above = sum((value >= b).cast("int") for b in f.boundaries)
            missing = value.isNull() | F.isnan(value)
            rows = rows.withColumn(f.name, F.when(missing, UNKNOWN).otherwise(above + FIRST_ID))
            continue
        ids = vocabulary.where(F.col("vocabulary") == f.vocabulary).select("key", "id")
        rows = _encode_lists(rows, f, ids) if f.is_list else _encode_keys(rows, f, ids)
    return rows


def padded(feature: Feature) -> list[Column]:
    """Return an encoded list as stored in examples: ``max_length`` ids, padded, and its length."""
    filler = F.array_repeat(F.lit(PADDING), feature.max_length)
    values = F.slice(F.concat(feature.name, filler), 1, feature.max_length)
    return [values.alias(feature.name), F.size(feature.name).alias(f"{feature.name}__length")]


def decode(rows: DataFrame, column: str, of: Column, vocabulary: DataFrame) -> DataFrame:
    """Replace ids by keys of the vocabulary named ``of``; null for ids without a key."""
    keys = vocabulary.select(
        F.col("vocabulary").alias("_of"), F.col("id").alias(column), F.col("key").alias("_key")
    )
    joined = rows.withColumn("_of", of).join(keys, ["_of", column], "left").drop("_of", column)
    return joined.withColumnRenamed("_key", column)


def _encode_keys(rows: DataFrame, feature: Feature, ids: DataFrame) -> DataFrame:
    ids = ids.withColumnsRenamed({"key": feature.name, "id": "_id"})
    joined = rows.join(ids, feature.name, "left")
    return joined.withColumn(feature.name, F.coalesce("_id", F.lit(UNKNOWN))).drop("_id")


def _encode_lists(rows: DataFrame, feature: Feature, ids: DataFrame) -> DataFrame:
    """Encode each distinct list once, and join it back."""
    cut = F.slice(F.coalesce(feature.name, F.array().cast("array<string>")), 1, feature.max_length)
    rows = rows.withColumn(feature.name, cut)
    parts = rows.select(feature.name).distinct().select("*", F.posexplode(feature.name))
    parts = parts.join(ids, parts["col"] == ids["key"], "left")
    pair = F.struct("pos", F.coalesce("id", F.lit(UNKNOWN)).alias("id"))
    lists = parts.groupBy(feature.name).agg(F.sort_array(F.collect_list(pair))["id"].alias("_ids"))
    joined = rows.join(lists, feature.name, "left")
    empty = F.array().cast("array<int>")
    return joined.withColumn(feature.name, F.coalesce("_ids", empty)).drop("_ids")
