"""Build many nights, and measure how the time of a night grows with the days before it.

    python -m benchmarks.nights [--nights 30] [--users 1000]

A night reads its own day and the state before it. The control is a second store, which builds the
last two nights only: the same rows, users and vocabulary, but one earlier day instead of all. The
difference in the time of the last night is the cost of the days on record. The benchmark fails if
the id of a key changes, or if the last night's data differ between the stores. The last line is
JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

from pyspark.sql import SparkSession

from benchmarks.demo import demo_settings
from pipelines.examples import counts
from pipelines.examples.build import build_day
from pipelines.examples.vocabulary import open_vocabulary
from pipelines.ingest.synthetic import generate
from pipelines.store.store import Store

FIRST = date(2026, 11, 1)
ROUNDS = 3


def day_of(number: int) -> date:
    return FIRST + timedelta(days=number - 1)


def ids_after(
    spark: SparkSession, store: Store, before: dict[tuple[str, str], int]
) -> dict[tuple[str, str], int]:
    """Return all ids of the store; exit if one has changed or a key has two."""
    table = open_vocabulary(spark, store)[0].collect()
    now = {(row["vocabulary"], row["key"]): row["id"] for row in table}
    if len(now) != len(table) or not before.items() <= now.items():
        raise SystemExit("an id moved")
    return now


def content(spark: SparkSession, store: Store, name: str, day: date) -> str:
    return counts.content(store.read(spark, [store.require(name, day, "")]))


def measure(folder: Path, nights: int, users: int) -> dict[str, float]:
    """Return the seconds of an early and a late night, and of the last one after a single day."""
    settings = demo_settings(
        folder,
        [
            f"generate.first_date='{FIRST}'",
            f"history.since={FIRST}",
            f"generate.days={nights}",
            f"generate.users={users}",
            f"generate.impressions={5 * users}",
            f"generate.items={users // 10}",
        ],
    )
    assert settings.generate is not None
    logs, store = settings.open("benchmark", FIRST)
    generate(logs.spark, settings.generate)

    def build(into: Store, number: int) -> float:
        start = time.perf_counter()
        build_day(logs, into, settings.build, settings.split, day_of(number))
        return time.perf_counter() - start

    def rows(name: str, number: int) -> int:
        return store.require(name, day_of(number), "").rows

    each, ids = [], dict[tuple[str, str], int]()
    for number in range(1, nights + 1):
        each.append(build(store, number))
        print(f"night {number}: {each[-1]:.1f} s", flush=True)
        ids = ids_after(logs.spark, store, ids)
    alone = Store(f"{store.base}-alone")
    build(alone, nights - 1)
    build(alone, nights)
    for name in ("examples", "state", "counts"):
        mine, theirs = (content(logs.spark, s, name, day_of(nights)) for s in (store, alone))
        if mine != theirs:
            raise SystemExit(f"{name}: {mine} (hash, rows) after all nights, {theirs} cold")
    # Repeated builds of a night publish the same data, so the median of several is measured.
    third = statistics.median(build(store, 3) for _ in range(ROUNDS))
    last = statistics.median(build(store, nights) for _ in range(ROUNDS))
    control = statistics.median(build(alone, nights) for _ in range(ROUNDS))
    return {
        "third_seconds": round(third, 2),
        "last_seconds": round(last, 2),
        "last_upon_one_day_seconds": round(control, 2),
        "ratio_of_days": round(last / control, 3),
        "ratio_to_third": round(last / third, 3),
        "ratio_of_rows": round(rows("examples", nights) / rows("examples", 3), 3),
        "ratio_of_users": round(rows("state", nights) / rows("state", 3), 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--users", type=int, default=1_000)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(measure(Path(place), words.nights, words.users)))
