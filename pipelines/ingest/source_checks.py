"""Checks what a source says before anything is read: its format, its options, its query.

A query runs as whoever runs the job. Only one SELECT is accepted, which reads and has no effect.
Spark's parser says what a query is, without running any of it.
"""

import difflib
from collections.abc import Iterator
from typing import Any

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from din_model.errors import InputError
from pipelines.hadoop import reason
from pipelines.ingest import delta_tables
from pipelines.ingest.sources import Source, SourcesConfig

OPERATORS = {
    "Aggregate", "Distinct", "Except", "Filter", "Generate", "GlobalLimit", "Intersect", "Join",
    "LateralJoin", "LocalLimit", "LocalRelation", "Offset", "OneRowRelation", "Pivot", "Project",
    "RebalancePartitions", "RelationTimeTravel", "Repartition", "RepartitionByExpression", "Sample",
    "Sort", "SubqueryAlias", "Union", "Unpivot", "UnresolvedHaving", "UnresolvedHint",
    "UnresolvedInlineTable", "UnresolvedRelation", "UnresolvedSubqueryColumnAliases",
    "UnresolvedTVFAliases", "UnresolvedTableValuedFunction", "UnresolvedWith", "Window",
    "WithWindowDefinition",
}  # fmt: skip
"""Spark's operators that a SELECT is parsed to. Commands, inserts and TRANSFORM are others."""

CALLS_JAVA = {"java_method", "reflect", "try_reflect"}
NAMED_LATER = "ExpressionWithUnresolvedIdentifier"
"""IDENTIFIER(…) can stand for any function."""

OPTIONS_OF = {
    "parquet": "execution.datasources.parquet.ParquetOptions",
    "csv": "catalyst.csv.CSVOptions",
    "json": "catalyst.json.JSONOptions",
    "orc": "execution.datasources.orc.OrcOptions",
    "text": "execution.datasources.text.TextOptions",
}
OF_ALL_FILES = "execution.datasources.FileIndexOptions"
UNLISTED = {"ignorecorruptfiles", "ignoremissingfiles", "path"}
"""Options that Spark reads, but does not list."""


def check_sources(spark: SparkSession, sources: SourcesConfig) -> None:
    """Check every source before the work of a job begins; see ``check_source``."""
    named: dict[str, Source | None] = {
        name: getattr(sources, name)
        for name in ("impressions", "clicks", "items", "users", "candidates")
    }
    for i, behaviours in enumerate(sources.behaviours):
        named[f"behaviours.{i}"] = behaviours if behaviours.origin == "log" else None
    for name, source in named.items():
        if source:
            check_source(spark, source, name)


def check_source(spark: SparkSession, source: Source, name: str) -> None:
    """Check format, options and query of a source.

    Args:
        spark: the session.
        source: what to check.
        name: of the source, for error messages.

    Raises:
        InputError: Spark has no such format or option, or the query is not one SELECT.
    """
    if source.path:
        _check_format(spark, source, name)
        _check_options(spark, source, name)
    if source.query is not None:
        # Any date will do: it changes no operator.
        _check_query(spark, source.query.replace("{date}", "2000-01-01"), name)


def _check_format(spark: SparkSession, source: Source, name: str) -> None:
    if source.format.lower() == delta_tables.KIND:
        return
    data_source = spark._jvm.org.apache.spark.sql.execution.datasources.DataSource  # type: ignore[union-attr]  # noqa: SLF001 (PySpark has no public way)
    try:
        data_source.lookupDataSource(source.format, spark._jsparkSession.sessionState().conf())  # noqa: SLF001 (the same)
    except (PySparkException, Py4JError):
        near = difflib.get_close_matches(source.format, list(OPTIONS_OF), n=1)
        known = near[0] if near else ", ".join(OPTIONS_OF)
        tabs = ' with options: {sep: "\\t"}' if known == "csv" else ""
        raise InputError(
            f"sources.{name}.format: Spark has no format {source.format!r}: write {known}{tabs}, or"
            " add the package of the format to Spark"
        ) from None


def _check_options(spark: SparkSession, source: Source, name: str) -> None:
    kind, options = source.format.lower(), source.options or {}
    if kind not in OPTIONS_OF:
        return
    listed = [*_listed(spark, OPTIONS_OF[kind]), *_listed(spark, OF_ALL_FILES)]
    known = {option.lower() for option in listed} | UNLISTED
    for option, value in options.items():
        if "." not in option and option.lower() not in known:  # with a dot: one of Hadoop's
            near = difflib.get_close_matches(option, listed, n=1)
            raise InputError(
                f"sources.{name}.options: {kind} has no option {option!r}; "
                f"{f'did you mean {near[0]!r}?' if near else 'see the documentation of Spark'}"
            )
        if option.lower() == "mode" and value.upper() != "PERMISSIVE":
            raise InputError(
                f"sources.{name}.options: mode {value} loses broken lines: remove it; they go to"
                " quarantine"
            )


def _listed(spark: SparkSession, options: str) -> list[str]:
    owner: Any = spark._jvm.org.apache.spark.sql  # type: ignore[union-attr]  # noqa: SLF001 (PySpark has no public way)
    for part in options.split("."):
        owner = getattr(owner, part)
    return owner.getAllOptions().mkString(",").split(",")


def _check_query(spark: SparkSession, query: str, name: str) -> None:
    parser = spark._jsparkSession.sessionState().sqlParser()  # noqa: SLF001 (PySpark has no public way)
    try:
        plan = parser.parsePlan(query)
    except (PySparkException, Py4JError) as error:
        raise InputError(f"sources.{name}: {reason(error)}") from None
    gateway: Any = spark.sparkContext._gateway  # noqa: SLF001 (the same)
    for found in _not_of_a_select(gateway, plan):
        raise InputError(
            f"sources.{name}.query: {found} is no part of a SELECT, and nothing is run: write one"
            " SELECT over raw"
        )


def _not_of_a_select(gateway: Any, plan: Any) -> Iterator[str]:
    """Yield the operators and functions that a SELECT without effects cannot hold."""
    expression = "org.apache.spark.sql.catalyst.expressions.Expression"
    with_plan = "org.apache.spark.sql.catalyst.expressions.PlanExpression"
    stack = [plan]
    while stack:
        node = stack.pop()
        kind = node.getClass().getName().split(".")[-1]
        if is_instance_of(gateway, node, expression):
            if kind == "UnresolvedFunction":
                called = node.nameParts().last().lower()
                if called in CALLS_JAVA:
                    yield called
            if kind == NAMED_LATER:
                yield "IDENTIFIER"
            if is_instance_of(gateway, node, with_plan):
                stack.append(node.plan())
        else:
            if kind not in OPERATORS:
                yield kind
            stack += _items(node.expressions())
        stack += [*_items(node.children()), *_items(node.innerChildren())]


def _items(sequence: Any) -> list[Any]:
    return [sequence.apply(i) for i in range(sequence.size())]
