"""Measure the time that the default counters add to a build and to a training step.

    python -m benchmarks.counters [--impressions 400000] [--rounds 3]

The build is that of the demo's second day, from raw logs to counts of ids. The first day, whose
events the counters sum, is built untimed. The step is that of ``benchmarks.training`` at 100,000
items. Each round runs both without and with counters. The last line is JSON: the added time as a
share of the time without counters.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.demo import demo_settings
from benchmarks.training import CONFIG, SPEC, draw, trainer_of
from din_model.data.batch import Batch, from_columns
from din_model.features import ALL, IMPRESSIONS, Counter, FeatureSpec
from jobs.cli import Settings
from pipelines.examples.build import build_day
from pipelines.ingest.synthetic import generate
from pipelines.session import spark_session

FIRST, SECOND = date(2026, 11, 19), date(2026, 11, 20)
SIDES = {"without": ["features.counters={}"], "with": []}

KEYS = [("item",), ("user",), ("user", "item"), ("category",), ("user", "category")]
COUNTED = replace(
    SPEC,
    counters=tuple(
        Counter("by_" + "_".join(keys), IMPRESSIONS, keys, (1, 7, ALL)) for keys in KEYS
    ),
)


def settings_of(folder: Path, store: str, impressions: int, overrides: list[str]) -> Settings:
    """Return the demo's configuration with two days of this many impressions each."""
    sizes = [f"generate.{name}={impressions // 20}" for name in ("users", "items")]
    sizes += [f"generate.impressions={impressions}", "generate.days=2"]
    return demo_settings(folder, [f"store.path={folder}/{store}", *sizes, *overrides])


def build_seconds(folder: Path, impressions: int, rounds: int) -> dict[str, list[float]]:
    """Build the second day once per side and round; return the seconds of each side."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side, overrides in SIDES.items():
            store = f"{side}-{number}"
            settings = settings_of(folder, store, impressions, overrides)
            assert settings.generate
            generate(spark_session("benchmark", "UTC"), settings.generate)
            logs, opened = settings.open("benchmark", FIRST)
            build_day(logs, opened, settings.build, settings.split, FIRST)
            start = time.perf_counter()
            build_day(logs, opened, settings.build, settings.split, SECOND)
            seconds[side].append(time.perf_counter() - start)
    return seconds


def batches(spec: FeatureSpec, count: int) -> list[tuple[Batch, int]]:
    """Draw batches of ``benchmarks.training``, with counts if the spec has counters."""
    rows = CONFIG.batch_size
    columns = draw(rows * count, 100_000, zipf=True)
    rng = np.random.default_rng(1)
    columns |= {name: rng.integers(0, 1000, rows * count) for name in spec.numeric_columns}
    cut = [{n: v[i * rows : (i + 1) * rows] for n, v in columns.items()} for i in range(count)]
    return [(from_columns(each, spec), rows) for each in cut]


def step_seconds(rounds: int, steps: int = 40) -> dict[str, list[float]]:
    """Return the median seconds of a training step in each round, by side."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    trainers = {
        side: (trainer_of(100_000, spec), batches(spec, steps))
        for side, spec in zip(SIDES, (SPEC, COUNTED), strict=True)
    }
    for _ in range(rounds + 1):  # the first one warms up
        for side, (trainer, drawn) in trainers.items():
            taken = []
            for batch, rows in drawn:
                start = time.perf_counter()
                trainer.step(batch, rows)
                taken.append(time.perf_counter() - start)
            seconds[side].append(statistics.median(taken))
    return {side: each[1:] for side, each in seconds.items()}


def added(seconds: dict[str, list[float]]) -> float:
    """Return the added time as a share of the time without counters; medians over rounds."""
    without, with_counters = (statistics.median(seconds[side]) for side in SIDES)
    return round(with_counters / without - 1, 3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--impressions", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    words = parser.parse_args()
    step = step_seconds(words.rounds)
    print("seconds of a step:", step, flush=True)
    with tempfile.TemporaryDirectory() as place:
        build = build_seconds(Path(place), words.impressions, words.rounds)
    print("seconds of a build:", build)
    print(json.dumps({"build_added": added(build), "step_added": added(step)}))
