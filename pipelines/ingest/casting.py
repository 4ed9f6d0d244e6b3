"""Raw rows of a source -> typed rows, each either good or marked with the reason why not.

The first step of the flow: after it every key is a string, every time int64 microseconds UTC under
the name ``time``, and the columns carry the names of the FeatureSpec. A *missing column* or one of
a type that cannot be meant is an error; a *broken row* is marked and counted.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec
from pipelines.ingest.sources import CORRUPT, Source

WHOLE = r"^[0-9]{1,18}$"

UNITS = {"s": 10**6, "ms": 10**3, "us": 1}


def cast_rows(
    raw: DataFrame,
    source: Source,
    name: str,
    spec: FeatureSpec,
    features: Sequence[Feature],
    keys: Sequence[str] = (),
    numbers: Sequence[str] = (),
    span: tuple[int | None, int] | None = None,
    mark_strays: bool = True,
    whole: bool = True,
) -> DataFrame:
    """Select the columns that the project reads, typed, with ``reason`` and ``raw``.

    Args:
        features: become strings (numbers: double, lists: array<string>) under their own names.
        keys: further columns that make a row one; strings, never null.
        whole: false lets user, item and keys be null; the caller sees to it.
        numbers: columns that become double, never null.
        span: [from, to) in microseconds: the rows to keep; None where the rows have no time.
        mark_strays: a row of a dated source outside of the span is broken, not just another day's.

    Returns:
        The features, ``keys`` as ``key_0`` …, ``numbers``, ``time`` (bigint), ``reason`` (null:
        a good row) and ``raw`` (the row as JSON, null for a good one).
    """
    wanted = [f.name for f in features] + [*keys, *numbers] + ([spec.time] if span else [])
    _require(raw, name, wanted)
    checks: list[tuple[str, Column]] = []
    if CORRUPT in raw.columns:
        checks.append(("malformed", F.col(CORRUPT).isNotNull()))
    columns: list[Column] = []

    def never_null(column: Column, label: str) -> None:
        checks.append((f"{label} is missing or of the wrong type", column.isNull()))

    for f in features:
        column = _feature(raw, f, name)
        columns.append(column.alias(f.name))
        if whole and f.name in (spec.user, spec.item):
            never_null(column, f.name)
    for i, key in enumerate(keys):
        column = F.col(key).cast("string")
        columns.append(column.alias(f"key_{i}"))
        if whole:
            never_null(column, key)
    for number in numbers:
        column = F.col(number).cast("double")
        columns.append(column.alias(number))
        never_null(column, number)
    if span:
        column = _time(raw, spec.time, source, name)
        columns.append(column.alias("time"))
        digits = F.col(spec.time).cast("string").rlike(WHOLE)
        checks.append(
            (f"{spec.time} is a whole number, but no time_unit is set", column.isNull() & digits)
        )
        never_null(column, spec.time)
        start, end = span
        inside = (column >= F.lit(start or -(2**62))) & (column < F.lit(end))
        if source.dated and mark_strays:
            checks.append((f"{spec.time} lies outside of the date", ~inside))
        else:
            raw = raw.where(inside | column.isNull())
    reason = F.coalesce(*[F.when(broken, F.lit(why)) for why, broken in checks], F.lit(None))
    text = F.when(reason.isNotNull(), F.to_json(F.struct(*raw.columns)))
    return raw.select(*columns, reason.cast("string").alias("reason"), text.alias("raw"))


def _require(raw: DataFrame, name: str, wanted: Sequence[str]) -> None:
    if missing := [column for column in wanted if column not in raw.columns]:
        there = ", ".join(c for c in raw.columns if c != CORRUPT)
        raise InputError(
            f"sources.{name}: no column {missing[0]!r}; there are {there}:"
            f" name it in sources.{name}.query"
        )


def _feature(raw: DataFrame, feature: Feature, name: str) -> Column:
    """The column as the vocabulary or the buckets read it; null where the value cannot be meant."""
    kind, column = raw.schema[feature.name].dataType, F.col(feature.name)
    element = kind.elementType if isinstance(kind, T.ArrayType) else kind
    accepted: tuple[type[T.DataType], ...] = (T.StringType, T.IntegralType)
    if feature.type == "number":
        accepted = (T.NumericType, T.StringType)
    if feature.type == "string":
        accepted = (T.StringType,)
    list_as_said = isinstance(kind, T.ArrayType) == feature.is_list
    if not list_as_said or not isinstance(element, (*accepted, T.NullType)):
        whole = feature.type == "string" and isinstance(element, T.IntegralType)
        raise InputError(
            f"sources.{name}: column {feature.name!r} is {kind.simpleString()}, but"
            f" features.columns.{feature.name} says {feature.type}"
            f"{' list' if feature.is_list else ''}:"
            f" {'write type: int64 there' if whole else 'mend the one'}, or cast in"
            f" sources.{name}.query"
        )
    if feature.is_list:
        return column.cast("array<string>")
    if feature.type == "number":
        return column.cast("double")
    # Whole numbers go through bigint, so that '007' and 7 are one key and '7.5' is none.
    return column.cast("bigint").cast("string") if feature.type == "int64" else column


def _time(raw: DataFrame, time_column: str, source: Source, name: str) -> Column:
    kind, column = raw.schema[time_column].dataType, F.col(time_column)
    if isinstance(kind, T.IntegralType):
        if source.time_unit is None:
            raise InputError(
                f"sources.{name}: {time_column!r} is a whole number: set sources.{name}.time_unit"
                " to s, ms or us"
            )
        return column.cast("bigint") * UNITS[source.time_unit]
    if isinstance(kind, T.StringType):
        if source.time_unit:  # CSV without a schema: whole numbers come as text
            whole = F.when(column.rlike(WHOLE), column.cast("bigint"))
            return whole * UNITS[source.time_unit]
        column = F.try_to_timestamp(column)
    elif not isinstance(kind, (T.TimestampType, T.TimestampNTZType)):
        raise InputError(
            f"sources.{name}: {time_column!r} is {kind.simpleString()}, neither a timestamp, a text"
            f" nor a whole number: cast it in sources.{name}.query"
        )
    return F.unix_micros(column.cast("timestamp"))
