"""The generated logs obey their own law, and are the same on any number of partitions."""

import json
import math
import os
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from din_model.errors import InputError
from pipelines.ingest.simulation import GenerateConfig, simulate
from pipelines.ingest.synthetic import TABLES, generate

SMALL = GenerateConfig(
    path="",
    first_date="2026-11-19",
    days=3,
    users=600,  # two blocks
    items=200,
    categories=12,
    impressions=3_000,
    interests=3,
    popularity_effect=0.0,
    user_effect=0.0,
    history=20,
    broken=0.02,
    candidates_users=20,
    candidates_items=10,
)
DATES = ["2026-11-19", "2026-11-20", "2026-11-21"]
Logs = tuple[GenerateConfig, dict[str, int]]


@pytest.fixture(scope="module")
def logs(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Logs:
    config = replace(SMALL, path=str(tmp_path_factory.mktemp("logs")))
    return config, generate(spark, config)


def lines(config: GenerateConfig, table: str, date: str = "*") -> list[str]:
    files = sorted(Path(config.path).glob(f"{table}/date={date}/*.json"))
    return [line for file in files for line in file.read_text().splitlines()]


def broken_kind(line: str) -> str | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return "truncated"
    if row["user_id"] is None:
        return "no user"
    if row["time"] == "yesterday":
        return "no time"
    return None if "item_id" in row else "no item"


def whole(config: GenerateConfig, date: str = "*") -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in lines(config, "impressions", date) if not broken_kind(line)
    ]


def clicks(config: GenerateConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(config, "clicks")]


def auc(score: list[float], label: list[bool]) -> float:
    """Share of (click, no click) pairs in the right order, ties counting half."""
    values, positive = np.array(score), np.array(label)
    negative = np.sort(values[~positive])
    below = np.searchsorted(negative, values[positive], "left")
    upto = np.searchsorted(negative, values[positive], "right")
    return float((below + upto).mean() / 2 / len(negative))


def rows(spark: SparkSession, config: GenerateConfig, partitions: int) -> list[Any]:
    return sorted(simulate(spark, config, partitions).toPandas().fillna(-1).itertuples(index=False))


def test_logs_depend_on_the_seed_not_on_partitions(spark: SparkSession) -> None:
    small = replace(SMALL, days=2, impressions=500)
    expected = rows(spark, small, 1)
    assert rows(spark, small, 4) == expected
    assert rows(spark, replace(small, seed=8), 2) != expected


def test_counts_are_the_rows_on_disk(spark: SparkSession, logs: Logs) -> None:
    config, counts = logs
    assert set(counts) == set(TABLES)
    for table in ("impressions", "clicks"):
        assert counts[table] == len(lines(config, table))
    for table in ("history", "items", "users", "candidates"):
        assert counts[table] == spark.read.parquet(f"{config.path}/{table}").count()
    assert counts["impressions"] == pytest.approx(3 * config.impressions * 1.04, rel=0.15)
    for date in DATES:
        assert len(list(Path(config.path).glob(f"impressions/date={date}/*"))) <= 2


def test_true_probabilities_follow_the_formula(spark: SparkSession, logs: Logs) -> None:
    config, _ = logs
    category = {
        row.item_id: row.category for row in spark.read.parquet(f"{config.path}/items").collect()
    }
    past: dict[str, list[tuple[str, int]]] = defaultdict(list)
    history = spark.read.parquet(f"{config.path}/history")
    for row in history.selectExpr("user_id", "item_id", "unix_micros(time) AS us").collect():
        moment = np.datetime64(row.us, "us").item()
        past[row.user_id].append((moment.isoformat(timespec="microseconds") + "Z", row.item_id))
    for click in clicks(config):
        past[click["user_id"]].append((click["time"], click["item_id"]))
    compared, crowded = Counter[bool](), 0
    for shown in whole(config):
        before = sorted(b for b in past[shown["user_id"]] if b[0] < shown["time"][:10])
        crowded += len(before) > 50
        same = sum(category[item] == category[shown["item_id"]] for _, item in before[-50:])
        logit = math.log(config.base_rate / (1 - config.base_rate))
        logit += config.affinity * (1 - math.exp(-same))
        assert shown["true_probability"] == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)
        compared[same > 0] += 1
    assert min(compared.values()) > 1_000
    assert crowded > 100


def test_truth_orders_clicks_well(logs: Logs) -> None:
    config, _ = logs
    clicked = {click["impression_id"] for click in clicks(config)}
    shown = whole(config)
    label = [row["impression_id"] in clicked for row in shown]
    truth = [row["true_probability"] for row in shown]
    assert auc(truth, label) > 0.65
    assert np.mean(label) == pytest.approx(np.mean(truth), abs=0.02)
    assert 0.07 < np.mean(label) < 0.6


def test_without_effects_clicks_are_independent_of_the_item(spark: SparkSession) -> None:
    events = simulate(spark, replace(SMALL, affinity=0.0)).toPandas()
    shown = events[events["table"] == "impressions"]
    assert set(shown["true_probability"].round(12)) == {SMALL.base_rate}
    share = (events["table"] == "clicks").sum() / (shown["broken"] == 0).sum()
    assert share == pytest.approx(SMALL.base_rate, abs=0.015)


@pytest.mark.parametrize(
    ("effect", "key"), [("popularity_effect", "item"), ("user_effect", "user")]
)
def test_each_effect_changes_the_true_probability(
    spark: SparkSession, effect: str, key: str
) -> None:
    changes: dict[str, Any] = {"affinity": 0.0, "days": 1, "impressions": 500, effect: 0.5}
    shown = simulate(spark, replace(SMALL, **changes)).where("table = 'impressions'").toPandas()
    truth = shown.groupby(key)["true_probability"]
    assert truth.nunique().max() == 1
    assert np.std(np.log(truth.first() / (1 - truth.first()))) == pytest.approx(0.5, rel=0.3)


def test_clicks_follow_their_impressions(logs: Logs) -> None:
    config, _ = logs
    shown = {row["impression_id"]: row for row in whole(config)}
    assert len(shown) == len(whole(config))
    delays = []
    for click in clicks(config):
        source = shown[click["impression_id"]]  # a broken impression is not among them
        assert (click["user_id"], click["item_id"]) == (source["user_id"], source["item_id"])
        moments = [datetime.fromisoformat(row["time"]) for row in (source, click)]
        delays.append((moments[1] - moments[0]).total_seconds())
    assert min(delays) >= 1
    assert np.mean(delays) == pytest.approx(45, rel=0.1)
    for table in ("impressions", "clicks"):
        for folder in Path(config.path).glob(f"{table}/date=*"):
            text = lines(config, table, folder.name.removeprefix("date="))
            times = [json.loads(line)["time"] for line in text if not broken_kind(line)]
            assert {time[:10] for time in times} == {folder.name.removeprefix("date=")}
    assert all(row["item_id"] > 2**53 and 1 <= row["position"] <= 10 for row in shown.values())
    assert any(int(float(row["item_id"])) != row["item_id"] for row in shown.values())


def test_history_lies_in_the_weeks_before(spark: SparkSession, logs: Logs) -> None:
    config, counts = logs
    history = spark.read.parquet(f"{config.path}/history")
    assert dict(history.dtypes)["time"] == "timestamp"
    first, last = history.selectExpr("string(min(time))", "string(max(time))").collect()[0]
    assert "2026-10-29" <= first < last < "2026-11-19"
    assert counts["history"] == pytest.approx(config.users * config.history, rel=0.2)


def test_broken_lines_are_rare_and_of_every_kind(logs: Logs) -> None:
    config, counts = logs
    kinds = Counter(filter(None, map(broken_kind, lines(config, "impressions"))))
    assert set(kinds) == {"truncated", "no user", "no time", "no item"}
    assert sum(kinds.values()) == pytest.approx(counts["impressions"] * config.broken, rel=0.4)


def test_users_and_items_grow_and_unseen_ones_are_scored(spark: SparkSession, logs: Logs) -> None:
    config, _ = logs
    seen = {row["item_id"] for row in whole(config)}
    for table, key, new in (("users", "user_id", 12), ("items", "item_id", 6)):
        snapshots = spark.read.parquet(f"{config.path}/{table}").collect()
        by_date = [{row[key] for row in snapshots if str(row.date) == date} for date in DATES]
        for earlier, later in pairwise(by_date):
            assert earlier < later
            assert len(later - earlier) == new
        acting = [{row[key] for row in whole(config, date)} for date in DATES]
        exist = zip(acting, by_date, strict=True)
        assert all(active <= existing for active, existing in exist)
        assert len(acting[2] - by_date[0]) > 0
    pairs = spark.read.parquet(f"{config.path}/candidates").collect()
    assert {str(row.date) for row in pairs} == {"2026-11-20", "2026-11-21", "2026-11-22"}
    assert len(set(pairs)) == len(pairs) == 3 * 20 * 10
    assert {row.item_id for row in pairs} - seen


def test_logs_are_rewritten_only_if_parameters_change(spark: SparkSession, tmp_path: Path) -> None:
    config = replace(SMALL, path=str(tmp_path), days=1, impressions=300)

    def stamps() -> dict[str, int]:
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        return {str(file): os.stat(file).st_mtime_ns for file in files}

    counts = generate(spark, config)
    before = stamps()
    assert generate(spark, config) == counts
    assert stamps() == before
    assert generate(spark, replace(config, seed=8)) != counts
    assert not any("date=" in file and file in before for file in stamps())
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_dir()) == sorted(TABLES)


def test_logs_of_other_programs_are_not_replaced(spark: SparkSession, tmp_path: Path) -> None:
    kept = tmp_path / "clicks" / "precious.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    with pytest.raises(InputError, match="clicks"):
        generate(spark, replace(SMALL, path=str(tmp_path)))
    assert kept.read_text() == "{}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("interests", 13),
        ("categories", 201),
        ("candidates_items", 201),
        ("first_date", "19.11.2026"),
    ],
)
def test_impossible_parameters_are_refused(
    spark: SparkSession, tmp_path: Path, key: str, value: Any
) -> None:
    with pytest.raises(InputError, match=rf"^generate\.{key}: .*{value}") as error:
        generate(spark, replace(SMALL, path=str(tmp_path), **{key: value}))
    assert "\n" not in str(error.value)
