"""Checks what a source says before anything is read: its format, its options, its query.

A query runs as whoever runs the job. Only one SELECT is accepted, which reads and has no effect.
Spark's parser says what a query is, without running any of it.
"""

import difflib

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from din_model.errors import InputError
from pipelines.access.choice import session_analysis
from pipelines.access.files import reason
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
NAMED_LATER = "identifier"
"""IDENTIFIER(…) can stand for any function."""

FORMATS = ("parquet", "csv", "json", "orc", "text")
"""Spark's own, whose options it lists where there is a JVM."""

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
    is_delta = source.format.lower() == delta_tables.KIND
    if is_delta or session_analysis(spark).knows_format(source.format):
        return
    near = difflib.get_close_matches(source.format, FORMATS, n=1)
    known = near[0] if near else ", ".join(FORMATS)
    tabs = ' with options: {sep: "\\t"}' if known == "csv" else ""
    raise InputError(
        f"sources.{name}.format: Spark has no format {source.format!r}: write {known}{tabs}, or"
        " add the package of the format to Spark"
    )


def _check_options(spark: SparkSession, source: Source, name: str) -> None:
    kind, options = source.format.lower(), source.options or {}
    if kind not in FORMATS:
        return
    listed = session_analysis(spark).options_of(kind)
    known = {option.lower() for option in listed} | UNLISTED
    for option, value in options.items():
        if listed and "." not in option and option.lower() not in known:  # a dot: one of Hadoop's
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


def _check_query(spark: SparkSession, query: str, name: str) -> None:
    """Refuse the operators and functions that a SELECT without effects cannot hold."""
    try:
        parts = list(session_analysis(spark).parts_of_query(query))
    except (PySparkException, Py4JError) as error:
        raise InputError(f"sources.{name}: {reason(error)}") from None
    for part, is_operator in parts:
        if part not in OPERATORS if is_operator else part in {*CALLS_JAVA, NAMED_LATER}:
            found = part.upper() if part == NAMED_LATER else part
            raise InputError(
                f"sources.{name}.query: {found} is no part of a SELECT, and nothing is run: write"
                " one SELECT over raw"
            )
