"""Which impression a click belongs to, and what becomes of the clicks that label nothing.

A click with an impression's id belongs to that impression. One without belongs to the newest
impression of the same user and item, at most the attribution window older than the click; an
impression of the click's own microsecond counts. Several clicks on one impression are one label.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from din_model.features import FeatureSpec

REPEATED = "repeated click"
LATE = "late click"
ALONE = "click without an impression"


def attribute(
    clicks: DataFrame, impressions: DataFrame, spec: FeatureSpec, window: int
) -> DataFrame:
    """Add ``example_id`` to clicks (null: no impression is theirs) and ``late`` (boolean).

    Args:
        clicks: time, key_0 … (null: no id is known) and, if the log has them, user and item.
        impressions: user, item, time and example_id: all that a click without id may belong to.
        window: attribution window in microseconds.
    """
    keys = [c for c in clicks.columns if c.startswith("key_")]
    nobody = F.lit(None).cast("long")
    by_id = clicks.withColumn("example_id", F.xxhash64(*keys) if keys else nobody)
    by_id = by_id.withColumn("late", F.lit(False))
    if spec.item not in clicks.columns:
        return by_id
    unnamed = F.lit(True)
    for key in keys:
        unnamed = unnamed & F.col(key).isNull()
    pair = [spec.user, spec.item]
    loose = clicks.where(unnamed)
    rivals = impressions.join(loose.select(pair).distinct(), pair, "left_semi")
    rivals = rivals.select(*pair, "time", "example_id", F.col("time").alias("_shown"))
    # At equal times the impression, which has an id, is sorted before the click.
    of_click = F.col("example_id").isNull()
    before = Window.partitionBy(*pair).orderBy(F.col("time"), of_click, F.col("example_id"))
    before = before.rowsBetween(Window.unboundedPreceding, 0)
    stream = rivals.unionByName(loose.withColumn("_click", F.lit(True)), allowMissingColumns=True)
    stream = stream.withColumns(
        {c: F.last(c, ignorenulls=True).over(before) for c in ("example_id", "_shown")}
    ).where("_click")
    late = F.col("time") - F.col("_shown") > window
    stream = stream.withColumn("late", F.coalesce(late, F.lit(False)))
    stream = stream.withColumn("example_id", F.when(~F.col("late"), F.col("example_id")))
    return by_id.where(~unnamed).unionByName(stream.select(by_id.columns))


def account(
    clicks: DataFrame, today: DataFrame, before: DataFrame | None, in_time: int
) -> DataFrame:
    """Give a day's attributed clicks the ``reason`` why they label none of its impressions.

    Args:
        today: the example_id of the day's impressions.
        before: those of the day before, whose clicks label that day when before ``in_time``
            (microseconds), and are late afterwards.

    Returns:
        The clicks less those that labelled the day before: each click is counted on one day.
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
    return clicks.withColumn("reason", F.coalesce("reason", why))
