"""What is known of a run besides its rows: a row of the table ``publications``."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from din_model.errors import InputError
from pipelines.store.parquet import DataFile

FORMAT_VERSION = 2

FILE = pa.struct(
    [("path", pa.string()), ("rows", pa.int64()), ("bytes", pa.int64()), ("row_groups", pa.int64())]
)

SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("published_at", pa.timestamp("us", "UTC")),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("erased", pa.int64()),
        ("files", pa.list_(FILE)),
        ("facts", pa.string()),  # JSON
        ("format_version", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Manifest:
    """What is published of a data set for one date.

    ``facts`` holds what the writer records: spec hash, vocabulary sizes, parents, counts, rates.
    ``erased`` is the number of written rows that erasures removed.
    """

    name: str
    date: str
    run: str
    files: tuple[DataFile, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    erased: int = 0

    @property
    def rows(self) -> int:
        """Number of rows in all files."""
        return sum(f.rows for f in self.files)

    @property
    def id(self) -> str:
        """The id that dependent data sets pin; an erasure keeps it."""
        return f"{self.name}/{self.date}/{self.run.partition('.')[0]}"

    @property
    def folder(self) -> str:
        """The run's folder in the store."""
        return f"{self.name}/date={self.date}/run={self.run}"

    def to_table(self) -> pa.Table:
        """Return one row of ``SCHEMA``."""
        row = {
            "run": self.run,
            "published_at": datetime.now(UTC),
            "rows": self.rows,
            "bytes": sum(f.bytes for f in self.files),
            "erased": self.erased,
            "files": [asdict(f) for f in self.files],
            "facts": json.dumps(self.facts, sort_keys=True),
            "format_version": FORMAT_VERSION,
        }
        return pa.Table.from_pylist([row], SCHEMA)

    @classmethod
    def from_table(cls, name: str, day: str, row: pa.Table) -> "Manifest":
        """Return the manifest of a row.

        Raises:
            InputError: the row has another format version.
            ValueError: the table does not have ``SCHEMA``, or ``facts`` is not JSON.
        """
        values = row.to_pylist()[0]
        if values["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"{name} of {day}: format version {values['format_version']}, but this release"
                f" reads {FORMAT_VERSION}: build the date again"
            )
        files = tuple(DataFile(**file) for file in values["files"])
        facts = json.loads(values["facts"])
        return cls(name, day, values["run"], files, facts, values["erased"])
