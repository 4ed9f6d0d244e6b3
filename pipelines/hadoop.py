"""Hadoop's file systems as Spark sees them, through the session's JVM."""

from typing import Any

from pyspark.sql import SparkSession


def hadoop_path(spark: SparkSession, *parts: Any) -> tuple[Any, Any]:
    """Return the file system of an address and its path, both Java objects.

    Args:
        spark: the session.
        parts: an address, or a Java path and the name of a child.
    """
    path = spark._jvm.org.apache.hadoop.fs.Path(*parts)  # type: ignore[union-attr]  # noqa: SLF001 (PySpark has no public way)
    return path.getFileSystem(spark._jsc.hadoopConfiguration()), path  # noqa: SLF001 (the same)
