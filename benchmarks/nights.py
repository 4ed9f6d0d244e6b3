"""Build night after night: do ids stay, is the end right, and what do the days on record cost?

    python -m benchmarks.nights [--nights 30] [--users 1000]

The last line printed is JSON. A night reads its own day and the state before it. As a control, the
night before the last is built cold in a store of its own, and the last night upon that: the same
rows, the same users and the same vocabulary, but one day on record instead of all. What the chain's
last night takes beyond that is the price of the days. It fails where an id moved, and where the
last night is not what the cold store has.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

from pyspark.sql import SparkSession

from din_model.config import load
from jobs.cli import Settings
from pipelines.examples import counts
from pipelines.examples.build import build_day
from pipelines.examples.vocabulary import open_vocabulary
from pipelines.ingest.synthetic import generate
from pipelines.store.store import Store

FIRST = date(2026, 11, 1)
DEMO = Path(__file__).parents[1] / "conf" / "demo.yaml"
ROUNDS = 3


def day_of(number: int) -> date:
    return FIRST + timedelta(days=number - 1)


def ids_after(
    spark: SparkSession, store: Store, before: dict[tuple[str, str], int]
) -> dict[tuple[str, str], int]:
    """All ids of the store; fail where one is not what it was, or there twice."""
    table = open_vocabulary(spark, store)[0].collect()
    now = {(row["vocabulary"], row["key"]): row["id"] for row in table}
    if len(now) != len(table) or not before.items() <= now.items():
        raise SystemExit("an id moved")
    return now


def content(spark: SparkSession, store: Store, name: str, day: date) -> str:
    return counts.content(store.read(spark, [store.require(name, day, "")]))


def measure(nights: int, users: int) -> dict[str, float]:
    """Seconds of nights early and late, and of the last one upon a single day."""
    settings = load(
        Settings,
        [str(DEMO)],
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
    # A build may be repeated, and gives the same: the median of some is steadier than one.
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
        os.chdir(place)
        print(json.dumps(measure(words.nights, words.users)))
