"""Casts the raw rows of a source to typed rows; each is good or has the reason why not.

The first step of the flow. Keys become strings, times int64 microseconds UTC named ``time``, and
columns get the names of the FeatureSpec. A *missing column*, or one whose type cannot be cast, is
an error. A *broken row* is marked and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec
from pipelines.columns import column
from pipelines.ingest.sources import CORRUPT, Source

WHOLE_NUMBER = r"^[0-9]{1,18}$"

UNITS = {"s": 10**6, "ms": 10**3, "us": 1}


@dataclass(frozen=True)
class Wanted:
    """The columns to read from a source, and what makes a row broken.

    Attributes:
        features: become strings (numbers: double, lists: array<string>) under their names in
            examples.
        keys: further columns that identify a row; become strings ``key_0`` ….
        numbers: name to give -> column that becomes double, never null.
        span: [from, to) in microseconds: the rows to keep; None if the rows have no time.
        strays_are_broken: a row of a dated source outside the span is broken; false: it is skipped.
        keys_required: user, item and keys must not be null; false: the caller checks them.
    """

    features: Sequence[Feature]
    keys: Sequence[str] = ()
    numbers: Mapping[str, str] = field(default_factory=dict)
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
        raw, name,
        [*(f.log_name for f in wanted.features), *wanted.keys, *wanted.numbers.values(), *times],
    )  # fmt: skip
    required = (spec.user, spec.item) if wanted.keys_required else ()
    casts = [_cast_feature(raw, f, name, f.name in required) for f in wanted.features]
    casts += [_cast_key(key, f"key_{i}", wanted.keys_required) for i, key in enumerate(wanted.keys)]
    casts += [_cast_number(number, alias) for alias, number in wanted.numbers.items()]
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
    text = F.when(reason.isNotNull(), F.to_json(F.struct(*map(column, raw.columns))))
    columns = [cast.column for cast in casts]
    return raw.select(*columns, reason.cast("string").alias("reason"), text.alias("raw"))


def _require_columns(raw: DataFrame, name: str, wanted: Sequence[str]) -> None:
    if missing := [each for each in wanted if each not in raw.columns]:
        present = ", ".join(c for c in raw.columns if c != CORRUPT)
        raise InputError(
            f"sources.{name}: no column {missing[0]!r} among {present}: name it in"
            f" sources.{name}.query"
        )


def _never_null(value: Column, label: str) -> tuple[str, Column]:
    return f"{label} is missing or of the wrong type", value.isNull()


def _cast_feature(raw: DataFrame, feature: Feature, name: str, required: bool) -> _Cast:
    value = _feature(raw, feature, name)
    checks = [_never_null(value, feature.log_name)] if required else []
    if feature.is_vector:
        given = column(feature.log_name).isNotNull()
        numbers = f"{feature.size} finite numbers" if feature.size else "finite numbers"
        checks.append((f"{feature.log_name} is not {numbers}", given & value.isNull()))
    return _Cast(value.alias(feature.name), checks)


def _cast_key(key: str, alias: str, required: bool) -> _Cast:
    value = column(key).cast("string")
    return _Cast(value.alias(alias), [_never_null(value, key)] if required else [])


def _cast_number(name: str, alias: str) -> _Cast:
    value = column(name).cast("double")
    return _Cast(value.alias(alias), [_never_null(value, name)])


def _cast_time(time: Column, name: str) -> _Cast:
    digits = time.isNull() & column(name).cast("string").rlike(WHOLE_NUMBER)
    reason = f"{name} is a whole number, but no time_unit is set"
    return _Cast(time.alias("time"), [(reason, digits), _never_null(time, name)])


def _inside(time: Column, span: tuple[int | None, int]) -> Column:
    start, end = span
    return (time >= F.lit(start or -(2**62))) & (time < F.lit(end))


def _feature(raw: DataFrame, feature: Feature, name: str) -> Column:
    """Return the column as vocabulary or buckets read it; null if a value cannot be cast."""
    kind, value = raw.schema[feature.log_name].dataType, column(feature.log_name)
    element = kind.elementType if isinstance(kind, T.ArrayType) else kind
    if feature.is_vector:
        return _vector(feature, value, element, name)
    accepted: tuple[type[T.DataType], ...] = (T.StringType, T.IntegralType)
    if feature.type == "number":
        accepted = (T.NumericType, T.StringType)
    if feature.type == "string":
        accepted = (T.StringType,)
    shape_matches = isinstance(kind, T.ArrayType) == feature.is_list
    if not shape_matches or not isinstance(element, (*accepted, T.NullType)):
        integer = feature.type == "string" and isinstance(element, T.IntegralType)
        raise InputError(
            f"sources.{name}: column {feature.log_name!r} is {kind.simpleString()}, but"
            f" features.columns.{feature.log_name} says {feature.type}"
            f"{' list' if feature.is_list else ''}:"
            f" {'set type: int64 there' if integer else 'correct the type there'}, or cast the"
            f" column in sources.{name}.query"
        )
    if feature.is_list:
        return value.cast("array<string>")
    if feature.type == "number":
        return value.cast("double")
    # Integers are cast through bigint, so that '007' and 7 are one key.
    return value.cast("bigint").cast("string") if feature.type == "int64" else value


def _vector(feature: Feature, value: Column, element: T.DataType, name: str) -> Column:
    """Return array<float>; null if a number is missing, or their count is not the feature's."""
    if not isinstance(element, T.NumericType):
        raise InputError(
            f"sources.{name}: column {feature.log_name!r} is no list of numbers, which a vector is:"
            f" cast it in sources.{name}.query"
        )
    broken = F.exists(value, lambda x: x.isNull() | F.isnan(x) | (F.abs(x) == float("inf")))
    size = F.size(value)
    fits = size == feature.size if feature.size else size > 0
    return F.when(fits & ~broken, value.cast("array<float>"))


def _time(raw: DataFrame, time_column: str, source: Source, name: str) -> Column:
    """Return the time in microseconds; null if a value cannot be cast."""
    kind, value = raw.schema[time_column].dataType, column(time_column)
    if isinstance(kind, T.IntegralType):
        if source.time_unit is None:
            raise InputError(
                f"sources.{name}: {time_column!r} is a whole number: set sources.{name}.time_unit"
                " to s, ms or us"
            )
        return value.cast("bigint") * UNITS[source.time_unit]
    if isinstance(kind, T.StringType):
        if source.time_unit:  # whole numbers are text in CSV without a schema
            number = F.when(value.rlike(WHOLE_NUMBER), value.cast("bigint"))
            return number * UNITS[source.time_unit]
        value = F.try_to_timestamp(value)
    elif not isinstance(kind, (T.TimestampType, T.TimestampNTZType)):
        raise InputError(
            f"sources.{name}: {time_column!r} is {kind.simpleString()}, not a timestamp, text or"
            f" whole number: cast it in sources.{name}.query"
        )
    return F.unix_micros(value.cast("timestamp"))
