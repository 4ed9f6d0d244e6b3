"""Scores a table of candidates on the executors: what meets where, and what comes out.

Candidates and the state's rows, one a user, meet in one stream sorted by user; pipelines.scoring.udf does
the rest. A user's history is not joined to each of the candidates, and ranks are told where the
scores are made, without another shuffle.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from din_model.features import UNKNOWN, FeatureSpec
from pipelines.examples.vocabulary import decode, encode, padded
from pipelines.scoring.udf import GROUP, IS_STATE, ITEM, USER, Batches, Task, loaded, score_batches

PARTS_BITS = 20
"""The low bits of a group are the part of a user whose candidates are split over tasks."""

HASH_BITS = 42

LARGEST = 20_000
"""Candidates of one user that a task takes; a user with more is split."""

COLUMNS = {
    USER: "string",
    ITEM: "string",
    "score": "double",
    "rank": "int",
    "history_length": "int",
    "unknown_user": "boolean",
    "unknown_item": "boolean",
    "explanations": "array<struct<kind: string, item: int, weight: double>>",
}
"""What a task tells of a candidate, the last one only where it is asked for."""


@dataclass(frozen=True)
class Night:
    """What is to be done for a date, by a model that has been sent to the executors."""

    spec: FeatureSpec
    shipped: str
    task: Task


@dataclass(frozen=True)
class Candidates:
    """A night's candidates, encoded and counted.

    ``counts``: ``candidates``, of which ``good`` and ``refused``; and how many good ones are
    ``below_top``, and will not be written.
    """

    rows: DataFrame
    sizes: DataFrame  # (_group, good)
    counts: dict[str, int]

    @property
    def good(self) -> DataFrame:
        return self.rows.where("reason is null").drop("reason", "raw")

    @property
    def refused(self) -> DataFrame:
        return self.rows.where("reason is not null").select("reason", "raw").coalesce(1)

    def forget(self) -> None:
        """Let go of what ``counted`` keeps in memory."""
        self.rows.unpersist()
        self.sizes.unpersist()


def ship(spark: SparkSession, model_folder: Path) -> str:
    """Send a model's files to every executor, once; return what a task is to call them.

    They go as an archive: Spark sends no folder of the driver's disk to a cluster.
    """
    name = f"model-{os.urandom(4).hex()}"
    archive = shutil.make_archive(f"{tempfile.mkdtemp()}/{name}", "zip", model_folder)
    spark.sparkContext.addArchive(f"{archive}#{name}")
    return name


def encoded(candidates: DataFrame, spec: FeatureSpec, vocabulary: DataFrame) -> DataFrame:
    """Encode candidates as examples are, keep the keys of user and item, and add the group."""
    keyed = candidates.withColumns({USER: F.col(spec.user), ITEM: F.col(spec.item)})
    rows = encode(keyed, spec.features, vocabulary)
    lists = [f for f in spec.features if f.is_list]
    whole = rows.drop(*[f.name for f in lists]).columns
    rows = rows.select(*whole, *[column for f in lists for column in padded(f)])
    # Nobody knows the users of id 1, who are many: each is a group by a hash of the key.
    hashed = -1 - F.xxhash64(USER).bitwiseAND(F.lit((1 << HASH_BITS) - 1))
    user = F.when(F.col(spec.user) == UNKNOWN, hashed).otherwise(F.col(spec.user).cast("long"))
    return rows.withColumn(GROUP, F.shiftleft(user, PARTS_BITS))


def counted(rows: DataFrame, top: int | None) -> Candidates:
    """Count ``encoded`` candidates; they are read once and kept, until ``rows`` are unpersisted."""
    rows = rows.persist()
    good = F.col("reason").isNull().cast("long")
    sizes = rows.groupBy(GROUP).agg(F.sum(good).alias("good"), F.count("*").alias("candidates"))
    sizes = sizes.persist()
    over = F.greatest(F.col("good") - (top or 2**62), F.lit(0)).alias("below_top")
    sums = sizes.select("candidates", "good", over).groupBy().sum().first()
    assert sums is not None
    candidates, kept, below = (int(n or 0) for n in sums)
    counts = {"candidates": candidates, "good": kept, "below_top": below}
    return Candidates(rows, sizes, counts | {"refused": candidates - kept})


def score(candidates: DataFrame, sizes: DataFrame, state: DataFrame, night: Night) -> DataFrame:
    """Return user_key, item_key, score, rank and what is known of them; see ``COLUMNS``.

    Args:
        candidates: ``encoded``, good ones, one row a (user, item).
        sizes: (_group, good), the candidates of each.
        state: the state at the end of the day before.
    """
    spec, sizes = night.spec, sizes.where("good > 0")
    group = F.shiftleft(F.col(spec.user).cast("long"), PARTS_BITS)
    state = state.withColumn(GROUP, group).join(sizes.select(GROUP), GROUP, "left_semi")
    parts = F.ceil(F.col("good") / LARGEST).cast("int").alias("parts")
    large = F.broadcast(sizes.where(F.col("good") > LARGEST).select(GROUP, parts))
    if large.isEmpty():
        return _sweep(candidates, state, night)
    usual = _sweep(candidates.join(large, GROUP, "left_anti"), state, night)
    part = F.pmod(F.xxhash64(ITEM), F.col("parts"))
    split = candidates.join(large, GROUP).withColumn(GROUP, F.col(GROUP) + part).drop("parts")
    shared = state.join(large, GROUP).withColumn(
        "part", F.explode(F.expr("sequence(0, parts - 1)"))
    )
    shared = shared.withColumn(GROUP, F.col(GROUP) + F.col("part")).drop("part", "parts")
    best_first = Window.partitionBy(USER).orderBy(F.desc("score"), ITEM)
    ranked = _sweep(split, shared, night).withColumn("rank", F.row_number().over(best_first))
    if night.task.top:
        ranked = ranked.where(F.col("rank") <= night.task.top)
    return usual.unionByName(ranked)


def _sweep(candidates: DataFrame, state: DataFrame, night: Night) -> DataFrame:
    left = candidates.withColumn(IS_STATE, F.lit(False))
    right = state.withColumn(IS_STATE, F.lit(True))
    stream = left.unionByName(right, allowMissingColumns=True).repartition(GROUP)
    # One number to sort by, which Spark does by radix: the group, its state first.
    turn = F.shiftleft(GROUP, 1) + (~F.col(IS_STATE)).cast("int")
    stream = stream.withColumn("_turn", turn).sortWithinPartitions("_turn").drop("_turn")
    names = [name for name in COLUMNS if name != "explanations" or night.task.explain]

    def run(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in score_batches(batches, *loaded(night.shipped), night.task):
            yield batch.select(names)

    return stream.mapInArrow(run, ", ".join(f"{name} {COLUMNS[name]}" for name in names))


def finished(scores: DataFrame, spec: FeatureSpec, vocabulary: DataFrame) -> DataFrame:
    """Give users, items and reasons their own keys and types."""
    kinds = {"int64": "bigint", "string": "string"}
    named = {USER: spec[spec.user], ITEM: spec[spec.item]}
    own = [F.col(key).cast(kinds[f.type]).alias(f.name) for key, f in named.items()]
    if "explanations" in scores.columns:
        scores = _reasons_named(scores, spec, vocabulary)
    return scores.select(*own, *[c for c in scores.columns if c not in named])


def _reasons_named(scores: DataFrame, spec: FeatureSpec, vocabulary: DataFrame) -> DataFrame:
    told = scores.select(USER, ITEM, F.posexplode("explanations").alias("pos", "why"))
    told = told.select(USER, ITEM, "pos", "why.kind", "why.item", "why.weight")
    pairs = [(h.kind, spec.key_feature(h).vocabulary) for h in spec.histories]
    of_kind = F.create_map(*[F.lit(name) for pair in pairs for name in pair])
    told = decode(told, "item", of_kind[F.col("kind")], vocabulary)
    why = F.sort_array(F.collect_list(F.struct("pos", "kind", "item", "weight")))
    told = told.groupBy(USER, ITEM).agg(why.alias("explanations"))
    fields = "named_struct('kind', w.kind, 'item', w.item, 'weight', w.weight)"
    told = told.withColumn("explanations", F.expr(f"transform(explanations, w -> {fields})"))
    return scores.drop("explanations").join(told, [USER, ITEM], "left")
