"""What a machine does to a job becomes one line, wherever it happens."""

import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

from din_model.data.petastorm_reader import row_groups
from din_model.errors import InputError
from din_model.registry import tracking
from din_model.registry.tracking import TrackingConfig
from pipelines.examples.split import SplitConfig
from pipelines.failures import one_line
from pipelines.store.store import Store
from pipelines.training.launch import LaunchConfig, on_ranks
from pipelines.training.training_set import open_training_set
from tests.nights import NIGHTS, environment

FULL = Path("/dev/full")  # a disk without room, on every Linux


def full_disk(batches):
    yield from batches
    FULL.write_text("no room")


def killed(batches):
    os.kill(os.getpid(), signal.SIGKILL)
    yield from batches


def killed_with_much_to_read(batches):
    yield next(batches)
    os.kill(os.getpid(), signal.SIGKILL)


def told(action) -> str | None:
    try:
        action()
    except Exception as error:
        return one_line(error)
    pytest.fail("nothing was raised")


def test_a_full_disk_is_reported_from_every_process(spark):
    def on_an_executor():
        spark.range(3).mapInArrow(full_disk, "id long").collect()

    ways = [lambda: FULL.write_text("x"), on_an_executor]
    for line in map(told, ways):
        assert line is not None, line
        assert line.startswith("No space left on device"), line
        assert "\n" not in line
        assert "spark.local.dir" in line


def write_much() -> None:
    FULL.write_text("x")


@pytest.mark.slow
def test_a_rank_reports_a_full_disk_even_if_the_store_is_full(tmp_path):
    (tmp_path / "store").write_text("no folder can be made here")
    ranks = LaunchConfig("torchrun", ranks=2)
    for place in (tmp_path, tmp_path / "store"):
        line = told(lambda place=place: on_ranks(ranks, f"file://{place}", write_much))
        assert line is not None, line
        assert "No space left on device" in line, line


def test_a_forbidden_file_is_reported():
    def refuse():
        raise PermissionError(13, "Permission denied", "/store/.writer.lock")

    line = told(refuse)
    assert line is not None
    assert line.startswith("/store/.writer.lock: this user may not read or write it")


def test_a_lost_python_worker_is_reported(spark):
    line = told(lambda: spark.range(3).mapInArrow(killed, "id long").collect())
    assert line == "a Spark task was lost (Python worker exited unexpectedly): run the job again"


WITHOUT_JAVA = """
import os, signal
from pyspark import SparkContext
from jobs.cli import reported
from pipelines.session import spark_session

def run():
    spark = spark_session("lost", "UTC")
    os.kill(SparkContext._gateway.proc.pid, signal.SIGKILL)
    try:
        spark.range(3).count()
    finally:
        spark.conf.get("spark.app.name")  # as MLflow reads it, when it closes a run

reported(run)
"""


def test_a_lost_java_process_is_reported():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_JAVA], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: Spark's Java process has ended")


def test_a_lost_python_worker_with_a_reset_socket_is_reported(spark):
    rows = spark.range(0, 5_000_000, 1, 1).mapInArrow(killed_with_much_to_read, "id long")
    line = told(rows.collect)
    resets = [f"SocketException: {why}" for why in ("Connection reset", "Broken pipe")]
    assert line in {
        f"a Spark task was lost ({why}): run the job again"
        for why in (*resets, "Python worker exited unexpectedly")  # as Spark 4 tells it
    }


@pytest.mark.parametrize("whole", [3, 0.5, 0.99])
def test_a_truncated_parquet_file_is_named(spark, tmp_path, whole):
    spark.range(1000).repartition(1).write.parquet(f"{tmp_path}/table")
    (file,) = (tmp_path / "table").glob("*.parquet")
    file.with_name(f".{file.name}.crc").unlink()
    data = file.read_bytes()
    file.write_bytes(data[: whole if whole > 1 else int(whole * len(data))])
    for action in (
        lambda: spark.read.parquet(str(file)).collect(),
        lambda: spark.read.schema("id long").parquet(str(file)).collect(),
        lambda: list(row_groups(f"file://{file}", ["id"])),
    ):
        line = told(action)
        assert line is not None
        assert f"{file}: cannot be read (" in line
        assert "\n" not in line


def test_a_damaged_parquet_file_that_spark_3_does_not_name_is_reported(spark, tmp_path):
    spark.range(1000).repartition(1).write.parquet(f"{tmp_path}/table")
    (file,) = (tmp_path / "table").glob("*.parquet")
    file.with_name(f".{file.name}.crc").unlink()
    data = bytearray(file.read_bytes())
    data[-5] ^= 64  # of the footer's length
    file.write_bytes(data)
    line = told(lambda: spark.read.schema("id long").parquet(str(file)).collect())
    nameless = "a Parquet file cannot be read (corrupted file: "
    named = f"file://{file}: cannot be read (Encountered error while reading): "
    assert line is not None
    assert line.startswith(nameless if spark.version.startswith("3.") else named)


def test_damaged_counts_are_named(nights, tmp_path):
    _, store, _ = nights
    manifest = store.require("counts", NIGHTS[0], "")
    file = Path(store.urls(manifest)[0].removeprefix("file://"))
    data = file.read_bytes()
    file.write_bytes(data[:-8] + b"0" * 8)
    try:
        with pytest.raises(InputError, match=rf"{file.name}: cannot be read \("):
            open_training_set(Store(store.base), [NIGHTS[0]], SplitConfig(), NIGHTS[1])
    finally:
        file.write_bytes(data)


def test_a_server_that_refuses_artifacts_is_reported(tmp_path):
    class Refusing(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(403)

    (tmp_path / "report.html").write_text("a page")
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.handle_request, daemon=True).start()
        files = HttpArtifactRepository(f"http://127.0.0.1:{server.server_port}/artifacts")
        line = told(lambda: files.log_artifact(str(tmp_path / "report.html")))
    assert line is not None, line
    assert line.startswith("tracking: 403 Client Error"), line


def test_a_database_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "mlflow.db").mkdir()
    line = told(lambda: tracking.connect(TrackingConfig(), f"file://{tmp_path}"))
    assert line is not None, line
    assert line.startswith(f"tracking: sqlite:///{tmp_path}/mlflow.db: (sqlite3."), line


def test_a_bug_keeps_its_stack_trace():
    assert one_line(KeyError("score")) is None


def test_a_value_of_any_length_and_lines_is_told_in_one_line():
    line = one_line(InputError(f"sources: {'x' * 50_000}\n\u2028: correct it"))
    assert line is not None
    assert len(line.splitlines()) == 1
    assert len(line) == 2000
    assert line.startswith("sources: xxx")
    assert line.endswith("xxx  : correct it")
