"""Counters against a brute-force oracle in plain Python, over many small worlds in one Spark job.

A world has users, items and categories of its own, so its events count in no other world.
"""

from collections import defaultdict
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from din_model.features import ALL, IMPRESSIONS, Counter, Feature, FeatureSpec, History
from pipelines.examples.counters import advance, attach, events
from pipelines.ingest.sources import start_of

HOUR = 3600 * 10**6
ZONE = "Europe/Copenhagen"
FIRST = date(2026, 10, 22)  # clocks change on the 25th
DAYS = [FIRST + timedelta(days=n) for n in range(7)]
STARTS = [start_of(day, ZONE) for day in DAYS]
SPEC = FeatureSpec(
    user="user", item="item", time="time", time_zone=ZONE, cutoff="day", label="label",
    features=(
        Feature("user", "user", "string", "user", 4),
        Feature("item", "item", "string", "item", 4),
        Feature("category", "item", "string", "category", 4),
    ),
    histories=(
        History("reads", 4, 0, {"item": "item", "category": "category"}),
        History("carts", 2, HOUR, {"item": "item"}),
    ),
    counters=(
        Counter("shown", IMPRESSIONS, ("item",), (1, 3, ALL), 6 * HOUR),
        Counter("seen", IMPRESSIONS, ("user",), (ALL,)),
        Counter("pair", IMPRESSIONS, ("user", "item"), (2,)),
        Counter("taste", IMPRESSIONS, ("user", "category"), (1, ALL), HOUR),
        Counter("read", "reads", ("item",), (1, ALL), 30 * HOUR),
        Counter("again", "carts", ("item", "user"), (2, ALL), HOUR),
    ),
)  # fmt: skip
BY_ROW = replace(SPEC, cutoff="impression")
COLUMNS = [column for counter in SPEC.counters for column in counter.columns]
SHOWN = "world int, number long, user int, item int, category int, time long, label double"
DONE = "world int, kind byte, user int, item int, category int, time long"


def logs(seed: int, worlds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Impressions and behaviours; few distinct times so that ties abound, and world 0 is a giant.

    Some ids are 0 (padding) or 1 (unknown), and a cart has no category.
    """
    rng, frames = np.random.default_rng(seed), ([], [])
    for world in range(worlds):
        moments = np.array([*STARTS, *[s + 6 * HOUR for s in STARTS], *[s - 1 for s in STARTS[1:]]])
        moments = np.r_[moments, STARTS[0] + rng.integers(0, 6 * 24 * HOUR, 5)]
        moments = rng.choice(moments[moments < STARTS[6]], 6)
        for frame, most in zip(frames, (14, 10), strict=True):
            count = 2000 if world == 0 else rng.integers(0, most)
            rows = pd.DataFrame({"world": np.full(count, world)})
            for name, ids in (("user", 2), ("item", 3), ("category", 2)):
                rows[name] = 2 + world * 10 + rng.integers(0, ids, count)
                rows.loc[rng.random(count) < 0.05, name] = rng.integers(0, 2)
            rows["time"] = rng.choice(moments, count)
            frame.append(rows)
    shown, done = (pd.concat(frame, ignore_index=True) for frame in frames)
    shown["label"] = rng.integers(0, 2, len(shown)).astype(float)
    shown["number"] = np.arange(len(shown))
    done["kind"] = rng.integers(0, 2, len(done))
    done["category"] = done.category.astype(object).where(done.kind == 0, None)
    return shown, done


def oracle(rows: pd.DataFrame, shown: pd.DataFrame, done: pd.DataFrame) -> dict[int, list[int]]:
    """Number of each row -> its counters, by the words of din_model.features.Counter."""
    known: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
    for i, counter in enumerate(SPEC.counters):
        of = (
            shown
            if counter.events == IMPRESSIONS
            else done[done.kind == [h.kind for h in SPEC.histories].index(counter.events)]
        )
        clicked = of.label if counter.events == IMPRESSIONS else [0] * len(of)
        for *keys, time, click in zip(
            *[of[k] for k in counter.keys], of.time, clicked, strict=True
        ):
            if min(keys) >= 2:
                known[(i, *keys)].append((time + counter.lag, int(click)))
    found = {}
    for row in rows.itertuples():
        values = []
        own = datetime.fromtimestamp(row.cutoff // 10**6, ZoneInfo(ZONE)).date()
        for i, counter in enumerate(SPEC.counters):
            keys = [getattr(row, key) for key in counter.keys]
            past = [e for e in known.get((i, *keys), []) if e[0] < row.cutoff]
            counts, clicks = [], []
            for window in counter.windows:
                start = start_of(own - timedelta(days=window), ZONE) if window else -(10**18)
                counts.append(sum(at >= start for at, _ in past))
                clicks.append(sum(click for at, click in past if at >= start))
            values += counts + (clicks if counter.events == IMPRESSIONS else [])
            times = [(row.cutoff - at) // 10**6 for at, _ in past] or [-1]
            values += [max(times), min(times)]
        found[row.number] = values
    return found


def frames(spark: SparkSession, shown: pd.DataFrame, done: pd.DataFrame, spec: FeatureSpec):
    """Return a function: days -> their events."""
    impressions = spark.createDataFrame(shown[["world", "number", "user", "item", "category",
                                               "time", "label"]], SHOWN)  # fmt: skip
    rows = [tuple(None if v is None else int(v) for v in r) for r in done[
        ["world", "kind", "user", "item", "category", "time"]].itertuples(index=False)]  # fmt: skip
    behaviours = spark.createDataFrame(rows, DONE)

    def of_days(first: int, last: int) -> DataFrame:
        span = f"time >= {STARTS[first]} and time < {STARTS[last + 1]}"
        return events(impressions.where(span), behaviours.where(span), spec)

    return of_days


def chained(of_days, spec: FeatureSpec) -> DataFrame:
    """Partial sums at the end of day 3: days 0 and 1 one by one, then 2 and 3 at once."""
    sums = None
    for first, last in ((0, 0), (1, 1), (2, 3)):
        since = of_days(first, last)
        visible = since if sums is None else sums.unionByName(since)
        sums = advance(visible, spec, STARTS[last + 1]).localCheckpoint()
    return sums


def targets(spark: SparkSession, rows: pd.DataFrame) -> DataFrame:
    names = ["number", "user", "item", "category", "cutoff"]
    schema = "number long, user int, item int, category int, cutoff long"
    return spark.createDataFrame(rows[names], schema)


def collected(attached: DataFrame) -> dict[int, list[int]]:
    rows = attached.collect()
    assert len({row["number"] for row in rows}) == len(rows)
    return {row["number"]: [row[name] for name in COLUMNS] for row in rows}


@pytest.fixture
def local_days(spark):
    """Days of the session are those of the spec; the fixture utc sets it back."""
    spark.conf.set("spark.sql.session.timeZone", ZONE)


MANY = pytest.mark.parametrize("worlds", [200, pytest.param(2000, marks=pytest.mark.slow)])


@MANY
def test_counters_at_the_start_of_a_day_equal_brute_force(spark, local_days, worlds):
    shown, done = logs(worlds, worlds)
    of_days = frames(spark, shown, done, SPEC)
    chain = chained(of_days, SPEC)
    cold = advance(of_days(0, 3), SPEC, STARTS[4])
    assert sorted(map(str, chain.collect())) == sorted(map(str, cold.collect()))
    assert chain.where("counter = 1").groupBy("key_0").count().where("count > 1").isEmpty()
    # Day 4 counts from the sums at the end of day 3, day 5 from these and the events since.
    for day, since in ((4, None), (5, of_days(4, 4))):
        rows = shown.assign(cutoff=STARTS[day])
        sums = chain if since is None else chain.unionByName(since)
        found = collected(attach(targets(spark, rows), sums, SPEC, STARTS[day]))
        assert found == oracle(rows, shown, done)


@MANY
def test_counters_at_each_rows_time_equal_brute_force(spark, local_days, worlds):
    shown, done = logs(worlds + 1, worlds)
    of_days = frames(spark, shown, done, BY_ROW)
    chain = chained(of_days, BY_ROW)
    cold = advance(of_days(0, 3), BY_ROW, STARTS[4])
    assert sorted(map(str, chain.collect())) == sorted(map(str, cold.collect()))
    of_day = shown[(shown.time >= STARTS[4]) & (shown.time < STARTS[5])]
    rows = of_day.assign(cutoff=of_day.time)
    found = collected(attach(targets(spark, rows), chain.unionByName(of_days(4, 4)), BY_ROW))
    assert found == oracle(rows, shown, done)
    # A table that is no night's: rows of all days, counted from events alone.
    rows = shown.assign(cutoff=shown.time)
    assert collected(attach(targets(spark, rows), of_days(0, 5), BY_ROW)) == oracle(
        rows, shown, done
    )
