"""What Spark makes of formats, options, queries and Parquet, asked through its JVM."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from pipelines.access.hadoop_files import parquet_metadata

OPTIONS_OF = {
    "parquet": "execution.datasources.parquet.ParquetOptions",
    "csv": "catalyst.csv.CSVOptions",
    "json": "catalyst.json.JSONOptions",
    "orc": "execution.datasources.orc.OrcOptions",
    "text": "execution.datasources.text.TextOptions",
}
OF_ALL_FILES = "execution.datasources.FileIndexOptions"

NAMED_LATER = "ExpressionWithUnresolvedIdentifier"
"""IDENTIFIER(…) can stand for any function."""


@dataclass(frozen=True)
class JavaAnalysis:
    """Spark's own analysis on a classic session; ``ConnectAnalysis`` has the same methods."""

    spark: SparkSession

    def send_archive(self, archive: Path) -> None:
        """Have every executor unpack an archive, under the archive's name without suffix."""
        self.spark.sparkContext.addArchive(f"{archive}#{archive.stem}")

    def knows_format(self, name: str) -> bool:
        """Return whether Spark has a data source of that name."""
        data_source = self.spark._jvm.org.apache.spark.sql.execution.datasources.DataSource  # type: ignore[union-attr]  # noqa: SLF001 (PySpark has no public way)
        try:
            data_source.lookupDataSource(name, self.spark._jsparkSession.sessionState().conf())  # noqa: SLF001 (the same)
        except (PySparkException, Py4JError):
            return False
        return True

    def options_of(self, name: str) -> list[str]:
        """Return the options that Spark lists for a format; empty if it lists none."""
        if name not in OPTIONS_OF:
            return []
        return [*self._listed(OPTIONS_OF[name]), *self._listed(OF_ALL_FILES)]

    def parts_of_query(self, query: str) -> Iterator[tuple[str, bool]]:
        """Yield the parts of a query, without running any of it.

        Each is the name of an operator, or that of a function in lower case, and whether it is an
        operator. IDENTIFIER(…) is the function ``identifier``.

        Raises:
            PySparkException, Py4JError: it is not one statement of Spark SQL.
        """
        plan = self.spark._jsparkSession.sessionState().sqlParser().parsePlan(query)  # noqa: SLF001 (the same)
        gateway: Any = self.spark.sparkContext._gateway  # noqa: SLF001 (the same)
        expression = "org.apache.spark.sql.catalyst.expressions.Expression"
        with_plan = "org.apache.spark.sql.catalyst.expressions.PlanExpression"
        stack = [plan]
        while stack:
            node = stack.pop()
            kind = node.getClass().getName().split(".")[-1]
            if is_instance_of(gateway, node, expression):
                if kind == "UnresolvedFunction":
                    yield node.nameParts().last().lower(), False
                if kind == NAMED_LATER:
                    yield "identifier", False
                if is_instance_of(gateway, node, with_plan):
                    stack.append(node.plan())
            else:
                yield kind, True
                stack += _items(node.expressions())
            stack += [*_items(node.children()), *_items(node.innerChildren())]

    def parquet_columns(self, uri: str) -> list[T.StructField]:
        """Return the columns of a Parquet file that Spark can read.

        Spark's own inference fails if it cannot read some column, even one that is not needed.

        Raises:
            InputError: the file is not Parquet.
        """
        jvm: Any = self.spark._jvm  # noqa: SLF001 (the same)
        parquet = jvm.org.apache.spark.sql.execution.datasources.parquet
        conf = self.spark._jsparkSession.sessionState().conf()  # noqa: SLF001 (the same)
        converter = parquet.ParquetToSparkSchemaConverter(conf)
        columns: list[T.StructField] = []
        for field in parquet_metadata(self.spark, uri)[0].getSchema().getFields():
            alone = jvm.org.apache.parquet.schema.MessageType("one", jvm.java.util.List.of(field))
            try:
                converted = converter.convert(alone).json()
            except (PySparkException, Py4JError):
                continue
            columns += T.StructType.fromJson(json.loads(converted)).fields
        return columns

    def _listed(self, options: str) -> list[str]:
        owner: Any = self.spark._jvm.org.apache.spark.sql  # type: ignore[union-attr]  # noqa: SLF001 (the same)
        for part in options.split("."):
            owner = getattr(owner, part)
        return owner.getAllOptions().mkString(",").split(",")


def _items(sequence: Any) -> list[Any]:
    return [sequence.apply(i) for i in range(sequence.size())]
