"""Copies published scores into a Delta table of your own, one date in one transaction.

Delta's jars are not needed: executors write Parquet, and the driver commits the files.
"""

import secrets
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.console import stage
from pipelines.sinks.checks import require_by_date, require_rows
from pipelines.sinks.names import DELTA
from pipelines.store.delta import File
from pipelines.store.location import Location
from pipelines.store.parquet import write


def to_delta(rows: DataFrame, path: str, day: date, expected: int) -> None:
    """Replace the rows of ``day`` in a Delta table; other dates do not change.

    A missing table is created, partitioned by date; columns that an existing one lacks are added.
    Readers see the old rows or the new ones. A killed job leaves files that no version names;
    the table's own VACUUM removes them.

    Args:
        rows: with ``date`` as string.
        path: folder or address of the table.
        day: the date to replace.
        expected: the number of rows of ``day``.

    Raises:
        InputError: other partitions, a column of another type, a table that cannot be written, or
            a count that is not ``expected``. The table does not change.
    """
    location = Location.of(path, DELTA)
    table = location.table("", {"date": "date"})
    require_by_date(DELTA, path, table.partitioned_by())
    of_day = rows.where(F.col("date") == str(day)).drop("date")
    partition, run = f"date={day}", secrets.token_hex(8)
    with stage(f"{day} to Delta") as report:
        try:
            written = write(of_day, f"{location.url}/{partition}/{run}")
            report.rows = sum(file.rows for file in written)
            require_rows(DELTA, path, day, report.rows, expected)
            files = [File(f"{run}/{each.path}", each.bytes, each.rows) for each in written]
            schema = location.schema_of(f"{partition}/{files[0].name}")
            table.add([str(day)], files, schema, check=lambda _: None)
        except BaseException:
            location.remove(f"{partition}/{run}")
            raise
