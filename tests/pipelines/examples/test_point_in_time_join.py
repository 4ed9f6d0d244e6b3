"""attach_history against a brute-force oracle in plain Python."""

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from din_model.features import Feature, FeatureSpec, History
from pipelines.examples.point_in_time_join import attach_history, unpack, unpacked

DAY = 1000
SPEC = FeatureSpec(
    user="user", item="item", time="time", time_zone="UTC", cutoff="day", label="label",
    features=(
        Feature("user", "user", "string", "user", 0),
        Feature("item", "item", "string", "item", 4),
        Feature("category", "item", "string", "category", 4),
    ),
    histories=(
        History("clicks", 4, 0, {"item": "item", "category": "category"}, age=True),
        History("carts", 2, 300, {"item": "item"}),
    ),
)  # fmt: skip


def logs(seed: int, cases: int = 200, unit: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One user a case, few distinct times so that ties abound; user 0 is a giant.

    Some behaviours come twice. ``unit``: microseconds between two neighbouring moments.
    """
    rng, targets, done = np.random.default_rng(seed), [], []
    for user in range(cases):
        for _ in range(rng.integers(0, 5)):
            time = int(rng.integers(0, 4 * DAY))
            targets.append((user, len(targets), time if user % 2 else time // DAY * DAY))
        count = 3000 if user == 0 else rng.integers(0, 30)
        spread = 4 * DAY if user == 0 else int(rng.choice([8, 4 * DAY]))
        events = {
            (user, int(kind), int(time), int(item), int(item) % 7 + 2)
            for kind, time, item in zip(
                rng.integers(0, 2, count),
                rng.integers(0, spread, count),
                rng.integers(2, 60, count),
                strict=True,
            )
        }
        done += [*events, *(e for e in events if rng.random() < 0.05)]
    shown = pd.DataFrame(targets, columns=["user", "number", "cutoff"])
    behaviours = pd.DataFrame(done, columns=["user", "kind", "time", "item", "category"])
    behaviours = behaviours.iloc[rng.permutation(len(done))].astype({"kind": "int8"})
    shown.cutoff *= unit
    behaviours.time *= unit
    return shown, behaviours


def oracle(targets: pd.DataFrame, behaviours: pd.DataFrame) -> dict[int, list[list[int]]]:
    by_user = dict(iter(behaviours.groupby("user")))
    found = {}
    for user, number, cutoff in targets.itertuples(index=False):
        histories = []
        for k, history in enumerate(SPEC.histories):
            past = [
                (time, item, category)
                for _, kind, time, item, category in by_user.get(user, behaviours[:0]).itertuples(
                    index=False
                )
                if kind == k and time + history.lag < cutoff
            ]
            newest = sorted(past)[-history.length :]
            histories.append([item for _, item, _ in newest])
            if "category" in history.fields:
                histories.append([category for _, _, category in newest])
                # [2^(b-1) - 1, 2^b - 1) seconds: the number of binary digits of the age plus one.
                ages = [((cutoff - time) // 10**6 + 1).bit_length() for time, _, _ in newest]
                histories.append([min(age, 40) for age in ages])
        found[number] = histories
    return found


@pytest.fixture
def small_batches(spark: SparkSession):
    key = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(key)
    spark.conf.set(key, "7")
    yield
    spark.conf.set(key, before)


# A unit of 700,001 µs spreads the moments over seconds, by which the sweep sorts first.
@pytest.mark.parametrize(
    ("cases", "unit"),
    [(200, 1), (200, 700_001), pytest.param(2000, 350_003, marks=pytest.mark.slow)],
)
def test_histories_equal_brute_force_over_ties_lags_kinds_and_batch_borders(
    spark, small_batches, cases, unit
):
    targets, behaviours = logs(seed=cases + unit, cases=cases, unit=unit)
    expected = oracle(targets, behaviours)
    attached = attach_history(
        spark.createDataFrame(targets, "user int, number int, cutoff long"),
        spark.createDataFrame(behaviours, "user int, kind byte, time long, item int, category int"),
        SPEC,
    )
    rows = unpacked(attached, SPEC).collect()
    assert len(rows) == len(expected) > cases
    for row in rows:
        clicks, carts = row["clicks__length"], row["carts__length"]
        assert len(row["clicks__item"]) == 4
        assert len(row["carts__item"]) == 2
        assert not any(row["clicks__item"][clicks:])
        assert not any(row["carts__item"][carts:])
        found = [row[f"clicks__{name}"][:clicks] for name in ("item", "category", "age")]
        assert [*found, row["carts__item"][:carts]] == expected[row["number"]]


def test_only_the_first_of_a_group_has_its_history(spark, small_batches):
    targets, behaviours = logs(seed=11)
    targets = pd.concat([targets] * 4, ignore_index=True)  # several of a user and cutoff
    targets["row"] = range(len(targets))
    targets["group"] = targets["row"] % 3
    expected = oracle(targets[["user", "number", "cutoff"]], behaviours)
    attached = attach_history(
        spark.createDataFrame(targets, "user int, number int, cutoff long, row int, group int"),
        spark.createDataFrame(behaviours, "user int, kind byte, time long, item int, category int"),
        SPEC, ("group", "row"),
    )  # fmt: skip
    schema = unpacked(attached.limit(0), SPEC).schema
    lists = attached.mapInArrow(unpack(SPEC), schema)  # as they are written
    found = lists.toPandas().merge(targets[["row", "cutoff"]], on="row")
    assert len(found) == len(targets)
    for _, rows in found.sort_values("row").groupby(["user", "cutoff", "group"]):
        first, *others = rows.to_dict("records")
        lists = [first[f"clicks__{name}"] for name in ("item", "category", "age")]
        assert [list(ids) for ids in (*lists, first["carts__item"])] == expected[first["number"]]
        assert all(row["clicks__item"] is None and row["carts__item"] is None for row in others)
        assert {row["clicks__length"] for row in rows.to_dict("records")} == {len(lists[0])}


def test_a_behaviour_at_the_cutoffs_own_microsecond_is_not_visible(spark):
    targets = spark.createDataFrame([(1, 500)], "user int, cutoff long")
    schema = "user int, kind byte, time long, item int, category int"
    done = spark.createDataFrame(
        [(1, 0, 500, 9, 2), (1, 0, 499, 8, 2), (1, 1, 200, 7, 2), (1, 1, 199, 6, 2)], schema
    )
    (row,) = unpacked(attach_history(targets, done, SPEC), SPEC).collect()
    assert (row["clicks__item"], row["clicks__length"]) == ([8, 0, 0, 0], 1)
    assert (row["carts__item"], row["carts__length"]) == ([6, 0], 1)
