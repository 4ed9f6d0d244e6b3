"""An empty database on a real PostgreSQL server, and a connection that reads it."""

from collections.abc import Iterator

import psycopg
import pytest
from pyspark.sql import SparkSession


@pytest.fixture
def url(
    postgres, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:  # fmt: skip
    """The address of an empty database, whose user and password are in the environment."""
    monkeypatch.setenv("PGUSER", postgres.user)
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    # As spark.executorEnv.PGPASSWORD does, but in a session that runs already.
    monkeypatch.setitem(spark.sparkContext.environment, "PGPASSWORD", postgres.password)
    return postgres.create(f"test_{abs(hash(request.node.name))}")


@pytest.fixture
def reader(url: str) -> Iterator[psycopg.Connection]:
    """A reader; each statement sees what is committed by then."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection
