"""Casts in Spark SQL that give null for a value they cannot cast, in ANSI mode too.

``CAST`` does not: in ANSI mode it ends the job, and otherwise it turns the text 7.5 into 7.
"""

from pyspark.sql import types as T

EXACT: dict[type[T.DataType], int] = {T.FloatType: 2**24, T.DoubleType: 2**53}
"""Whole numbers from here on are not all different in the type."""


def whole(value: str, kind: T.DataType) -> str:
    """Return SQL for a whole number as text; null for anything else.

    ``7``, ``007``, ``7.0`` and the double 7 are one number.

    Args:
        value: SQL of a whole number, float, decimal or text.
        kind: its type.
    """
    if isinstance(kind, T.StringType):
        return f"CAST(TRY_CAST(regexp_replace({value}, '[.]0*[ ]*$', '') AS BIGINT) AS STRING)"
    number = f"CAST(TRY_CAST({value} AS BIGINT) AS STRING)"
    if isinstance(kind, T.IntegralType):
        return number
    exact = EXACT.get(type(kind))
    small = f" AND abs({value}) < {exact}" if exact else ""
    return f"IF({value} % 1 = 0{small}, {number}, NULL)"  # floor fails where a double is no bigint


def given(value: str, kind: T.DataType) -> str:
    """Return SQL for whether there is a value: no null, no NaN and no blank text."""
    if isinstance(kind, T.StringType):
        return f"coalesce(trim({value}) <> '', false)"
    if isinstance(kind, (T.FloatType, T.DoubleType)):
        return f"({value} IS NOT NULL AND NOT isnan({value}))"
    return f"({value} IS NOT NULL)"
