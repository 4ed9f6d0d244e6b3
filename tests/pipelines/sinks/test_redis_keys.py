"""A reader of Redis finds all of one run or all of the other."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from pyspark.errors import PythonException

from din_model.errors import InputError
from pipelines.failures import one_line
from pipelines.sinks import redis_keys
from pipelines.sinks.redis import RedisConfig, to_redis
from tests.nights import environment
from tests.pipelines.sinks.runs import CONFIG, current, deliver, published, scores, visible
from tests.pipelines.sinks.scores import DAY, NEXT

pytest_plugins = "tests.redis_server"


def test_keys_and_pointer_expire_at_the_same_moment(spark, redis_reader):
    deliver(spark, 3, "run-1", config=RedisConfig("${REDIS_URL}", ttl="2h"))
    keys = list(redis_reader.scan_iter())
    assert len(keys) == 4
    now, _ = redis_reader.time()
    left = {round(now + redis_reader.pttl(key) / 1000) for key in keys}
    assert max(left) - min(left) <= 1
    assert 0 < min(left) - now <= 7200


def test_a_run_delivered_again_leaves_exactly_its_users_visible(spark, redis_reader):
    deliver(spark, 5, "run-1")
    deliver(spark, 5, "run-1")
    assert visible(redis_reader) == ["0", "1", "2", "3", "4"]
    deliver(spark, 2, "run-2", DAY, 2)  # the date was scored again
    assert visible(redis_reader) == ["0", "1"]
    assert (current(redis_reader)["version"], current(redis_reader)["users"]) == (2, 2)
    deliver(spark, 3, "run-3", NEXT)
    assert visible(redis_reader) == ["0", "1", "2"]
    assert current(redis_reader)["date"] == str(NEXT)


def test_an_older_date_does_not_replace_a_newer_one(spark, redis_reader, capsys):
    deliver(spark, 3, "run-2", NEXT)
    before = current(redis_reader)
    deliver(spark, 5, "run-1", DAY)
    assert "2026-11-24 is current, which is newer: not delivered" in capsys.readouterr().out
    assert current(redis_reader) == before
    assert not list(redis_reader.scan_iter("din:run-1:*"))


def test_a_newer_date_delivered_meanwhile_stays_current(spark, redis_reader, monkeypatch):
    def count(*words: Any) -> tuple[int, int]:
        monkeypatch.setattr(redis_keys, "count", counted)
        deliver(spark, 2, "run-2", NEXT)
        return counted(*words)

    counted = redis_keys.count
    monkeypatch.setattr(redis_keys, "count", count)
    deliver(spark, 3, "run-1", DAY)
    assert current(redis_reader)["run"] == "run-2"


def test_the_pointer_is_read_again_if_it_changes_before_the_switch(redis_reader, monkeypatch):
    def read(value: Any, pointer: str, day: str) -> str | None:
        monkeypatch.setattr(redis_keys, "_newer", newer)
        redis_reader.set(pointer, json.dumps({"date": str(NEXT)}))
        return newer(value, pointer, day)

    newer = redis_keys._newer
    monkeypatch.setattr(redis_keys, "_newer", read)
    value = {"date": str(DAY)}
    assert redis_keys.switch("${REDIS_URL}", "din:current", value, 2**33) == str(NEXT)
    assert current(redis_reader)["date"] == str(NEXT)


def test_a_server_that_fills_up_amid_a_delivery_keeps_the_old_date(spark, redis_reader):
    deliver(spark, 3, "run-1")
    before = current(redis_reader)
    redis_reader.config_set("maxmemory", redis_reader.info("memory")["used_memory"] + 2_000_000)
    with pytest.raises(PythonException) as failed:
        to_redis(scores(spark, 20_000), CONFIG, published("run-2", NEXT))
    line = one_line(failed.value)
    assert line is not None
    assert line.startswith("score.redis: ")
    assert "OutOfMemoryError: command not allowed" in line
    assert "run-2" not in line, "a key would name a user"
    assert any(redis_reader.scan_iter("din:run-2:*", count=1000)), "some keys were written before"
    assert current(redis_reader) == before
    assert visible(redis_reader) == ["0", "1", "2"]


def test_keys_that_the_server_has_lost_keep_the_old_date(spark, redis_reader, monkeypatch):
    def write(*words: Any) -> int:
        written = wrote(*words)
        redis_reader.delete("din:run-2:1")
        return written

    deliver(spark, 3, "run-1")
    wrote = redis_keys.write
    monkeypatch.setattr(redis_keys, "write", write)
    lost = "4 users of 2026-11-24, but 4 keys written and 3 on the server: din:current is as it was"
    with pytest.raises(InputError, match=lost):
        deliver(spark, 4, "run-2", NEXT)
    assert current(redis_reader)["run"] == "run-1"


KILLED = """
import os, signal
from pipelines.session import spark_session
from pipelines.sinks import redis_keys
from pipelines.sinks.redis import to_redis
from tests.pipelines.sinks.runs import CONFIG, published, scores
from tests.pipelines.sinks.scores import NEXT

redis_keys.switch = lambda *words: os.kill(os.getpid(), signal.SIGKILL)
spark = spark_session("killed", "UTC", {"spark.master": "local[1]", "spark.ui.enabled": "false"})
to_redis(scores(spark, 5), CONFIG, published("run-2", NEXT))
"""


def test_a_job_killed_before_the_switch_leaves_the_old_date(spark, redis_reader):
    deliver(spark, 3, "run-1")
    env = environment() | {"REDIS_URL": os.environ["REDIS_URL"]}
    done = subprocess.run([sys.executable, "-c", KILLED], env=env, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(redis_reader.scan_iter("din:run-2:*"))) == 5
    assert current(redis_reader)["date"] == str(DAY)
    assert visible(redis_reader) == ["0", "1", "2"]
    deliver(spark, 5, "run-2", NEXT)
    assert len(visible(redis_reader)) == 5
