"""Names of tables in SQL catalogs and databases."""

import re

from din_model.errors import InputError

TABLE, POSTGRES = "score.table", "score.postgres"
"""Configuration keys of the sinks, for messages."""

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
"""40 letters leave room for what a staging table's name adds; PostgreSQL cuts at 63."""


def identifiers(table: str, key: str, most: int) -> list[str]:
    """Split ``a.b.c`` into its names, at most ``most``, each one that needs no escaping.

    Raises:
        InputError: anything else; ``key`` is where it stands in the configuration.
    """
    names = table.split(".")
    if len(names) > most or not all(IDENTIFIER.fullmatch(name) for name in names):
        raise InputError(
            f"{key}: {table!r} is no table: write one to {most} names joined by dots, each of at"
            " most 40 letters, digits and underscores, and no digit first"
        )
    return names
