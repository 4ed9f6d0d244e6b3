"""Measure what a publication adds to writing its files, and the plan of a long chain of dates.

    python -m benchmarks.store [--dates 400] [--rows 10000]

Publishes one small data set for many dates in a row, each pinning the one before, as states do.
The control writes the same rows without a publication. Reports the median of the first and of the
last publications, so that growth with the dates on record shows, and the time in which a fresh
process tells which dates are built and which are stale. The last line is JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial

from pyspark.sql import DataFrame

from pipelines.session import spark_session
from pipelines.store import plan
from pipelines.store.data_sets import PINS, STATE
from pipelines.store.parquet import write
from pipelines.store.store import Store

FIRST = date(2025, 11, 1)
SAMPLE = 20


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def publish_chain(store: Store, rows: DataFrame, dates: int) -> list[float]:
    """Publish a chain of dates; return the seconds of each."""
    seconds, parent = [], None
    for number in range(dates):
        facts = {PINS: plan.pins(parent)}
        start = time.perf_counter()
        with store.sole_writer():
            parent = store.publish(STATE, FIRST + timedelta(days=number), rows, facts)
        seconds.append(time.perf_counter() - start)
    return seconds


def plan_all(root: str) -> None:
    """Tell of all dates whether they are built and which are stale, as a new process would."""
    store = Store(root)
    manifests = store.manifests(STATE)
    assert all(plan.rests_on_published(store, each) for each in manifests)
    assert not list(plan.stale(manifests))


def measure(dates: int, rows: int) -> dict[str, float]:
    """Return seconds by name."""
    spark = spark_session("benchmark", "UTC")
    with tempfile.TemporaryDirectory() as folder:
        frame = spark.range(0, rows, 1, 2).cache()
        frame.count()
        store = Store(f"{folder}/store")
        publish_chain(Store(f"{folder}/warm"), frame, 3)
        published = publish_chain(store, frame, dates)
        written = [
            timed(partial(write, frame, f"file://{folder}/plain/{n}")) for n in range(SAMPLE)
        ]
        median = statistics.median
        return {
            "write": round(median(written), 3),
            "commit_first": round(median(published[:SAMPLE]) - median(written), 3),
            "commit_last": round(median(published[-SAMPLE:]) - median(written), 3),
            "plan": round(timed(partial(plan_all, f"{folder}/store")), 3),
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dates", type=int, default=400)
    parser.add_argument("--rows", type=int, default=10_000)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.dates, arguments.rows)))
