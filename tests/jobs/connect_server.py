"""A Spark Connect server on this machine, a process of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.session import FIRST_CONNECT
from pipelines.session import SPARK as VERSION
from tests.jobs.cluster import SPARK, said
from tests.nights import environment

SETTINGS = {
    "spark.connect.grpc.binding.port": "0",
    "spark.driver.memory": "2g",
    "spark.sql.shuffle.partitions": "3",
    "spark.ui.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


@contextmanager
def connect_server(folder: Path) -> Iterator[str]:
    """The address of a server that answers; its log and its tables are in ``folder``."""
    if VERSION < FIRST_CONNECT:
        pytest.skip("pyspark ships the server from 4.0 on")
    command = [str(SPARK / "bin" / "spark-submit"), "--master", "local[2]"]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    for name, value in SETTINGS.items():
        command += ["--conf", f"{name}={value}"]
    env = environment() | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_HOME": str(SPARK)}
    log = folder / "connect.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "spark-internal"], cwd=folder, env=env, stdout=out, stderr=out
        )
    try:
        port = said(log, r"Spark Connect server started at: \S+:(\d+)")
        yield f"sc://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
