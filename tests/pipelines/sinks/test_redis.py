"""Delivery to Redis: the values, the address and the password."""

import json
import socket
import sys

import pytest
from pyspark.errors import PythonException

from din_model.config import build, load
from din_model.errors import InputError
from jobs.cli import Settings
from pipelines.failures import one_line
from pipelines.sinks.redis import RedisConfig, to_redis
from tests.pipelines.sinks.runs import CONFIG, current, deliver, published, scores
from tests.pipelines.sinks.scores import DAY

pytest_plugins = "tests.redis_server"


def test_a_user_finds_the_published_items_in_order(spark, redis_reader):
    rows = scores(spark, 4)
    to_redis(rows, CONFIG, published("run-1", DAY, 7))
    pointer = current(redis_reader)
    assert pointer == {
        "date": "2026-11-23", "model": "din", "version": 7, "run": "run-1", "users": 4,
    }  # fmt: skip
    for user in range(4):
        wanted = rows.where(f"`user.id` = {user}").orderBy("rank").drop("user.id", "rank")
        assert json.loads(redis_reader.get(f"din:{pointer['run']}:{user}")) == {
            "date": "2026-11-23", "model": "din", "version": 7,
            "items": [row.asDict(recursive=True) for row in wanted.collect()],
        }  # fmt: skip


def test_top_keeps_the_best_items_of_each_user(spark, redis_reader):
    deliver(spark, 2, "run-1", config=RedisConfig("${REDIS_URL}", top=2))
    found = json.loads(redis_reader.get("din:run-1:1"))["items"]
    assert [each["item"] for each in found] == ["item:1-1", "item:1-2"]


def test_scores_without_explanations_are_delivered_without_them(spark, redis_reader):
    to_redis(scores(spark, 1).drop("explanations"), CONFIG, published("run-1"))
    best, *_ = json.loads(redis_reader.get("din:run-1:0"))["items"]
    assert best == {"item": "item:0-1", "score": 0.5}


def test_a_wrong_password_is_reported_in_one_line_without_the_password(
    spark, redis_server, redis_reader, set_redis_url, monkeypatch
):
    wrong = redis_server.url.replace(redis_server.password, "hunter2")
    monkeypatch.setenv("REDIS_URL", wrong)
    with pytest.raises(InputError, match=r"AuthenticationError: .*look whether it runs") as caught:
        deliver(spark, 1, "run-1")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    set_redis_url(wrong)
    monkeypatch.setenv("REDIS_URL", redis_server.url)  # only the executors have the wrong one
    with pytest.raises(PythonException) as failed:
        deliver(spark, 1, "run-1")
    line = one_line(failed.value)
    assert line is not None
    assert "AuthenticationError" in line
    assert "on the executors too" in line
    assert "hunter2" not in str(failed.value)
    assert redis_server.password not in str(failed.value)
    assert not list(redis_reader.scan_iter())


def test_an_unreachable_server_is_reported_in_one_line(spark, monkeypatch):
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
    config = RedisConfig("redis://:${REDIS_PASSWORD}@127.0.0.1:1/0")
    with pytest.raises(
        InputError, match=r"127\.0\.0\.1: ConnectionError: .*score\.redis\.url"
    ) as caught:
        to_redis(scores(spark, 1), config, published("run-1"))
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_does_not_answer_is_reported_in_one_line(spark):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0?socket_timeout=0.01"
        with pytest.raises(InputError, match=r"127\.0\.0\.1: TimeoutError: Timeout reading"):
            to_redis(scores(spark, 1), RedisConfig(url), published("run-1"))


@pytest.mark.parametrize("url", [
    "redis://:hunter2@host/0", "rediss://me:hunter2@host:6380/0", "redis://host/0?password=hunter2",
    "unix://:hunter2@/run/redis.sock", "redis://:77hunter2@host:6379",
])  # fmt: skip
def test_a_password_in_the_configuration_is_refused_and_not_repeated(url):
    with pytest.raises(InputError, match=r"'score\.redis\.url' holds a password") as caught:
        load(Settings, [], [f"score.redis.url={url}"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", [
    "host=here", "mysql://here/0", "redis://:hunter2@[here/0", "redis://here:port/0",
    "redis://here/0?hunter2=1",
])  # fmt: skip
def test_an_invalid_address_is_refused_with_the_expected_form(spark, url, monkeypatch):
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(InputError, match="is not redis://host:port/0") as caught:
        to_redis(scores(spark, 1), CONFIG, published("run-1"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", ["7", "no JSON", '{"day": "2026-11-22"}', '{"date": 7}', "[]"])
def test_a_key_of_somebody_else_is_not_replaced(spark, redis_reader, value):
    redis_reader.set("din:current", value)
    with pytest.raises(InputError, match="the key din:current holds no delivery"):
        deliver(spark, 1, "run-1")
    assert redis_reader.get("din:current") == value
    assert len(list(redis_reader.scan_iter())) == 1


def test_without_redis_the_error_names_the_package_to_install(spark, monkeypatch):
    monkeypatch.delitem(sys.modules, "pipelines.sinks.redis_keys", raising=False)
    monkeypatch.delattr("pipelines.sinks.redis_keys", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(InputError, match=r"pip install 'din-pipeline\[redis\]'"):
        to_redis(scores(spark, 1), RedisConfig("redis://host/0"), published("run-1"))


def test_a_ttl_of_nothing_is_refused():
    with pytest.raises(InputError, match="must be longer than 0s"):
        build(RedisConfig, {"url": "redis://host/0", "ttl": "0s"}, "my.yaml")
