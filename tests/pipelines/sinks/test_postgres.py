"""Delivery to PostgreSQL: the columns, the address and the password."""

import re
import sys
from pathlib import Path

import pytest
from pyspark.errors import PythonException

from din_model.config import build
from din_model.errors import InputError
from pipelines.sinks.postgres import PostgresConfig, to_postgres
from tests.pipelines.sinks.scores import (
    DAY,
    plain,
    scores,
    select,
    tables,
)

pytest_plugins = "tests.postgres"


def test_postgres_receives_the_rows_with_their_types_and_key(spark, url, reader):
    rows = scores(spark, DAY, 25)
    to_postgres(rows, PostgresConfig(url), DAY, 25)
    names = [column for column in rows.columns if column != "date"]
    found = select(reader, f"SELECT {', '.join(names)}, date::text FROM scores ORDER BY user_id")
    assert [dict(zip([*names, "date"], row, strict=True)) for row in found] == plain(DAY, 25)
    types = (
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name='scores'"
    )
    assert dict(select(reader, types)) == {
        "user_id": "bigint", "item_id": "text", "score": "double precision", "rank": "integer",
        "history_length": "integer", "unknown_item": "boolean", "explanations": "jsonb",
        "model": "text", "model_version": "integer", "date": "date",
    }  # fmt: skip
    key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'scores_pkey'"
    assert select(reader, key) == [("PRIMARY KEY (date, user_id, item_id)",)]
    assert tables(reader) == ["scores"]


def test_a_wrong_password_is_reported_in_one_line_without_the_password(
    spark, postgres, url, reader, monkeypatch
):
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    with pytest.raises(InputError, match=r"password authentication failed.*PGPASSWORD") as caught:
        to_postgres(scores(spark, DAY, 1), PostgresConfig(url), DAY, 1)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    monkeypatch.setitem(spark.sparkContext.environment, "PGPASSWORD", "hunter2")
    with pytest.raises(PythonException) as failed:
        to_postgres(scores(spark, DAY, 1), PostgresConfig(url), DAY, 1)
    said = re.search("InputError: (.*)", str(failed.value))
    assert said
    assert "password authentication failed" in said[1]
    assert "on the executors too" in said[1]
    assert "hunter2" not in str(failed.value)
    assert postgres.password not in str(failed.value)
    assert tables(reader) == []


def test_an_unreachable_server_is_reported_in_one_line(spark, tmp_path: Path):
    for place in (f"postgresql:///scores?host={tmp_path}", "postgresql://127.0.0.1:1/scores"):
        with pytest.raises(
            InputError, match=r"look whether it runs, at score\.postgres\.url"
        ) as caught:
            to_postgres(scores(spark, DAY, 1), PostgresConfig(place), DAY, 1)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value) or "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize("url", [
    "postgresql://me:hunter2@host/db", "postgresql://host/db?password=hunter2",
    "postgresql://host/db?sslpassword=hunter2", "postgresql://me:hunter2@[host/db",
])  # fmt: skip
def test_a_password_in_the_url_is_refused_and_not_repeated(spark, url, monkeypatch):
    with pytest.raises(InputError, match=r"score\.postgres\.url") as caught:
        build(PostgresConfig, {"url": url}, "my.yaml")
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("SCORES_AT", url)
    with pytest.raises(InputError, match=r"score\.postgres\.url") as caught:
        to_postgres(scores(spark, DAY, 1), PostgresConfig("${SCORES_AT}"), DAY, 1)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["host=here", "mysql://here/db", "postgresql://here/db?hunter2=1"])
def test_an_invalid_address_is_refused_with_the_expected_form(spark, url):
    with pytest.raises(InputError, match="is not postgresql://host:port/database") as caught:
        to_postgres(scores(spark, DAY, 1), PostgresConfig(url), DAY, 1)
    assert "hunter2" not in str(caught.value)


def test_without_psycopg_the_error_names_the_package_to_install(spark, monkeypatch):
    monkeypatch.delitem(sys.modules, "pipelines.sinks.postgres_copy", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"pip install 'din-pipeline\[postgres\]'"):
        to_postgres(scores(spark, DAY, 1), PostgresConfig("postgresql://host/db"), DAY, 1)


def test_an_invalid_table_name_is_refused_with_the_configuration():
    with pytest.raises(InputError, match=r"score\.postgres\.table: 'a b' is no table"):
        build(PostgresConfig, {"url": "postgresql://host/db", "table": "a b"}, "my.yaml")
