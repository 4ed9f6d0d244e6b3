"""What tests share: a Spark session, and three generated nights."""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from pyspark.sql import SparkSession

from din_model import masking
from din_model.config import load
from din_model.registry import tracking, versions
from jobs import nightly
from jobs.cli import Settings
from pipelines.ingest.synthetic import generate
from pipelines.session import spark_session
from pipelines.store.store import Store
from tests.nights import NIGHTS, SMALL, demo

NightsFixture = tuple[Settings, Store, list[int | None]]

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
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        },
    )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def nights(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> NightsFixture:
    """Logs of four days, three nights on them, and the champion after each night.

    They are generated once for all processes of a test run; each process gets a copy of its own.
    """
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    base = tmp_path_factory.getbasetemp()
    original = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "three-nights"
    champions = original / "champions.json"
    with FileLock(f"{original}.lock"):
        if not champions.exists():
            champions.write_text(json.dumps(_run_nights(spark, original)))
    copy = tmp_path_factory.mktemp("nights")
    before, after = original / "out/demo/store", copy / "out/demo/store"
    shutil.copytree(before, after)
    _move_tracking(after / "mlflow.db", str(before), str(after))
    config = Path(demo(copy))
    # Scores pin the names of the log files that they were made of, so the logs stay where they are.
    config.write_text(
        config.read_text().replace(f"{copy}/out/demo/logs", f"{original}/out/demo/logs")
    )
    settings = _settings(str(config))
    return settings, Store(settings.store.path), json.loads(champions.read_text())


def _settings(config: str) -> Settings:
    return load(Settings, [config], [*SMALL, "history.kinds.clicks.age=true"])


def _run_nights(spark: SparkSession, folder: Path) -> list[int | None]:
    """Generate logs into ``folder`` and run ``NIGHTS``; return the champion after each."""
    folder.mkdir(exist_ok=True)
    settings = _settings(demo(folder))
    assert settings.generate is not None
    generate(spark, settings.generate)
    champions = []
    for night in NIGHTS:
        nightly.run(settings, night)
        champions.append(versions.champion(settings.tracking.model))
    return champions


def _move_tracking(database: Path, old: str, new: str) -> None:
    """Replace a folder's path in every text of MLflow's database."""
    with sqlite3.connect(database) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            for _, column, kind, *_ in connection.execute(f"PRAGMA table_info('{table}')"):
                if kind.startswith(("VARCHAR", "TEXT")):
                    query = f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?)'
                    connection.execute(query, (old, new))


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist's own, which reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file together where tests run side by side."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow sets this variable in the process; it must not decide where the next test tracks."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")


@pytest.fixture(autouse=True)
def tracked(request: pytest.FixtureRequest, no_server: None) -> None:
    """A test of the nights finds MLflow at their store, wherever an earlier test has pointed it."""
    if "nights" in request.fixturenames:
        settings, store, _ = request.getfixturevalue("nights")
        tracking.connect(settings.tracking, store.url)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test masks no value of a variable that an earlier test has read."""
    monkeypatch.setattr(masking, "_values", {})


@pytest.fixture(autouse=True)
def utc() -> Iterator[None]:
    """A job sets the session's time zone to its own logs'; the next test begins in UTC again."""
    yield
    if session := SparkSession.getActiveSession():
        session.conf.set("spark.sql.session.timeZone", "UTC")
