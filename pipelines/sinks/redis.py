"""Copies a date's published scores into Redis, one key a user, for online reads."""

import math
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from din_model.config import Section, duration
from din_model.console import stage
from din_model.errors import InputError
from din_model.ranges import Size, Wait
from pipelines.columns import column
from pipelines.sinks.names import REDIS
from pipelines.store.manifest import Manifest


@dataclass(frozen=True)
class RedisConfig(Section):
    """Keys in Redis that published scores are copied to, one per user.

    The password comes from the environment, ``${REDIS_URL}`` or ``redis://:${REDIS_PASSWORD}@…``;
    the variable must be set on the executors too.

    Attributes:
        url: ``redis://host:port/0``, ``rediss://`` for TLS, or ``unix://``; ``${VARIABLE}`` is
            replaced.
        prefix: begins every key; deliveries of different models need different ones.
        top: number of best items per user to keep.
        ttl: time after which the keys of a delivery expire; longer than between two deliveries.
        connections: maximum number of tasks that write at once.
    """

    url: str
    prefix: str = "din"
    top: Size = 100
    ttl: Wait = "3d"
    connections: Size = 8


def to_redis(rows: DataFrame, config: RedisConfig, published: Manifest) -> None:
    """Write a key ``PREFIX:RUN:USER`` per user, then switch the pointer ``PREFIX:current`` to RUN.

    A user's value is JSON with the best items in order; the pointer's is JSON with run, date,
    model, version and number of users. The keys and the pointer expire at the same moment. Until
    the switch, readers find the run before, also if the job is killed. If the date of the pointer
    is newer, nothing is delivered.

    Args:
        rows: user and item first, then score, rank and perhaps explanations; rank 1 once per user.
        config: the server and the keys.
        published: the run that the rows are of.

    Raises:
        InputError: the server holds fewer keys than there are users, the pointer's key holds
            something else, or the server cannot be reached or refuses. The pointer does not change.
    """
    try:
        from pipelines.sinks import redis_keys
    except ImportError:
        raise InputError(
            f"{REDIS} needs redis, here and on the executors: pip install 'din-pipeline[redis]'"
        ) from None
    pointer, run = f"{config.prefix}:current", f"{config.prefix}:{published.run}"
    with stage(f"{published.date} to Redis") as report:
        now, newer = redis_keys.look(config.url, pointer, published.date)
        if not newer:
            expires = now + math.ceil(duration(config.ttl).total_seconds())
            values = values_of(rows, run, config, published)
            written = redis_keys.write(values, config.url, expires)
            keys = rows.where("rank = 1").select(_key(rows, run)).coalesce(config.connections)
            users, found = redis_keys.count(keys, config.url)
            if not written == users == found:
                raise InputError(
                    f"{REDIS}: {users} users of {published.date}, but {written} keys written and"
                    f" {found} on the server: {pointer} is as it was; look at the server's memory"
                    f" and at {REDIS}.ttl, and run again"
                )
            value = _facts(published) | {"run": published.run, "users": users}
            newer = redis_keys.switch(config.url, pointer, value, expires)
            report.rows = users
        if newer:
            report.rows, report.note = 0, f"{newer} is current, which is newer: not delivered"


def values_of(rows: DataFrame, run: str, config: RedisConfig, published: Manifest) -> DataFrame:
    """Return the keys and values to write, in at most ``config.connections`` partitions.

    A value is the JSON of ``date``, ``model``, ``version`` and ``items``: a list of ``item``,
    ``score`` and perhaps ``explanations``, best first.
    """
    item = {"item": column(rows.columns[1]), "score": F.col("score")}
    if "explanations" in rows.columns:
        item["explanations"] = F.col("explanations")
    ranked = F.struct("rank", _struct(item).alias("_item"))
    items = F.transform(F.sort_array(F.collect_list(ranked)), lambda each: each["_item"])
    facts = {name: F.lit(value) for name, value in _facts(published).items()}
    value = F.to_json(_struct(facts | {"items": items}), {"ignoreNullFields": "false"})
    best = rows.where(F.col("rank") <= config.top)
    values = best.groupBy(_key(rows, run)).agg(value.alias("_value"))
    return values.coalesce(config.connections)


def _struct(fields: dict[str, Column]) -> Column:
    return F.struct(*[value.alias(name) for name, value in fields.items()])


def _key(rows: DataFrame, run: str) -> Column:
    user = column(rows.columns[0]).cast("string")
    return F.concat(F.lit(f"{run}:"), user).alias("_key")


def _facts(published: Manifest) -> dict[str, Any]:
    facts = published.facts
    return {"date": published.date, "model": facts["model"], "version": facts["version"]}
