"""A history is stored once, and every reader gives it back to all rows that share it."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from din_model.errors import InputError
from pipelines.examples.counts import content, count_ids
from pipelines.examples.histories import once, runs, with_histories
from tests.pipelines.examples.test_point_in_time_join import SPEC

LISTS = ("clicks__item", "clicks__category", "clicks__age", "carts__item")
SCHEMA = pa.schema(
    [
        ("example_id", pa.int64()), ("time", pa.int64()), ("user", pa.int32()),
        ("item", pa.int32()), ("category", pa.int32()), ("label", pa.float32()),
        *[(name, pa.list_(pa.int32())) for name in LISTS],
    ]
)  # fmt: skip

IDS = st.lists(st.integers(2, 9), max_size=4)
USERS = st.lists(st.tuples(IDS, IDS, st.integers(1, 5)), min_size=1, max_size=9)
"""Clicks and carts of each user, and the number of rows."""


def rows_of(users: list[tuple[list[int], list[int], int]]) -> list[dict[str, Any]]:
    """Rows of one user after another, each with its history."""
    rows: list[dict[str, Any]] = []
    for user, (clicks, carts, size) in enumerate(users):
        for n in range(size):
            item = 2 + len(rows) % 6
            rows.append(
                {
                    "example_id": len(rows), "time": 7, "user": user + 2, "item": item,
                    "category": 2 + item % 3, "label": float(n % 2), "clicks__item": clicks,
                    "clicks__category": [2 + i % 3 for i in clicks],
                    "clicks__age": [1] * len(clicks), "carts__item": carts,
                }
            )  # fmt: skip
    return rows


def batches(rows: list[dict[str, Any]], size: int) -> list[pa.RecordBatch]:
    return pa.Table.from_pylist(rows, SCHEMA).to_batches(size)


@given(USERS, st.integers(1, 7), st.integers(1, 7))
def test_a_history_stored_once_comes_back_to_every_row(users, size, read):
    rows = rows_of(users)
    table = pa.Table.from_batches(list(once(SPEC)(batches(rows, size))))
    assert table.column("carts__item").null_count == len(rows) - len(users)
    again = []
    for batch, histories, run in runs(table.combine_chunks().to_batches(read), SPEC):
        lists = {name: values.take(pa.array(run)).to_pylist() for name, values in histories.items()}
        again += [row | {n: lists[n][i] for n in LISTS} for i, row in enumerate(batch.to_pylist())]
    assert again == rows


def test_rows_in_another_order_are_refused():
    table = pa.Table.from_batches(list(once(SPEC)(batches(rows_of([([2], [3], 2)] * 2), 9))))
    with pytest.raises(InputError, match="a row has no history"):
        list(runs(table.take([0, 3, 2, 1]).to_batches(), SPEC))


def test_with_a_cutoff_of_its_own_each_time_has_a_history():
    spec = replace(SPEC, cutoff="impression")
    rows = rows_of([([2], [3], 4)])
    for row, time in zip(rows, (7, 7, 8, 8), strict=True):
        row["time"] = time
    (batch,) = once(spec)(batches(rows, 9))
    assert batch.column("clicks__item").to_pylist() == [[2], None, [2], None]


def written(spark: SparkSession, folder: str, users: list[Any], files: int) -> Any:
    """Examples in files that hold each history once, as Spark reads them."""
    parts = batches(rows_of(users), -(-sum(size for *_, size in users) // files))
    for number, part in enumerate(parts):
        pq.write_table(
            pa.Table.from_batches(list(once(SPEC)([part]))), f"{folder}/{files}-{number}.parquet"
        )
    return spark.read.parquet(*[f"{folder}/{files}-{n}.parquet" for n in range(len(parts))])


def some_users(count: int) -> Iterator[tuple[list[int], list[int], int]]:
    for n in range(count):
        yield [2 + (n * i) % 7 for i in range(n % 5)], [2 + n % 7] * (n % 3), 1 + n % 6


def test_counts_of_ids_equal_those_of_rows_with_their_own_histories(spark, tmp_path):
    users = list(some_users(60))
    examples = written(spark, str(tmp_path), users, 3)
    expected: dict[str, Counter[tuple[str, int]]] = defaultdict(Counter)
    for row in rows_of(users):
        for vocabulary, fields in (
            ("user", ()), ("item", ("clicks__item", "carts__item")),
            ("category", ("clicks__category",)),
        ):  # fmt: skip
            shown = row[vocabulary]
            for id_ in {shown, *[i for name in fields for i in row[name]]}:
                expected["examples"][vocabulary, id_] += 1
            expected["shown"][vocabulary, shown] += 1
            expected["clicked"][vocabulary, shown] += int(row["label"])
    found = {(r["vocabulary"], r["id"]): r for r in count_ids(examples, SPEC).collect()}
    assert found.keys() == expected["examples"].keys()
    for key, row in found.items():
        assert [row[name] for name in expected] == [expected[name][key] for name in expected]


def test_the_content_does_not_depend_on_where_files_begin(spark, tmp_path):
    users = list(some_users(40))
    few, many = (written(spark, str(tmp_path), users, files) for files in (2, 9))
    assert few.where("clicks__item is null").count() > many.where("clicks__item is null").count()
    assert content(few, SPEC) == content(many, SPEC)
    users[3] = ([9, 9], *users[3][1:])
    assert content(written(spark, str(tmp_path), users, 2), SPEC) != content(many, SPEC)


def test_every_row_read_by_spark_has_its_history(spark, tmp_path):
    users = list(some_users(50))
    found = with_histories(written(spark, str(tmp_path), users, 4), SPEC).collect()
    expected = {row["example_id"]: row for row in rows_of(users)}
    for row in expected.values():
        for name, length in zip(LISTS, (4, 4, 4, 2), strict=True):
            row[name] = row[name] + [0] * (length - len(row[name]))
    assert {row["example_id"]: row.asDict() for row in found} == expected
