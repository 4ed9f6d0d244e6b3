"""Casts the raw rows of a source to typed rows; each is good or has the reason why not.

The first step of the flow. Keys become strings, times int64 microseconds UTC named ``time``, and
columns get the names of the FeatureSpec. A *missing column*, or one whose type cannot be cast, is
an error. A *broken row* is marked and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec
from pipelines.columns import quoted
from pipelines.ingest.raw_rows import Raw
from pipelines.ingest.sources import CORRUPT, Source
from pipelines.ingest.typed_columns import (
    TypedColumn,
    feature_column,
    key_column,
    number_column,
    time_column,
)


@dataclass(frozen=True)
class Wanted:
    """The columns to read from a source, and what makes a row broken.

    Attributes:
        features: become strings (numbers: double, lists: array<string>) under their names in
            examples.
        keys: further columns that identify a row; become strings ``key_0`` ….
        numbers: name to give -> column that becomes double, never null, and what breaks it: FLAG
            or AMOUNT.
        span: [from, to) in microseconds: the rows to keep; None if the rows have no time.
        strays_are_broken: a row of a dated source outside the span is broken; false: it is skipped.
        keys_required: user, item and keys must not be null; false: the caller checks them.
    """

    features: Sequence[Feature]
    keys: Sequence[str] = ()
    numbers: Mapping[str, tuple[str, tuple[str, str]]] = field(default_factory=dict)
    span: tuple[int | None, int] | None = None
    strays_are_broken: bool = True
    keys_required: bool = True


def cast_rows(
    raws: Sequence[Raw], source: Source, name: str, spec: FeatureSpec, wanted: Wanted
) -> DataFrame:
    """Select the wanted columns, typed, with ``reason`` and ``raw``.

    Args:
        raws: rows of the source, its query applied; their columns may differ in type and order.
        source: says how times are written.
        name: of the source, for error messages.
        spec: names user, item and time.
        wanted: the columns.

    Returns:
        The features, ``key_0`` …, the numbers, ``time`` (bigint), ``reason`` (null for a good
        row), and ``raw`` (the row as JSON, null for a good row).

    Raises:
        InputError: a column is missing, or its type cannot be cast.
    """
    parts = [_cast_part(raw, source, name, spec, wanted) for raw in raws]
    return reduce(DataFrame.unionByName, parts)


def with_reason(rows: DataFrame, why: Column) -> DataFrame:
    """Give good rows the reason ``why`` (null: they stay good), and their columns as text."""
    rows = rows.withColumn("_why", F.coalesce("reason", why))
    own = [c for c in rows.columns if c not in ("reason", "raw") and not c.startswith("_")]
    text = F.coalesce("raw", F.to_json(F.struct(*[quoted(c) for c in own])))
    rows = rows.withColumn("raw", F.when(F.col("_why").isNotNull(), text))
    return rows.withColumn("reason", F.col("_why")).drop("_why")


def _cast_part(raw: Raw, source: Source, name: str, spec: FeatureSpec, wanted: Wanted) -> DataFrame:
    times = [spec.time] if wanted.span else []
    numbers = [column for column, _ in wanted.numbers.values()]
    read = [*(f.log_name for f in wanted.features), *wanted.keys, *numbers, *times]
    if not raw.rows.columns:  # a date without rows
        empty = raw.rows.select(*[F.lit(None).alias(column) for column in dict.fromkeys(read)])
        raw = Raw(empty, raw.place)
    _require_columns(raw, name, read)
    rows = raw.rows
    required = (spec.user, spec.item) if wanted.keys_required else ()
    typed: dict[str, TypedColumn] = {}
    for feature in wanted.features:
        column = feature_column(raw, feature, name)
        if feature.name in required:
            column = column.required(feature.log_name).decoded(feature.log_name)
        typed[feature.name] = column
    for i, key in enumerate(wanted.keys):
        column = key_column(raw, key)
        typed[f"key_{i}"] = column.required(key) if wanted.keys_required else column
    for alias, (number, rule) in wanted.numbers.items():
        typed[alias] = number_column(raw, number, name, rule)
    if wanted.span:
        typed["time"] = time_column(raw, spec.time, source, name)
        time = typed["time"].column
        inside = _inside(time, wanted.span)
        if source.dated and wanted.strays_are_broken:
            typed["time"].checks.append((f"{spec.time} lies outside of the date", ~inside))
        else:
            rows = rows.where(inside | time.isNull())
    checks = [("malformed", F.col(CORRUPT).isNotNull())] if CORRUPT in rows.columns else []
    checks += [check for column in typed.values() for check in column.checks]
    reason = F.coalesce(*[F.when(broken, F.lit(why)) for why, broken in checks], F.lit(None))
    text = F.when(reason.isNotNull(), F.to_json(F.struct(*[quoted(c) for c in rows.columns])))
    columns = [column.alias(alias) for alias, (column, _) in typed.items()]
    return rows.select(*columns, reason.cast("string").alias("reason"), text.alias("raw"))


def _require_columns(raw: Raw, name: str, wanted: Sequence[str]) -> None:
    if missing := [column for column in wanted if column not in raw.rows.columns]:
        present = ", ".join(column for column in raw.rows.columns if column != CORRUPT)
        raise InputError(
            f"sources.{name}: no column {missing[0]!r} among {present} in {raw.place}: name it in"
            f" sources.{name}.query"
        )


def _inside(time: Column, span: tuple[int | None, int]) -> Column:
    start, end = span
    return (time >= F.lit(start or -(2**62))) & (time < F.lit(end))
