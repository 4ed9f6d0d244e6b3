"""Columns of logs and published scores, whose names may hold dots, blanks or any other letter."""

from pyspark.sql import Column
from pyspark.sql import functions as F


def quoted(name: str) -> str:
    """Return a column name as SQL, whatever characters it holds."""
    return "`" + name.replace("`", "``") + "`"


def column(name: str) -> Column:
    """Return a column by its exact name; Spark's own functions read a dot as a part of a struct."""
    return F.col(quoted(name))


def finite(value: Column) -> Column:
    """Return a number as a 32-bit float, as examples hold it; null if it is not finite there."""
    infinity = F.lit(float("inf")).cast("float")
    return F.when(F.abs(value.cast("float")) < infinity, value.cast("float"))
