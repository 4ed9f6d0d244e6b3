"""Chooses how the files and the analysis of a session are reached: by its JVM, or without one."""

from pyspark.sql import SparkSession

from pipelines.access.connect_analysis import ConnectAnalysis
from pipelines.access.fsspec_files import FsspecFiles
from pipelines.access.hadoop_files import HadoopFiles
from pipelines.access.java_analysis import JavaAnalysis

Files = HadoopFiles | FsspecFiles


def is_connect(spark: SparkSession) -> bool:
    """Return whether a session is one of Spark Connect; importing its class needs grpcio."""
    return ".connect." in type(spark).__module__


def session_files(spark: SparkSession) -> Files:
    """Return the files that a session reads."""
    return FsspecFiles() if is_connect(spark) else HadoopFiles(spark)


def session_analysis(spark: SparkSession) -> JavaAnalysis | ConnectAnalysis:
    """Return Spark's own analysis of a session."""
    return ConnectAnalysis(spark) if is_connect(spark) else JavaAnalysis(spark)
