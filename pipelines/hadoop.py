"""Hadoop's file systems as Spark sees them, through the session's JVM."""

import re
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from din_model.errors import InputError

GLOB = re.compile(r"([\[\]{}*?\\])")


def hadoop_path(spark: SparkSession, *parts: Any) -> tuple[Any, Any]:
    """Return the file system of an address and its path, both Java objects.

    Args:
        spark: the session.
        parts: an address, or a Java path and the name of a child.
    """
    path = spark._jvm.org.apache.hadoop.fs.Path(*parts)  # type: ignore[union-attr]  # noqa: SLF001 (PySpark has no public way)
    return path.getFileSystem(spark._jsc.hadoopConfiguration()), path  # noqa: SLF001 (the same)


def of_uri(spark: SparkSession, uri: str) -> tuple[Any, Any]:
    """Return file system and path of a file that Spark names by an encoded URI."""
    return hadoop_path(spark, spark._jvm.java.net.URI(uri))  # type: ignore[union-attr]  # noqa: SLF001 (the same)


def matches(spark: SparkSession, path: str) -> tuple[str, list[Any]]:
    """Return the pattern that Spark reads a path by, and the Java status of each match.

    A path that exists is no pattern, whatever characters it holds.

    Raises:
        InputError: the path is neither an address nor a pattern.
    """
    try:
        files, named = hadoop_path(spark, path)
        if files.exists(named):
            return escaped(path), [files.getFileStatus(named)]
        return path, list(files.globStatus(named) or ())
    except (PySparkException, Py4JError) as error:
        raise InputError(
            f"{path}: no such address or pattern ({reason(error)}): correct the path; a [ or {{"
            " that is a part of a name needs a \\ before it"
        ) from None


def escaped(path: str) -> str:
    """Return the pattern that matches this path alone."""
    return GLOB.sub(r"\\\1", path)


def reason(error: Exception) -> str:
    """Return the first line of an error, of Java's where Java raised it."""
    text = error.java_exception.toString() if isinstance(error, Py4JJavaError) else str(error)
    return (text.strip() or type(error).__name__).splitlines()[0]
