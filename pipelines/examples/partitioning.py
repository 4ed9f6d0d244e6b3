"""Global ranks and exact partitions without a single-partition window."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.caching import cached


def with_rank(rows: DataFrame, *order: Column | str, name: str = "rank") -> DataFrame:
    """Add the position (bigint, from 0) of each row in the total order ``order``.

    The order must have no ties; otherwise equal rows may swap ranks between runs. Rows are sorted
    by range partitions; the offset of each is the number of rows before it.
    """
    ordered = rows.orderBy(*order).select(
        "*",
        F.spark_partition_id().alias("_part"),
        F.monotonically_increasing_id().alias("_row"),
    )
    # Both passes must see the same partitions. Where a lost part is computed again and they differ,
    # a rank is there twice, which writers of ids and keys check before they publish.
    ordered = cached(ordered)
    offsets, total = [], 0
    for part, count in sorted(ordered.groupBy("_part").count().collect()):
        offsets.append((part, total - (part << 33)))  # _row starts at part << 33
        total += count
    offset = rows.sparkSession.createDataFrame(offsets, "_part int, _offset long")
    ranked = ordered.join(F.broadcast(offset), "_part")
    return ranked.withColumn(name, F.col("_row") + F.col("_offset")).drop(
        "_part", "_row", "_offset"
    )


def exactly_by(rows: DataFrame, column: str, count: int) -> DataFrame:
    """Repartition so that value i of ``column`` (0 to count - 1) is exactly partition i.

    ``repartition(count, column)`` hashes, and two values may share a partition. Each value is
    therefore replaced by a number whose hash is the intended partition.
    """
    spark = rows.sparkSession
    by_partition: dict[int, int] = {}
    start, step = 0, 32 * count
    while len(by_partition) < count:
        numbers = spark.range(start, start + step, numPartitions=1)
        hashed = numbers.select("id", F.expr(f"pmod(hash(id), {count})").alias("partition"))
        for number, partition in hashed.collect():
            by_partition.setdefault(partition, number)
        start += step
    lookup = F.array(*[F.lit(by_partition[i]).cast("long") for i in range(count)])
    return rows.repartition(count, F.element_at(lookup, (F.col(column) + 1).cast("int")))
