"""Copies published scores into a table of PostgreSQL, one date in one transaction."""

from dataclasses import dataclass
from datetime import date
from urllib.parse import urlsplit

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.config import Section, expand
from din_model.console import stage
from din_model.errors import InputError
from pipelines.sinks.names import POSTGRES, identifiers


@dataclass(frozen=True)
class PostgresConfig(Section):
    """A table in PostgreSQL that published scores are copied to.

    User and password come from the environment, as libpq knows them (PGUSER, PGPASSWORD,
    PGPASSFILE, PGSERVICE); the password must be known on the executors too.

    Attributes:
        url: ``postgresql://host:port/database``; ``${VARIABLE}`` is filled in.
        table: the target, as ``table`` or ``schema.table``.
        connections: so many tasks at most write at once.
    """

    url: str
    table: str = "scores"
    connections: int = 8

    def __post_init__(self) -> None:
        _refuse_password(self.url)
        identifiers(self.table, f"{POSTGRES}.table", 2)


def to_postgres(rows: DataFrame, config: PostgresConfig, day: date, expected: int) -> None:
    """Replace the rows of ``day`` in a table of PostgreSQL; other dates stay as they are.

    The table is created where it is missing, with the primary key (date, user, item); lists are
    jsonb. Columns of its own that one that is there has are left at their defaults.

    Args:
        rows: user and item first, with ``date`` as string; best read from the store, since few
            tasks write.
        expected: how many rows of ``day`` there must be.

    Raises:
        InputError: another count, a table that lacks columns, another run that is writing the same
            date, a server that cannot be reached or that refuses. The table is as it was.
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
    """One in the configuration would be logged with the run, one in a url sent with the tasks."""
    try:
        parts = urlsplit(url)
        found = parts.password is not None or "password" in parts.query
    except ValueError:
        raise InputError(f"{POSTGRES}.url is not postgresql://host:port/database") from None
    if found:
        raise InputError(f"{POSTGRES}.url holds a password: take it out, and set PGPASSWORD")
