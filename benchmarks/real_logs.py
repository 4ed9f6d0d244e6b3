"""Evaluate the default model on real impression logs, day by day, as a night does.

    DIN_REAL_DATA=… python -m benchmarks.real_logs [--logs ebnerd mind] [section.key=value …]

Each day is evaluated with a model trained on the days before it; histories and counters end at the
start of the day. The baselines on the same rows are the item's smoothed click rate and boosted
trees (LightGBM) over the same counters. The configurations only declare the columns; overrides
apply to all logs. Prints one line per day. The last line is JSON: the means of each log.
"""

import argparse
import json
import tempfile
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from din_model.config import load
from jobs.cli import Settings
from pipelines.examples.build import build_day
from pipelines.ingest.sources import days_between
from pipelines.store.store import Store
from pipelines.training.challenger import train
from pipelines.training.evaluate import baselines, evaluate_model
from pipelines.training.training_set import open_training_set, training_days

CONFIGURATIONS = Path(__file__).parents[1] / "conf" / "datasets"


class Log(NamedTuple):
    """The first day of a log, and the first and last evaluation date."""

    first: date
    evaluated: tuple[date, date]


LOGS = {
    "ebnerd": Log(date(2023, 5, 18), (date(2023, 5, 20), date(2023, 5, 24))),
    "mind": Log(date(2019, 11, 9), (date(2019, 11, 11), date(2019, 11, 14))),
}


def settings_of(name: str, folder: str, overrides: list[str]) -> Settings:
    own = [f"store.path={folder}/{name}", f"history.since={LOGS[name].first}"]
    return load(Settings, [str(CONFIGURATIONS / f"{name}.yaml")], [*own, *overrides])


def build(settings: Settings, log: Log) -> Store:
    logs, store = settings.open("real_logs", log.first)
    for day in days_between(log.first, log.evaluated[1]):
        build_day(logs, store, settings.build, settings.split, day)
    return store


def evaluate(settings: Settings, store: Store, day: date) -> dict[str, Any]:
    """Train on the days before; return the metrics of the day by model or baseline."""
    days = training_days(settings.train, settings.split, day, settings.history.since)
    data = open_training_set(store, days, settings.split, day, settings.train.patience)
    model, *_ = train(store, data, settings.train, lambda *_: None)
    beside = baselines(store, data, settings.train.seed)
    return evaluate_model(model, store, data, "ours", beside).metrics


def summary(metrics: dict[str, Any]) -> dict[str, float]:
    ours, popularity = metrics["ours"], metrics["popularity"]
    row = {name: ours[name] for name in ("gauc", "auc", "log_loss", "calibration")}
    row |= {
        "popularity_gauc": popularity["gauc"],
        "base_log_loss": metrics["base rate"]["log_loss"],
    }
    if trees := metrics.get("lightgbm"):
        row |= {"gbdt_gauc": trees["gauc"], "gbdt_log_loss": trees["log_loss"]}
    return {name: round(value, 4) for name, value in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", nargs="+", choices=list(LOGS), default=list(LOGS))
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    words = parser.parse_intermixed_args()
    means = {}
    with tempfile.TemporaryDirectory(prefix="real-logs-") as folder:
        for name in words.logs:
            log, rows = LOGS[name], []
            settings = settings_of(name, folder, words.overrides)
            store = build(settings, log)
            for day in days_between(*log.evaluated):
                rows.append(summary(evaluate(settings, store, day)))
                print(name, day, json.dumps(rows[-1]), flush=True)
            means[name] = {k: round(sum(r[k] for r in rows) / len(rows), 4) for k in rows[0]}
    print(json.dumps(means))


if __name__ == "__main__":
    main()
