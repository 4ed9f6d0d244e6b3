"""Copies published scores into a table of PostgreSQL, one date in one transaction."""

from dataclasses import dataclass
from datetime import date
from urllib.parse import urlsplit

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.config import Section, expand
from din_model.console import stage
from din_model.errors import InputError
from din_model.masking import holds_secret
from din_model.ranges import Size
from pipelines.sinks.names import POSTGRES, identifiers


@dataclass(frozen=True)
class PostgresConfig(Section):
    """A table in PostgreSQL that published scores are copied to.

    User and password come from the environment, as libpq knows them (PGUSER, PGPASSWORD,
    PGPASSFILE, PGSERVICE); the password must be known on the executors too.

    Attributes:
        url: ``postgresql://host:port/database``; ``${VARIABLE}`` is replaced.
        table: the target, as ``table`` or ``schema.table``.
        connections: maximum number of tasks that write at once.
    """

    url: str
    table: str = "scores"
    connections: Size = 8

    def __post_init__(self) -> None:
        _refuse_password(self.url)
        identifiers(self.table, f"{POSTGRES}.table", 2)


def to_postgres(rows: DataFrame, config: PostgresConfig, day: date, expected: int) -> None:
    """Replace the rows of ``day`` in a table of PostgreSQL; other dates do not change.

    A missing table is created with the primary key (date, user, item); lists become jsonb. Other
    columns of an existing table get their defaults.

    Args:
        rows: user and item first, with ``date`` as string. Read them from the store: few tasks
            write, and would compute them too.
        config: the server and the table.
        day: the date to replace.
        expected: the number of rows of ``day``.

    Raises:
        InputError: the count is not ``expected``, the table lacks columns, another run writes the
            same date, or the server cannot be reached or refuses. The table does not change.
    """
    names = identifiers(config.table, f"{POSTGRES}.table", 2)
    url = expand(config.url)
    _refuse_password(url)
    try:
        from pipelines.sinks.postgres_copy import replace_day
    except ImportError:
        raise InputError(
            f"{POSTGRES} needs psycopg, here and on the executors: pip install"
            " 'din-pipeline[postgres]'"
        ) from None
    of_day = rows.where(F.col("date") == str(day)).coalesce(config.connections)
    with stage(f"{day} to PostgreSQL") as report:
        report.rows = replace_day(of_day, url, names, day, expected)


def _refuse_password(url: str) -> None:
    """Refuse a password in the url: it would be logged with the run and sent with the tasks."""
    try:
        parts = urlsplit(url)
        found = parts.password is not None or "password" in parts.query or holds_secret(url)
    except ValueError:
        raise InputError(f"{POSTGRES}.url is not postgresql://host:port/database") from None
    if found:
        raise InputError(f"{POSTGRES}.url holds a password: take it out, and set PGPASSWORD")
