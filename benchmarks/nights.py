"""Build night after night: does the thirtieth cost more than its rows and users explain?

    python -m benchmarks.nights [--nights 30] [--users 20000]

The last line printed is JSON. A night reads its own day and the state before it. As a control, the
night before the last is built cold in a store of its own, and the last night upon that: the same
rows, the same users and the same vocabulary, but one day on record instead of all. What the chain's
last night takes beyond that is the price of the days.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

from din_model.config import load
from jobs.settings import Settings
from pipelines.build import build_day
from pipelines.dataset import Store
from pipelines.synthetic import generate

FIRST = date(2026, 11, 1)
DEMO = Path(__file__).parents[1] / "conf" / "demo.yaml"
ROUNDS = 3


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

    def seconds(into: Store, number: int) -> float:
        start = time.perf_counter()
        build_day(logs, into, settings.build, settings.split, FIRST + timedelta(days=number - 1))
        return time.perf_counter() - start

    def told(name: str, number: int) -> int:
        return store.require(name, FIRST + timedelta(days=number - 1), "").rows

    each = [seconds(store, number) for number in range(1, nights + 1)]
    # A build may be repeated, and gives the same: the median of some is steadier than one.
    third = statistics.median(seconds(store, 3) for _ in range(ROUNDS))
    last = statistics.median([each[-1], *(seconds(store, nights) for _ in range(ROUNDS - 1))])
    alone = Store(f"{store.base}-alone")
    seconds(alone, nights - 1)
    control = statistics.median(seconds(alone, nights) for _ in range(ROUNDS))
    print("seconds of each night:", " ".join(f"{s:.1f}" for s in each))
    return {
        "third_seconds": round(third, 2),
        "last_seconds": round(last, 2),
        "last_upon_one_day_seconds": round(control, 2),
        "ratio_of_days": round(last / control, 3),
        "ratio_to_third": round(last / third, 3),
        "ratio_of_rows": round(told("examples", nights) / told("examples", 3), 3),
        "ratio_of_users": round(told("state", nights) / told("state", 3), 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--users", type=int, default=20_000)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        print(json.dumps(measure(words.nights, words.users)))
