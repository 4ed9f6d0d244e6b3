"""Writes keys to Redis and switches a pointer, for pipelines.sinks.redis.

Executors write the keys in pipelines, and then ask the server how many of them it holds. The driver
switches the pointer. Needs the package redis, so it is imported only if Redis is configured.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import redis
from pyspark.sql import DataFrame
from redis.backoff import ExponentialBackoff
from redis.client import Pipeline
from redis.retry import Retry

from din_model.config import expand
from din_model.errors import InputError
from din_model.masking import remember_passwords
from pipelines.sinks.names import REDIS

BATCH = 1000
"""Commands of a pipeline."""

DEFAULTS = {"socket_connect_timeout": 10, "socket_timeout": 30, "client_name": "din-pipeline"}
"""Settings that the url may override; timeouts are in seconds."""

RETRIES = 2
"""After the first attempt to connect, or to send a pipeline; a key may be set twice."""

Row = dict[str, Any]


def look(url: str, pointer: str, day: str) -> tuple[int, str | None]:
    """Return the server's time in seconds, and the date of the pointer if it is after ``day``.

    Raises:
        InputError: the server does not answer, or the pointer's key holds something else.
    """
    with _connected(url) as server:
        seconds, _ = server.time()
        return seconds, _newer(server.get(pointer), pointer, day)


def write(values: DataFrame, url: str, expires: int) -> int:
    """Set the keys on the executors; return how many the server has taken.

    Args:
        values: ``_key`` and ``_value``.
        url: of the server, with its variables. Each task replaces them, so no task holds a secret.
        expires: second at which the keys expire.

    Raises:
        InputError: an executor does not reach the server, or the server refuses.
    """
    _, taken = _each(
        values, url, lambda pipe, row: pipe.set(row["_key"], row["_value"], exat=expires)
    )
    return taken


def count(keys: DataFrame, url: str) -> tuple[int, int]:
    """Return the number of rows of ``_key``, and how many of them the server holds; see write."""
    return _each(keys, url, lambda pipe, row: pipe.exists(row["_key"]))


def switch(url: str, pointer: str, value: Row, expires: int) -> str | None:
    """Set the pointer in one step, unless its date is newer than the value's; return that date.

    Raises:
        InputError: see ``look``.
    """
    with _connected(url) as server, server.pipeline() as pipe:
        while True:
            pipe.watch(pointer)
            if newer := _newer(pipe.get(pointer), pointer, value["date"]):
                return newer
            pipe.multi()
            pipe.set(pointer, json.dumps(value), exat=expires)
            with suppress(redis.WatchError):  # the pointer has changed since it was read
                pipe.execute()
                return None


def _newer(current: Any, pointer: str, day: str) -> str | None:
    if current is None:
        return None
    try:
        date: str = json.loads(current)["date"]
        return date if date > day else None
    except (ValueError, TypeError, KeyError):
        raise InputError(
            f"{REDIS}: the key {pointer} holds no delivery: remove it, or set another prefix"
        ) from None


def _each(rows: DataFrame, url: str, queue: Callable[[Pipeline, Row], object]) -> tuple[int, int]:
    """Send one command per row from the executors; return the rows and the true replies."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows, replied = 0, 0
        with _connected(url) as server:
            for batch in _slices(batches):
                pipe = server.pipeline(transaction=False)
                for row in batch.to_pylist():
                    queue(pipe, row)
                replies = pipe.execute(raise_on_error=False)
                # redis raises errors with the whole command, which names a user.
                for error in (r for r in replies if isinstance(r, redis.RedisError)):
                    raise error
                rows, replied = rows + len(replies), replied + sum(map(bool, replies))
        yield pa.RecordBatch.from_pydict({"rows": [rows], "replied": [replied]})

    counts = rows.mapInArrow(run, "rows long, replied long")
    sums = counts.groupBy().sum().first()
    assert sums is not None
    return int(sums[0] or 0), int(sums[1] or 0)


def _slices(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield from (batch.slice(start, BATCH) for start in range(0, batch.num_rows, BATCH))


@contextmanager
def _connected(url: str) -> Iterator[redis.Redis]:
    """Use a server; report errors of server and network in one line."""
    server = _server(expand(url))
    settings = server.connection_pool.connection_kwargs
    where = settings.get("path") or settings.get("host", "localhost")
    try:
        with server:
            yield server
    except redis.RedisError as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        if isinstance(error, redis.ConnectionError | redis.TimeoutError):
            way_out = (
                f"look whether it runs, at {REDIS}.url and the password (on the executors too)"
            )
        else:
            way_out = "the pointer is as it was; run again when this is put right"
        raise InputError(f"{REDIS}: {where}: {line}: {way_out}") from None


def _server(url: str) -> redis.Redis:
    remember_passwords(f"{REDIS}.url", url)
    try:
        retry = Retry(ExponentialBackoff(), RETRIES)
        server = redis.Redis.from_url(url, retry=retry, **DEFAULTS)
        pool = server.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # refuses an unknown word of the query
    except (ValueError, TypeError):  # its text may contain the password of the url
        raise InputError(f"{REDIS}.url is not redis://host:port/0") from None
    return server
