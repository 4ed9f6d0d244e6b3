"""Of rows with one key one is kept, or none if their labels contradict each other."""

from collections import Counter

import pytest
from pyspark.sql import SparkSession

from pipelines.ingest.repeats import mark_repeats

SCHEMA = "key string, label float, reason string, raw string"


@pytest.mark.parametrize("partitions", [1, 4])
def test_one_good_row_of_a_key_is_kept_wherever_they_lie(
    spark: SparkSession, partitions: int
) -> None:
    rows = [("a", 1.0, None, None), ("a", 0.0, None, None), ("a", 1.0, None, None)]
    rows += [("b", 0.0, "no time", "{b}"), ("b", 1.0, None, None), ("c", 0.0, "no time", "{c}")]
    frame = spark.createDataFrame(rows, SCHEMA).repartition(partitions)
    found = [tuple(row) for row in mark_repeats(frame, ["key"], "click").collect()]
    assert [row[:2] for row in sorted(found) if row[2] is None] == [("a", 0.0), ("b", 1.0)]
    assert Counter(row[2] for row in found) == {None: 2, "repeated click": 2, "no time": 2}
    assert all(row[3] for row in found if row[2]), "with its text"


def test_good_rows_of_a_key_with_both_labels_are_all_set_aside(spark: SparkSession) -> None:
    rows = [("a", 1.0, None, None), ("a", 0.0, None, None), ("b", 1.0, None, None)]
    rows += [("b", 0.0, "no time", "{b}"), ("c", 1.0, None, None), ("c", 1.0, None, None)]
    found = mark_repeats(
        spark.createDataFrame(rows, SCHEMA), ["key"], "click", conflicts=True
    ).collect()
    reasons = Counter((row["key"], row["reason"]) for row in found)
    assert reasons == {
        ("a", "one key with different labels"): 2, ("b", None): 1, ("b", "no time"): 1,
        ("c", None): 1, ("c", "repeated click"): 1,
    }  # fmt: skip
