"""What every sink checks before it replaces a date."""

from collections.abc import Sequence
from datetime import date

from din_model.errors import InputError


def require_by_date(key: str, table: str, partitions: Sequence[str]) -> None:
    """Raise InputError unless a table is partitioned by date alone.

    Args:
        key: configuration key that names the table.
        table: its name or path.
        partitions: its partition columns.
    """
    if list(partitions) != ["date"]:
        raise InputError(
            f"{key}: {table} is partitioned by {', '.join(partitions) or 'nothing'}, so no date can"
            " be replaced in it: it must be by date alone; name another table"
        )


def require_rows(key: str, table: str, day: date, rows: int, expected: int) -> None:
    """Raise InputError if other rows of a date arrived than there are; see ``require_by_date``."""
    if rows != expected:
        raise InputError(
            f"{key}: {rows} rows of {day} arrived, but there are {expected}: {table} is as it was;"
            " run again"
        )
