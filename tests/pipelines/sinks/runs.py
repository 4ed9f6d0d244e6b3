"""Runs of scores to deliver to Redis, and what a reader finds of them."""

import json
from datetime import date
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from pipelines.sinks.redis import RedisConfig, to_redis
from pipelines.store.manifest import Manifest
from tests.pipelines.sinks.scores import DAY

CONFIG = RedisConfig("${REDIS_URL}")

SCHEMA = (
    "`user.id` long, item string, score double, rank int,"
    " explanations array<struct<kind string, item string, weight double>>"
)
WHY = [{"kind": "clicks", "item": 'a "quoted" \\ one ü', "weight": 1e-9}]


def published(run: str, day: date = DAY, version: int = 1) -> Manifest:
    return Manifest("scores", str(day), run, facts={"model": "din", "version": version})


def scores(spark: SparkSession, users: int, items: int = 3) -> DataFrame:
    """Scores of users 0, 1, …, in two partitions, the worst first."""
    rows = [
        (user, f"item:{user}-{rank}", 1 / (1 + rank + user), rank, [None, [], WHY][rank % 3])
        for user in range(users)
        for rank in range(items, 0, -1)
    ]
    return spark.createDataFrame(spark.sparkContext.parallelize(rows, 2), SCHEMA)


def deliver(spark: SparkSession, users: int, *of_run: Any, config: RedisConfig = CONFIG) -> None:
    to_redis(scores(spark, users), config, published(*of_run))


def current(reader: Any) -> dict[str, Any]:
    return json.loads(reader.get("din:current"))


def visible(reader: Any) -> list[str]:
    """The users that a reader finds by the pointer."""
    start = f"din:{current(reader)['run']}:"
    return sorted(key.removeprefix(start) for key in reader.scan_iter(f"{start}*"))
