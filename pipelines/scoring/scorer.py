"""Scores candidates on the executors: how they meet the state, and what comes out.

Candidates and state rows, one per user, form one stream sorted by user, which scoring.udf
processes. A user's history is not joined to each candidate, and ranks are computed with the scores,
without another shuffle.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from din_model.errors import InputError
from din_model.features import UNKNOWN, FeatureSpec
from pipelines.caching import cached
from pipelines.examples.vocabulary import decode, encode, padded
from pipelines.scoring.udf import GROUP, IS_STATE, ITEM, USER, Batches, Task, score_batches
from pipelines.shipping import loaded

PARTS_BITS = 20
"""The low bits of a group number the parts of a user whose candidates are split over tasks."""

HASH_BITS = 42

LARGEST = 20_000
"""Maximum candidates of one user per task; a user with more is split."""

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
"""Columns per candidate; the last one only if configured."""


@dataclass(frozen=True)
class Night:
    """The scoring of a date by a model that was sent to the executors."""

    spec: FeatureSpec
    shipped: str
    task: Task


@dataclass(frozen=True)
class Candidates:
    """The candidates of a date, encode_candidates and count_candidates.

    ``counts``: ``candidates``, of which ``good`` and ``refused``, and the number of good ones that
    are ``below_top`` and not written.
    """

    rows: DataFrame
    sizes: DataFrame  # (_group, good)
    counts: dict[str, int]

    @property
    def good(self) -> DataFrame:
        """Rows to score."""
        return self.rows.where("reason is null").drop("reason", "raw")

    @property
    def refused(self) -> DataFrame:
        """Broken rows, with their reason and text."""
        return self.rows.where("reason is not null").select("reason", "raw").coalesce(1)


def encode_candidates(candidates: DataFrame, spec: FeatureSpec, vocabulary: DataFrame) -> DataFrame:
    """Encode candidates like examples, keep the keys of user and item, and add the group."""
    keyed = candidates.withColumns({USER: F.col(spec.user), ITEM: F.col(spec.item)})
    rows = encode(keyed, spec.features, vocabulary)
    lists = [f for f in spec.features if f.is_list]
    others = rows.drop(*[f.name for f in lists]).columns
    rows = rows.select(*others, *[column for f in lists for column in padded(f)])
    # Unknown users all have id 1 and are many: a hash of the key gives each its own group.
    hashed = -1 - F.xxhash64(USER).bitwiseAND(F.lit((1 << HASH_BITS) - 1))
    user = F.when(F.col(spec.user) == UNKNOWN, hashed).otherwise(F.col(spec.user).cast("long"))
    return rows.withColumn(GROUP, F.shiftleft(user, PARTS_BITS))


def count_candidates(rows: DataFrame, given: int, top: int | None) -> Candidates:
    """Count encoded candidates; they are cached.

    Args:
        rows: encoded candidates with their counters.
        given: their number before they were joined with anything.
        top: number of best candidates per user to keep; None keeps all.

    Raises:
        InputError: a join has lost or doubled candidates.
    """
    rows = cached(rows)
    good = F.col("reason").isNull().cast("long")
    sizes = rows.groupBy(GROUP).agg(F.sum(good).alias("good"), F.count("*").alias("candidates"))
    sizes = cached(sizes)
    over = F.greatest(F.col("good") - (top or 2**62), F.lit(0)).alias("below_top")
    sums = sizes.select("candidates", "good", over).groupBy().sum().first()
    assert sums is not None
    candidates, kept, below = (int(n or 0) for n in sums)
    if candidates != given:
        raise InputError(
            f"{given} candidates are given, but {candidates} are encoded: a key is twice in the"
            " vocabulary or the counters: remove copied files from the store, or build it anew"
        )
    counts = {"candidates": candidates, "good": kept, "below_top": below}
    return Candidates(rows, sizes, counts | {"refused": candidates - kept})


def score(candidates: DataFrame, sizes: DataFrame, state: DataFrame, night: Night) -> DataFrame:
    """Return user_key, item_key, score, rank and the other ``COLUMNS``.

    Args:
        candidates: good ones from ``encode_candidates``, one row per (user, item).
        sizes: (_group, good), the number of candidates of each group.
        state: at the end of the day before.
        night: what to score with.
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
    # Sort by one number, with Spark's radix sort: the group, its state row first.
    turn = F.shiftleft(GROUP, 1) + (~F.col(IS_STATE)).cast("int")
    stream = stream.withColumn("_turn", turn).sortWithinPartitions("_turn").drop("_turn")
    names = [name for name in COLUMNS if name != "explanations" or night.task.explain]

    def run(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in score_batches(batches, *loaded(night.shipped), night.task):
            yield batch.select(names)

    return stream.mapInArrow(run, ", ".join(f"{name} {COLUMNS[name]}" for name in names))


def restore_keys(scores: DataFrame, spec: FeatureSpec, vocabulary: DataFrame) -> DataFrame:
    """Restore the keys and types of users, items and explanations."""
    kinds = {"int64": "bigint", "string": "string"}
    named = {USER: spec[spec.user], ITEM: spec[spec.item]}
    own = [F.col(key).cast(kinds[f.type]).alias(f.log_name) for key, f in named.items()]
    if "explanations" in scores.columns:
        scores = _restore_explanation_keys(scores, spec, vocabulary)
    return scores.select(*own, *[c for c in scores.columns if c not in named])


def _restore_explanation_keys(
    scores: DataFrame, spec: FeatureSpec, vocabulary: DataFrame
) -> DataFrame:
    """Restore the keys of explanations; null for a score without one.

    The other columns stay with the explanations, because a join back to the scores would compute
    them twice.
    """
    others = [c for c in scores.columns if c not in (USER, ITEM, "explanations")]
    each = F.posexplode_outer("explanations").alias("pos", "_why")
    rows = scores.select(USER, ITEM, *others, each)
    rows = rows.select(USER, ITEM, *others, "pos", "_why.kind", "_why.item", "_why.weight")
    pairs = [(h.kind, spec.key_feature(h).vocabulary) for h in spec.histories]
    of_kind = F.create_map(*[F.lit(name) for pair in pairs for name in pair])
    rows = decode(rows, "item", of_kind[F.col("kind")], vocabulary)
    reason = F.when(F.col("pos").isNotNull(), F.struct("pos", "kind", "item", "weight"))
    # Candidates are unique, so a group has one value of each other column.
    rows = rows.groupBy(USER, ITEM).agg(
        *[F.first(c).alias(c) for c in others],
        F.sort_array(F.collect_list(reason)).alias("explanations"),
    )
    fields = "named_struct('kind', w.kind, 'item', w.item, 'weight', w.weight)"
    named = F.expr(f"transform(explanations, w -> {fields})")
    return rows.withColumn("explanations", F.when(F.size("explanations") > 0, named))
