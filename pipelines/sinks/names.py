"""Names of tables in SQL catalogs and databases."""

import re

from din_model.errors import InputError

TABLE, DELTA, POSTGRES, REDIS = "score.table", "score.delta", "score.postgres", "score.redis"
"""Configuration keys of the sinks, for messages."""

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
"""At most 40 characters: PostgreSQL cuts names at 63, and staging tables add a suffix."""


def identifiers(table: str, key: str, most: int) -> list[str]:
    """Split the name of a table, such as ``a.b.c``, at its dots.

    Args:
        table: the name.
        key: configuration key that sets it, for the message.
        most: maximum number of parts.

    Raises:
        InputError: too many parts, or one that needs escaping.
    """
    names = table.split(".")
    if len(names) > most or not all(IDENTIFIER.fullmatch(name) for name in names):
        raise InputError(
            f"{key}: {table!r} is no table: write one to {most} names joined by dots, each of at"
            " most 40 letters, digits and underscores, and no digit first"
        )
    return names
