"""Typed columns of one source: SQL for the value, and what breaks a row.

A value that cannot be cast becomes null, in ANSI mode too, which is why ``TRY_CAST`` stands here.
"""

from typing import NamedTuple

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.errors import InputError
from din_model.features import Feature
from pipelines.columns import quoted
from pipelines.ingest.expressions import given, whole
from pipelines.ingest.raw_rows import Raw
from pipelines.ingest.sources import Source

REPLACEMENT = "\ufffd"
"""What Java's decoder writes for bytes that are none of its encoding."""

WHOLE_NUMBER = r"^[0-9]{1,18}$"

UNITS = {"s": 10**6, "ms": 10**3, "us": 1, "ns": 0}
"""Microseconds of each unit; nanoseconds are divided."""

FLAG = ("is neither 0 nor 1", "NOT {0} IN (0D, 1D)")
AMOUNT = (
    "is negative or not finite",
    # Examples hold 32-bit floats, where 1e39 is infinite.
    "isnan({0}) OR {0} < 0 OR CAST({0} AS FLOAT) = CAST('Infinity' AS FLOAT)",
)
"""Why a number is broken, and the condition on it."""


class TypedColumn(NamedTuple):
    """A typed column, and (reason, condition) of the rows that it breaks."""

    column: Column
    checks: list[tuple[str, Column]]

    def required(self, label: str) -> "TypedColumn":
        """Return the column with one more check: it must not be null."""
        missing = (f"{label} is missing or of the wrong type", self.column.isNull())
        return TypedColumn(self.column, [*self.checks, missing])

    def decoded(self, label: str) -> "TypedColumn":
        """Return the column with one more check: no byte was lost when it was read as text.

        Java's decoder writes U+FFFD for each, so that two ids of another encoding would be one.
        """
        lossy = (f"{label} is not in UTF-8", self.column.contains(REPLACEMENT))
        return TypedColumn(self.column, [*self.checks, lossy])


def key_column(raw: Raw, key: str) -> TypedColumn:
    """Return a key as text. Whole numbers are one key, however they are written."""
    value, kind = quoted(key), raw.rows.schema[key].dataType
    if isinstance(kind, T.NumericType):
        return _whole(value, kind, key)
    text = f"CAST({value} AS STRING)"
    return TypedColumn(F.expr(f"regexp_replace({text}, '^([+-]?[0-9]+)[.]0+$', '$1')"), [])


def number_column(raw: Raw, number: str, name: str, rule: tuple[str, str]) -> TypedColumn:
    """Return a number as double, never null.

    Args:
        raw: rows of the source.
        number: its name.
        name: of the source, for error messages.
        rule: FLAG or AMOUNT.
    """
    kind = raw.rows.schema[number].dataType
    if not isinstance(kind, (T.NumericType, T.StringType, T.BooleanType, T.NullType)):
        raise InputError(
            f"sources.{name}: column {number!r} is {kind.simpleString()}, not a number: cast it in"
            f" sources.{name}.query ({raw.place})"
        )
    value, (why, condition) = f"TRY_CAST({quoted(number)} AS DOUBLE)", rule
    broken = F.expr(condition.format(value))
    return TypedColumn(F.expr(value), [(f"{number} {why}", broken)]).required(number)


def feature_column(raw: Raw, feature: Feature, name: str) -> TypedColumn:
    """Return a feature as vocabulary or buckets read it.

    Null stands for a value that is missing and, among numbers, for one that cannot be cast.

    Args:
        raw: rows of the source.
        feature: says which type it becomes.
        name: of the source, for error messages.
    """
    label = feature.log_name
    value, kind = quoted(label), raw.rows.schema[label].dataType
    element = kind.elementType if isinstance(kind, T.ArrayType) else kind
    if feature.is_vector:
        return _vector(value, kind, feature, name, raw.place)
    _require_type(kind, element, feature, f"sources.{name}", raw.place)
    if isinstance(kind, T.NullType):
        return TypedColumn(F.lit(None).cast(_spark_type(feature)), [])
    if feature.type == "int64":
        return (_whole_list if feature.is_list else _whole)(value, element, label)
    if feature.type == "number" and not feature.is_list:
        return TypedColumn(F.expr(f"TRY_CAST({value} AS DOUBLE)"), [])
    return TypedColumn(F.col(value).cast(_spark_type(feature)), [])


def _vector(value: str, kind: T.DataType, feature: Feature, name: str, place: str) -> TypedColumn:
    """Return array<float>; null if a number is missing, or their count is not the feature's."""
    if isinstance(kind, T.NullType):
        return TypedColumn(F.lit(None).cast("array<float>"), [])
    if not isinstance(kind, T.ArrayType) or not isinstance(kind.elementType, T.NumericType):
        raise InputError(
            f"sources.{name}: column {feature.log_name!r} is no list of numbers, which a vector is:"
            f" cast it in sources.{name}.query ({place})"
        )
    size = f"= {feature.size}" if feature.size else "> 0"
    floats = f"transform({value}, x -> CAST(x AS FLOAT))"
    infinite = "CAST('Infinity' AS FLOAT)"
    broken = f"exists({floats}, x -> x IS NULL OR isnan(x) OR abs(x) = {infinite})"
    column = F.expr(f"IF(size({value}) {size} AND NOT {broken}, {floats}, NULL)")
    unusable = F.col(value).isNotNull() & column.isNull()
    return TypedColumn(column, [(f"{feature.log_name} is not {vector_form(feature)}", unusable)])


def vector_form(feature: Feature) -> str:
    """Return what a vector must be, in words; its length once the first build has measured it."""
    return f"{feature.size} finite numbers" if feature.size else "finite numbers"


def _spark_type(feature: Feature) -> str:
    if feature.is_list:
        return "array<string>"
    return "double" if feature.type == "number" else "string"


def _require_type(
    kind: T.DataType, element: T.DataType, feature: Feature, source: str, place: str
) -> None:
    accepted: tuple[type[T.DataType], ...] = (T.StringType, T.NullType)
    accepted += () if feature.type == "string" else (T.NumericType,)
    shape_matches = isinstance(kind, T.ArrayType) == feature.is_list
    if isinstance(kind, T.NullType) or (shape_matches and isinstance(element, accepted)):
        return
    number = feature.type == "string" and isinstance(element, T.NumericType)
    raise InputError(
        f"{source}: column {feature.log_name!r} is {kind.simpleString()}, but"
        f" features.columns.{feature.log_name} says {feature.type}"
        f"{' list' if feature.is_list else ''}:"
        f" {'set type: int64 there' if number else 'correct the type there'}, or cast the"
        f" column in {source}.query ({place})"
    )


def _whole(value: str, kind: T.DataType, label: str) -> TypedColumn:
    broken = F.expr(f"{given(value, kind)} AND {whole(value, kind)} IS NULL")
    return TypedColumn(
        F.expr(whole(value, kind)), [(f"{label} is not an exact whole number", broken)]
    )


def _whole_list(value: str, kind: T.DataType, label: str) -> TypedColumn:
    broken = f"exists({value}, x -> {given('x', kind)} AND {whole('x', kind)} IS NULL)"
    column = F.expr(f"transform({value}, x -> {whole('x', kind)})")
    return TypedColumn(column, [(f"{label} is not an exact whole number", F.expr(broken))])


def time_column(raw: Raw, time: str, source: Source, name: str) -> TypedColumn:
    """Return a time in microseconds, never null.

    Args:
        raw: rows of the source.
        time: its name.
        source: says how times are written.
        name: of the source, for error messages.
    """
    column = _time(raw, time, source, name)
    digits = column.isNull() & F.col(quoted(time)).cast("string").rlike(WHOLE_NUMBER)
    why = f"{time} is a whole number, but no time_unit is set"
    return TypedColumn(column, [(why, digits)]).required(time)


def _time(raw: Raw, time: str, source: Source, name: str) -> Column:
    """Return the time in microseconds; null if a value cannot be cast."""
    value, kind = quoted(time), raw.rows.schema[time].dataType
    if isinstance(kind, T.NullType):
        return F.lit(None).cast("bigint")
    if isinstance(kind, T.IntegralType):
        if source.time_unit is None:
            raise InputError(
                f"sources.{name}: {time!r} is a whole number: set sources.{name}.time_unit"
                f" to s, ms, us or ns ({raw.place})"
            )
        return _microseconds(f"CAST({value} AS BIGINT)", source.time_unit)
    if isinstance(kind, T.StringType):
        if source.time_unit:  # whole numbers are text in CSV without a schema
            number = f"IF({value} RLIKE '{WHOLE_NUMBER}', TRY_CAST({value} AS BIGINT), NULL)"
            return _microseconds(number, source.time_unit)
        return F.unix_micros(F.try_to_timestamp(F.col(value)))
    if not isinstance(kind, (T.TimestampType, T.TimestampNTZType)):
        raise InputError(
            f"sources.{name}: {time!r} is {kind.simpleString()}, not a timestamp, text or"
            f" whole number: cast it in sources.{name}.query ({raw.place})"
        )
    return F.unix_micros(F.col(value).cast("timestamp"))


def _microseconds(number: str, unit: str) -> Column:
    factor = UNITS[unit]
    return F.expr(f"{number} DIV 1000" if unit == "ns" else f"try_multiply({number}, {factor}L)")
