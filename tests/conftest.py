"""One Spark session for the whole run: two cores, UTC, little enough shuffling for small tables."""

import os
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from pipelines.session import spark_session

QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""A session over so few rows mostly compiles Java's code: let that be done quickly."""

os.environ.setdefault("SPARK_SUBMIT_OPTS", QUICK_JAVA)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    session = spark_session(
        "tests",
        time_zone="UTC",
        defaults={
            "spark.master": "local[2]",
            "spark.driver.memory": "2g",
            "spark.sql.shuffle.partitions": "3",
            "spark.ui.enabled": "false",
            "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        },
    )
    yield session
    session.stop()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist's own, which reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run side by side, keep those together that share what is dear to set up."""
    for item in items:
        shared = "nights" if "nights" in getattr(item, "fixturenames", ()) else item.path.stem
        item.add_marker(pytest.mark.xdist_group(shared))


@pytest.fixture(autouse=True)
def utc() -> Iterator[None]:
    """A job sets the session's time zone to its own logs'; the next test begins in UTC again."""
    yield
    if session := SparkSession.getActiveSession():
        session.conf.set("spark.sql.session.timeZone", "UTC")
