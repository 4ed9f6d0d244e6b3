"""Casts the raw rows of a source to typed rows; each is good or has the reason why not.

The first step of the flow. Keys become strings, times int64 microseconds UTC named ``time``, and
columns get the names of the FeatureSpec. A *missing column*, or one whose type cannot be cast, is
an error. A *broken row* is marked and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec
from pipelines.ingest.sources import CORRUPT, Source

WHOLE_NUMBER = r"^[0-9]{1,18}$"

UNITS = {"s": 10**6, "ms": 10**3, "us": 1}


@dataclass(frozen=True)
class Wanted:
    """The columns to read from a source, and what makes a row broken.

    Attributes:
        features: become strings (numbers: double, lists: array<string>) under their own names.
        keys: further columns that identify a row; become strings ``key_0`` ….
        numbers: columns that become double, never null.
        span: [from, to) in microseconds: the rows to keep; None if the rows have no time.
        strays_are_broken: a row of a dated source outside the span is broken; false: it is skipped.
        keys_required: user, item and keys must not be null; false: the caller checks them.
    """

    features: Sequence[Feature]
    keys: Sequence[str] = ()
    numbers: Sequence[str] = ()
    span: tuple[int | None, int] | None = None
    strays_are_broken: bool = True
    keys_required: bool = True


class _Cast(NamedTuple):
    """A typed column, and (reason, condition) of the rows that it breaks."""

    column: Column
    checks: list[tuple[str, Column]]


def cast_rows(
    raw: DataFrame, source: Source, name: str, spec: FeatureSpec, wanted: Wanted
) -> DataFrame:
    """Select the wanted columns, typed, with ``reason`` and ``raw``.

    Args:
        raw: rows of the source, its query applied.
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
    times = [spec.time] if wanted.span else []
    _require_columns(
        raw, name, [*(f.name for f in wanted.features), *wanted.keys, *wanted.numbers, *times]
    )
    required = (spec.user, spec.item) if wanted.keys_required else ()
    casts = [_cast_feature(raw, f, name, f.name in required) for f in wanted.features]
    casts += [_cast_key(key, f"key_{i}", wanted.keys_required) for i, key in enumerate(wanted.keys)]
    casts += [_cast_number(number) for number in wanted.numbers]
    if wanted.span:
        time = _time(raw, spec.time, source, name)
        casts.append(_cast_time(time, spec.time))
        inside = _inside(time, wanted.span)
        if source.dated and wanted.strays_are_broken:
            casts[-1].checks.append((f"{spec.time} lies outside of the date", ~inside))
        else:
            raw = raw.where(inside | time.isNull())
    checks = [("malformed", F.col(CORRUPT).isNotNull())] if CORRUPT in raw.columns else []
    checks += [check for cast in casts for check in cast.checks]
    reason = F.coalesce(*[F.when(broken, F.lit(why)) for why, broken in checks], F.lit(None))
    text = F.when(reason.isNotNull(), F.to_json(F.struct(*raw.columns)))
    columns = [cast.column for cast in casts]
    return raw.select(*columns, reason.cast("string").alias("reason"), text.alias("raw"))


def _require_columns(raw: DataFrame, name: str, wanted: Sequence[str]) -> None:
    if missing := [column for column in wanted if column not in raw.columns]:
        present = ", ".join(c for c in raw.columns if c != CORRUPT)
        raise InputError(
            f"sources.{name}: no column {missing[0]!r} among {present}: name it in"
            f" sources.{name}.query"
        )


def _never_null(column: Column, label: str) -> tuple[str, Column]:
    return f"{label} is missing or of the wrong type", column.isNull()


def _cast_feature(raw: DataFrame, feature: Feature, name: str, required: bool) -> _Cast:
    column = _feature(raw, feature, name)
    checks = [_never_null(column, feature.name)] if required else []
    return _Cast(column.alias(feature.name), checks)


def _cast_key(key: str, alias: str, required: bool) -> _Cast:
    column = F.col(key).cast("string")
    return _Cast(column.alias(alias), [_never_null(column, key)] if required else [])


def _cast_number(name: str) -> _Cast:
    column = F.col(name).cast("double")
    return _Cast(column.alias(name), [_never_null(column, name)])


def _cast_time(time: Column, name: str) -> _Cast:
    digits = time.isNull() & F.col(name).cast("string").rlike(WHOLE_NUMBER)
    reason = f"{name} is a whole number, but no time_unit is set"
    return _Cast(time.alias("time"), [(reason, digits), _never_null(time, name)])


def _inside(time: Column, span: tuple[int | None, int]) -> Column:
    start, end = span
    return (time >= F.lit(start or -(2**62))) & (time < F.lit(end))


def _feature(raw: DataFrame, feature: Feature, name: str) -> Column:
    """Return the column as vocabulary or buckets read it; null if a value cannot be cast."""
    kind, column = raw.schema[feature.name].dataType, F.col(feature.name)
    element = kind.elementType if isinstance(kind, T.ArrayType) else kind
    accepted: tuple[type[T.DataType], ...] = (T.StringType, T.IntegralType)
    if feature.type == "number":
        accepted = (T.NumericType, T.StringType)
    if feature.type == "string":
        accepted = (T.StringType,)
    shape_matches = isinstance(kind, T.ArrayType) == feature.is_list
    if not shape_matches or not isinstance(element, (*accepted, T.NullType)):
        integer = feature.type == "string" and isinstance(element, T.IntegralType)
        raise InputError(
            f"sources.{name}: column {feature.name!r} is {kind.simpleString()}, but"
            f" features.columns.{feature.name} says {feature.type}"
            f"{' list' if feature.is_list else ''}:"
            f" {'set type: int64 there' if integer else 'correct the type there'}, or cast the"
            f" column in sources.{name}.query"
        )
    if feature.is_list:
        return column.cast("array<string>")
    if feature.type == "number":
        return column.cast("double")
    # Integers are cast through bigint, so that '007' and 7 are one key.
    return column.cast("bigint").cast("string") if feature.type == "int64" else column


def _time(raw: DataFrame, time_column: str, source: Source, name: str) -> Column:
    """Return the time in microseconds; null if a value cannot be cast."""
    kind, column = raw.schema[time_column].dataType, F.col(time_column)
    if isinstance(kind, T.IntegralType):
        if source.time_unit is None:
            raise InputError(
                f"sources.{name}: {time_column!r} is a whole number: set sources.{name}.time_unit"
                " to s, ms or us"
            )
        return column.cast("bigint") * UNITS[source.time_unit]
    if isinstance(kind, T.StringType):
        if source.time_unit:  # whole numbers are text in CSV without a schema
            number = F.when(column.rlike(WHOLE_NUMBER), column.cast("bigint"))
            return number * UNITS[source.time_unit]
        column = F.try_to_timestamp(column)
    elif not isinstance(kind, (T.TimestampType, T.TimestampNTZType)):
        raise InputError(
            f"sources.{name}: {time_column!r} is {kind.simpleString()}, not a timestamp, text or"
            f" whole number: cast it in sources.{name}.query"
        )
    return F.unix_micros(column.cast("timestamp"))
