"""Raw rows of a source, and what its query makes of them."""

import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import date
from functools import reduce
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.errors import InputError
from pipelines.columns import quoted
from pipelines.ingest.sources import CORRUPT, Source


class Raw(NamedTuple):
    """Raw rows that are written alike, and where they lie, for messages.

    A date without rows has no columns either.
    """

    rows: DataFrame
    place: str


def columns_of(raws: Sequence[Raw]) -> list[str]:
    """Return the columns that any of the parts has."""
    return list(dict.fromkeys(column for raw in raws for column in raw.rows.columns))


def queried(parts: list[Raw], source: Source, name: str, day: date) -> list[Raw]:
    """Apply the source's query to all rows of a date, which it may group, rank or count.

    Args:
        parts: the rows of a date.
        source: has the query.
        name: of the source, for error messages.
        day: the date.

    Raises:
        InputError: a column is named twice.
    """
    query = str(source.query).replace("{date}", str(day))
    results = [_query_part(part, query, name) for part in parts]
    if len(parts) < 2:
        return results
    return [_query_part(Raw(_united([p.rows for p in parts]), parts[0].place), query, name)]


def _united(frames: Sequence[DataFrame]) -> DataFrame:
    """Return the rows of all frames in one, columns of different types in a common one."""
    kinds: dict[str, set[T.DataType]] = {}
    for field in [field for frame in frames for field in frame.schema]:
        kinds.setdefault(field.name, set()).add(field.dataType)
    common = {name: kind for name, found in kinds.items() if (kind := _common(found))}
    cast = [_cast(frame, common) for frame in frames]
    return reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), cast)


def _cast(rows: DataFrame, kinds: dict[str, T.DataType]) -> DataFrame:
    cast = {c: F.col(quoted(c)).cast(kinds[c]) for c in rows.columns if c in kinds}
    return rows.withColumns(cast) if cast else rows


def _common(kinds: set[T.DataType]) -> T.DataType | None:
    """Return the type to cast to; None where Spark finds one that loses nothing."""
    kinds = kinds - {T.NullType()}
    classes = {type(kind) for kind in kinds}
    if len(kinds) < 2 or classes == {T.TimestampType, T.TimestampNTZType}:
        return None
    if all(isinstance(kind, T.NumericType) for kind in kinds):
        exact = T.LongType in classes and classes & {T.FloatType, T.DoubleType}
        return T.DecimalType(38, 18) if exact else None
    return T.StringType()


def _bound(rows: DataFrame) -> DataFrame:
    """Return rows that stay those of the views of now; Spark Connect looks names up when it reads.

    A view stands for what its names meant when it was made.
    """
    view = f"_queried_{secrets.token_hex(8)}"
    rows.createOrReplaceTempView(view)
    return rows.sparkSession.table(view)


def _query_part(raw: Raw, query: str, name: str) -> Raw:
    """Apply a query to rows that their format could read."""
    rows = raw.rows
    good = rows
    if CORRUPT in rows.columns:
        good = rows.where(F.col(CORRUPT).isNull()).drop(CORRUPT)
    good.createOrReplaceTempView("raw")
    result = _bound(good.sparkSession.sql(query))
    twice = [c for c, n in Counter(c.lower() for c in result.columns).items() if n > 1]
    if twice:
        raise InputError(
            f"sources.{name}.query: two columns are called {twice[0]!r}: name each column that the"
            " query selects, instead of *"
        )
    if CORRUPT not in rows.columns:
        return Raw(result, raw.place)
    # Spark cannot read the corrupt record column alone, so the text is that of the whole row.
    text = F.to_json(F.struct(*[quoted(c) for c in rows.columns])).alias(CORRUPT)
    bad = rows.where(F.col(CORRUPT).isNotNull()).select(text)
    return Raw(result.unionByName(bad, allowMissingColumns=True), raw.place)
