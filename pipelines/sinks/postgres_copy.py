"""Replace one date's rows in a table of PostgreSQL, for pipelines.sinks.postgres.

Each task attempt copies its rows into a staging table, in one transaction and with its own tag.
Then the driver replaces the date in the target in one transaction, with the rows of the attempts
that finished. Retried and speculative tasks therefore add no rows, and readers see the old rows or
the new ones. Needs psycopg, so it is imported only if PostgreSQL is configured.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import chain
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.errors import InputError
from pipelines.sinks.checks import require_rows
from pipelines.sinks.names import POSTGRES

TAG = "_attempt"
"""The column of the staging table with the task attempt that copied the row."""

COPIED_SCHEMA = "partition int, attempt string, rows long"

DEFAULTS = {"connect_timeout": "10", "keepalives_idle": "60", "application_name": "din-pipeline"}
"""Settings that the url may override; the driver's connection is idle while tasks copy."""

TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
WAIT_FOR_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"

TYPES = {
    "bigint": "bigint", "int": "integer", "double": "double precision", "float": "real",
    "boolean": "boolean", "string": "text", "date": "date", "timestamp": "timestamptz",
}  # fmt: skip
"""Spark's type -> PostgreSQL's; nested types become jsonb."""


def replace_day(rows: DataFrame, url: str, table: Sequence[str], day: date, expected: int) -> int:
    """Replace the rows of ``day`` by ``rows``, and return their number.

    Args:
        rows: of this date alone, user and item first.
        url: the server and the database.
        table: its name, or schema and name.
        day: the date to replace.
        expected: the number of rows of ``day``.

    Raises:
        InputError: see pipelines.sinks.postgres.to_postgres.
    """
    columns = _columns(rows.schema)
    target, name = sql.Identifier(*table), ".".join(table)
    staging = sql.Identifier(*table[:-1], f"{table[-1]}_staging_{day:%Y%m%d}")
    with _connected(_url_settings(url)) as connection:
        # While this transaction is open, no other run writes this date. If the driver dies,
        # PostgreSQL ends it.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        locked = connection.execute(TRY_LOCK, [f"{name} {day}"])
        if locked.fetchone() != (True,):
            raise InputError(
                f"{POSTGRES}: another run is writing {day} to {name}; run again when it has ended"
            )
        exists = _require_columns(connection, target, name, columns)
        # The tasks use the same settings, without the password, which is never sent to a task.
        settings = connection.info.get_parameters()
        with _connected(settings) as other:  # committed at once, so that the tasks see the table
            _create_staging(other, staging, columns)
        try:
            copied = _copy(rows, settings, staging)
            with connection.transaction():
                if not exists:
                    _create_target(connection, target, columns)
                count = _replace(connection, target, staging, columns, day, copied)
                require_rows(POSTGRES, name, day, count, expected)
                connection.execute(sql.SQL("DROP TABLE {}").format(staging))
        except Exception:
            if not connection.closed:  # the lock is still held
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(staging))
                connection.commit()
            raise
    return count


def _copy(rows: DataFrame, settings: dict[str, str], staging: sql.Identifier) -> list[str]:
    """Copy the rows from the executors; return the tags of the attempts that finished."""
    nested = [f.name for f in rows.schema if _is_nested(f.dataType)]
    as_text = {name: F.to_json(name, {"ignoreNullFields": "false"}) for name in nested}
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(staging, _names([*rows.columns, TAG]))

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _copy_partition(batches, settings, statement)

    # mapInArrow reads a dot in a name as a part of a struct.
    flat = rows.withColumns(as_text) if as_text else rows
    numbered = flat.toDF(*[f"column_{i}" for i in range(len(rows.columns))])
    return [row["attempt"] for row in numbered.mapInArrow(run, COPIED_SCHEMA).collect()]


def _copy_partition(
    batches: Iterable[pa.RecordBatch], settings: dict[str, str], statement: sql.Composed
) -> Iterator[pa.RecordBatch]:
    pa.set_cpu_count(1)  # the other cores belong to other tasks
    context = TaskContext.get()
    assert context is not None
    task, rows = context.partitionId(), 0
    filled = (batch for batch in batches if batch.num_rows)
    first = next(filled, None)
    if first is None:
        return
    attempt = f"{task}-{secrets.token_hex(8)}"
    with _connected(settings) as connection, connection.cursor().copy(statement) as copy:
        for batch in chain([first], filled):
            copy.write(as_lines(batch, attempt))
            rows += batch.num_rows
    values = [pa.array([task], pa.int32()), pa.array([attempt]), pa.array([rows])]
    yield pa.RecordBatch.from_arrays(values, ["partition", "attempt", "rows"])


def as_lines(batch: pa.RecordBatch, last: str) -> memoryview:
    """Return a batch in the text format of COPY, with ``last`` as one more column.

    See https://www.postgresql.org/docs/current/sql-copy.html, "Text Format". Arrow joins whole
    columns, and keeps the joined lines one after the other in memory: they are the text.
    """
    columns = []
    for column in batch.columns:
        text = pc.cast(column, pa.string())
        if column.type in (pa.string(), pa.large_string()):
            for plain, escaped in (("\\", r"\\"), ("\n", r"\n"), ("\r", r"\r"), ("\t", r"\t")):
                text = pc.replace_substring(text, plain, escaped)
        columns.append(text.fill_null(r"\N"))
    lines = pc.binary_join_element_wise(*columns, f"{last}\n", "\t")
    return memoryview(lines.buffers()[2])[: pc.sum(pc.binary_length(lines)).as_py()]


def _create_staging(
    connection: Connection, staging: sql.Identifier, columns: dict[str, str]
) -> None:
    """Create the staging table; drop one that a killed run has left."""
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(staging))
    # Unlogged, because it need not survive a crash of the server.
    create = sql.SQL("CREATE UNLOGGED TABLE {} ({})")
    connection.execute(create.format(staging, _definitions(columns | {TAG: "text"})))


def _create_target(connection: Connection, target: sql.Identifier, columns: dict[str, str]) -> None:
    # Two jobs with the first dates of a table must not both create it.
    connection.execute(WAIT_FOR_LOCK, [target.as_string(connection)])
    create = sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({}))")
    key = _names(["date", *list(columns)[:2]])
    connection.execute(create.format(target, _definitions(columns), key))


def _replace(
    connection: Connection, target: sql.Identifier, staging: sql.Identifier,
    columns: dict[str, str], day: date, copied: list[str],
) -> int:  # fmt: skip
    """Replace the rows of the date by those of the copied attempts; return their number."""
    connection.execute(sql.SQL("DELETE FROM {} WHERE date = %s").format(target), [day])
    insert = sql.SQL("INSERT INTO {0} ({1}) SELECT {1} FROM {2} WHERE {3} = ANY(%s)")
    query = insert.format(target, _names(columns), staging, sql.Identifier(TAG))
    return connection.execute(query, [copied]).rowcount


def _require_columns(
    connection: Connection, target: sql.Identifier, name: str, columns: dict[str, str]
) -> bool:
    """Return whether the table exists; raise an InputError if it lacks columns."""
    found = connection.execute(
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [target.as_string(connection)],
    ).fetchall()
    lacking = set(columns) - {column for (column,) in found}
    if found and lacking:
        raise InputError(
            f"{POSTGRES}: {name} lacks the columns {', '.join(sorted(lacking))}: add them, or name"
            " another table"
        )
    return bool(found)


def _columns(schema: T.StructType) -> dict[str, str]:
    """Return the PostgreSQL type of each column, in order."""
    types = {}
    for field in schema:
        kind = field.dataType.simpleString()
        if not _is_nested(field.dataType) and kind not in TYPES:
            raise InputError(f"{POSTGRES}: {field.name} is {kind}: PostgreSQL has no such type")
        types[field.name] = "date" if field.name == "date" else TYPES.get(kind, "jsonb")
    return types


def _is_nested(kind: T.DataType) -> bool:
    return isinstance(kind, T.ArrayType | T.StructType | T.MapType)


def _names(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _definitions(columns: dict[str, str]) -> sql.Composed:
    pairs = [sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(t)) for n, t in columns.items()]
    return sql.SQL(", ").join(pairs)


def _url_settings(url: str) -> dict[str, Any]:
    """Return the connection settings in a url, without those of the environment."""
    try:
        if not url.startswith(("postgresql://", "postgres://")):
            raise psycopg.ProgrammingError
        return DEFAULTS | conninfo_to_dict(url)
    except psycopg.ProgrammingError:  # its text may contain the password of the url
        raise InputError(f"{POSTGRES}.url is not postgresql://host:port/database") from None


@contextmanager
def _connected(settings: dict[str, Any]) -> Iterator[Connection]:
    """Open a connection for one transaction; report errors of server and network in one line."""
    try:
        with psycopg.connect(**settings) as connection:
            # Only a task of a killed run holds a lock for longer; a person must end it.
            connection.execute("SET LOCAL lock_timeout = '60s'")
            yield connection
    except psycopg.Error as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        if error.sqlstate is None:  # not reached, or the login was refused
            way_out = (
                f"look whether it runs, at {POSTGRES}.url, and at PGUSER and PGPASSWORD (on the"
                " executors too)"
            )
        else:
            way_out = "the table is as it was; run again when this is put right"
        where = settings.get("host", "localhost")
        raise InputError(f"{POSTGRES}: {where}: {line}: {way_out}") from None
