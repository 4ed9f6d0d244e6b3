"""Attribution: which impression a click belongs to, and what happens to the other clicks.

A click with an impression's key belongs to that impression. A click without it, or with a part of
it, belongs to the newest impression of the same user and item that is at most the attribution
window older; an impression at the click's own microsecond counts. Several clicks on one impression
are one label.
"""

from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from din_model.features import FeatureSpec
from pipelines.ingest.casting import with_reason

REPEATED = "repeated click"
LATE = "late click"
ALONE = "click without an impression"


def without_key(clicks: DataFrame) -> Column:
    """Return whether the key of a click is unknown; one of which a part is missing is unknown.

    The hash of such a key would skip the part.
    """
    keys = _keys(clicks)
    return reduce(or_, [F.col(key).isNull() for key in keys]) if keys else F.lit(True)


def by_key(clicks: DataFrame) -> DataFrame:
    """Add ``example_id`` by the key of each click, null without one, and ``late``: false."""
    keys = _keys(clicks)
    id_of_key = F.xxhash64(*keys) if keys else F.lit(None).cast("long")
    by_id = clicks.withColumn("example_id", F.when(~without_key(clicks), id_of_key))
    return by_id.withColumn("late", F.lit(False))


def _keys(clicks: DataFrame) -> list[str]:
    return [c for c in clicks.columns if c.startswith("key_")]


def attribute(
    clicks: DataFrame, impressions: DataFrame, spec: FeatureSpec, window: int
) -> DataFrame:
    """Add ``example_id`` to clicks (null if no impression matches) and ``late`` (boolean).

    A click without key belongs to the newest impression of its user and item before it.

    Args:
        clicks: time, key_0 … (null if unknown), user and item.
        impressions: user, item, time and example_id of every impression that a click without key
            may belong to.
        spec: names user and item.
        window: attribution window in microseconds.
    """
    keyless, with_ids = without_key(clicks), by_key(clicks)
    pair = [spec.user, spec.item]
    clicks_without_key = clicks.where(keyless)
    impressions_of_pair = impressions.join(
        clicks_without_key.select(pair).distinct(), pair, "left_semi"
    )
    impressions_of_pair = impressions_of_pair.select(
        *pair, "time", "example_id", F.col("time").alias("_shown")
    )
    # At equal times the impression, which has an id, sorts before the click.
    is_click = F.col("example_id").isNull()
    before = Window.partitionBy(*pair).orderBy(F.col("time"), is_click, F.col("example_id"))
    before = before.rowsBetween(Window.unboundedPreceding, 0)
    stream = impressions_of_pair.unionByName(
        clicks_without_key.withColumn("_click", F.lit(True)), allowMissingColumns=True
    )
    stream = stream.withColumns(
        {c: F.last(c, ignorenulls=True).over(before) for c in ("example_id", "_shown")}
    ).where("_click")
    late = F.col("time") - F.col("_shown") > window
    stream = stream.withColumn("late", F.coalesce(late, F.lit(False)))
    stream = stream.withColumn("example_id", F.when(~F.col("late"), F.col("example_id")))
    return with_ids.where(~keyless).unionByName(stream.select(with_ids.columns))


def account(
    clicks: DataFrame, today: DataFrame, before: DataFrame | None, in_time: int
) -> DataFrame:
    """Give a day's attributed clicks the ``reason`` why they label none of its impressions.

    Args:
        clicks: from ``attribute``.
        today: example_id of the day's impressions.
        before: example_id of the day before's impressions, whose clicks label that day before
            ``in_time`` and are late afterwards.
        in_time: microseconds.

    Returns:
        The clicks without those that labelled the day before: each click counts on one day.
    """
    known = today.select("example_id", F.lit(True).alias("_today"))
    clicks = clicks.join(known.distinct(), "example_id", "left")
    if before is None:
        clicks = clicks.withColumn("_before", F.lit(None).cast("boolean"))
    else:
        past = before.select("example_id", F.lit(True).alias("_before")).distinct()
        clicks = clicks.join(past, "example_id", "left")
    earlier = F.coalesce(F.col("_before") & F.col("_today").isNull(), F.lit(False))
    clicks = clicks.where(~(earlier & (F.col("time") < in_time)) | F.col("reason").isNotNull())
    first = Window.partitionBy("example_id", F.col("reason").isNull()).orderBy("time")
    why = (
        F.when(earlier | F.col("late"), LATE)
        .when(F.col("_today").isNull(), ALONE)
        .when(F.row_number().over(first) > 1, REPEATED)
    )
    return with_reason(clicks, why)
