"""A split by last position holds each user's last positive out, and uses nothing after it."""

import pytest

from pipelines.examples.split import SplitConfig, roles
from tests.din_model.conftest import small_spec

# user, time, example_id, label
ROWS = [
    (1, 10, 1, 0), (1, 20, 2, 1), (1, 30, 3, 0), (1, 40, 4, 1), (1, 50, 5, 0), (1, 60, 6, 1),
    (1, 70, 7, 0),
    (2, 10, 21, 1), (2, 20, 22, 0),
    (3, 10, 31, 0),
    (4, 10, 42, 1), (4, 10, 41, 1), (4, 10, 43, 0),
]  # fmt: skip


def split(spark, **config: int) -> dict[str, list[int]]:
    rows = spark.createDataFrame(ROWS, "user int, time long, example_id long, label int")
    parts = roles(rows, small_spec(), SplitConfig(by="last_position", **config))
    assert {tuple(part.columns) for part in parts.values()} == {tuple(rows.columns)}
    return {name: sorted(r["example_id"] for r in part.collect()) for name, part in parts.items()}


@pytest.mark.parametrize(
    ("config", "holdout", "examples"),
    [
        ({}, [6, 42], [3, 4, 5]),
        ({"skip_first": 0}, [6, 21, 42], [1, 2, 3, 4, 5, 41]),
        ({"skip_last": 1}, [4], [3]),
        ({"skip_first": 0, "skip_last": 1}, [4, 41], [1, 2, 3]),
    ],
)
def test_positions_are_those_of_positives(spark, config, holdout, examples):
    assert split(spark, **config) == {"holdout": holdout, "examples": examples}


def test_the_last_impression_is_held_out_clicked_or_not(spark):
    rows = spark.createDataFrame(
        [(1, n, float(n % 2 == 0), n) for n in range(5)],
        "user int, time long, label double, example_id long",
    )
    parts = roles(rows, small_spec(), SplitConfig(by="last_impression"))
    held_out, kept = (
        sorted(row["time"] for row in parts[name].collect()) for name in ("holdout", "examples")
    )
    assert (held_out, kept) == ([4], [1, 2, 3])
