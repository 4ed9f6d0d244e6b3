"""A partitioned Delta table: which files it has, and transactions that change them.

Files lie under names of their own, and are never renamed or changed. Whoever has opened an older
version reads on until its files are vacuumed.
"""

import os
import re
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Field, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.schema import PrimitiveType
from deltalake.transaction import AddAction, create_table_with_add_actions
from fsspec import AbstractFileSystem

from din_model.errors import InputError
from pipelines.access.files import reason

UNFINISHED = timedelta(days=1)
"""Age below which a file without a transaction may belong to a job that is still running."""

FOREVER = {"delta.logRetentionDuration": "interval 36500 days"}
"""The log keeps every version, so that a run is found as long as its files are there."""

RUN = "run"
"""The run that a version published, in the version's metadata: the last partition value."""


class File(NamedTuple):
    """A file of a table: its name, its size in bytes, its rows."""

    name: str
    bytes: int
    rows: int


class Table:
    """A Delta table.

    Args:
        url: address of its folder.
        options: of deltalake's storage.
        partitions: the columns that it is partitioned by, which are no columns of the files, with
            the types that they get in a new table.
    """

    def __init__(self, url: str, options: dict[str, str], partitions: dict[str, str]) -> None:
        self.url = url
        self._options = options
        self._partitions = partitions
        self._table: DeltaTable | None = None
        self._known: tuple[int, list[tuple[Any, ...]]] = (-1, [])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the log behind: another process opens it itself."""
        return vars(self) | {"_table": None, "_known": (-1, [])}

    def partitions(self) -> list[tuple[Any, ...]]:
        """Return the values of the partition columns that have files now.

        Raises:
            InputError: the log cannot be read.
        """
        if not self._open():
            return []
        assert self._table is not None
        if (version := self._version()) != self._known[0]:
            self._known = (version, self._partitions_of(self._table))
        return self._known[1]

    def partitions_at(self, moment: datetime) -> list[tuple[Any, ...]]:
        """Return the values of the partition columns that had files at a moment."""
        if not self._open():
            return []
        assert self._table is not None
        first = self._table.history()[-1]["timestamp"]
        if moment.timestamp() * 1000 < first:
            return []
        then = DeltaTable(self.url, storage_options=self._options)
        then.load_as_version(moment)
        return self._partitions_of(then)

    def _partitions_of(self, table: DeltaTable) -> list[tuple[Any, ...]]:
        files = table.get_add_actions(flatten=True)
        columns = [files.column(f"partition.{n}").to_pylist() for n in self._partitions]
        return sorted(set(zip(*columns, strict=True)))

    def partitioned_by(self) -> list[str]:
        """Return the columns that the table is partitioned by; those it would get if it is new."""
        if not self._open():
            return list(self._partitions)
        assert self._table is not None
        return self._table.metadata().partition_columns

    def add(
        self, values: Sequence[str], files: Sequence[File], schema: pa.Schema,
        check: Callable[[list[tuple[Any, ...]]], None] | None = None,
    ) -> None:  # fmt: skip
        """Add files in one transaction.

        Args:
            values: of the partition columns; the files lie in the folder of that partition.
            files: the files.
            schema: of the files.
            check: None: the files are added to those that are there. Else they replace those with
                the same first value, and this is called with the partitions that have files; it
                raises if the files must not be published. Nobody else changes the table between
                the call and the transaction.

        Raises:
            InputError: a column has another type than in other files.
        """
        named = dict(zip(self._partitions, values, strict=True))
        folder, now = "/".join(f"{k}={v}" for k, v in named.items()), int(time.time() * 1000)
        actions = [
            AddAction(f"{folder}/{name}", size, named, now, True, f'{{"numRecords": {rows}}}')
            for name, size, rows in files
        ]
        first = next(iter(self._partitions))
        mode, filters = ("overwrite", [(first, "=", values[0])]) if check else ("append", None)
        while True:
            if check:
                check(self.partitions())
            else:
                self._open()
            version = self._version()
            columns, by = self._merged(schema), list(self._partitions)
            # No repetition by the library: it would let two first publications of a date both in.
            commit = CommitProperties(max_commit_retries=0, custom_metadata={RUN: values[-1]})
            try:
                if self._table is None:
                    create_table_with_add_actions(
                        self.url, columns, actions, "error", by, configuration=FOREVER,
                        storage_options=self._options, commit_properties=commit,
                    )  # fmt: skip
                else:
                    self._table.create_write_transaction(
                        [*actions], mode, columns, by, filters, commit_properties=commit
                    )
                return
            except DeltaError as error:
                self._open()
                if self._version() == version:  # nobody else was faster
                    raise InputError(
                        f"{self.url}: the transaction failed ({reason(error)}): run the job again"
                    ) from None

    def vacuum(self, keep: timedelta, pinned: Collection[str] = ()) -> int:
        """Remove the files that were replaced longer than ``keep`` ago; return how many.

        Files without a transaction, which killed jobs left behind, are removed once they are a day
        old, because a running job may be writing younger ones. Files of ``pinned`` runs stay.
        """
        if not self._open():
            return 0
        assert self._table is not None
        history = self._table.history() if pinned else []
        kept = [each["version"] for each in history if each.get(RUN) in pinned] or None
        removed = self._table.vacuum(_hours(keep), False, False, keep_versions=kept)
        left = self._table.vacuum(
            _hours(max(keep, UNFINISHED)), False, False, full=True, keep_versions=kept
        )
        return len(removed) + len(left)

    def _version(self) -> int:
        return self._table.version() if self._table else -1

    def _open(self) -> bool:
        """Take note of all transactions so far; return whether there is such a table."""
        try:
            if self._table is None:
                self._table = DeltaTable(self.url, storage_options=self._options)
            else:
                self._table.update_incremental()
        except TableNotFoundError:
            return False
        except (DeltaError, OSError) as error:
            raise InputError(
                f"{self.url}/_delta_log: cannot be read ({reason(error)}): restore the folder, or"
                " build in another store.path"
            ) from None
        return True

    def _merged(self, schema: pa.Schema) -> Schema:
        """Return the columns of the table, those of a file, and then the partitions."""
        known = {f.name: f for f in self._table.schema().fields} if self._table else {}
        by = [
            known.pop(name, Field(name, PrimitiveType(type_)))
            for name, type_ in self._partitions.items()
        ]
        for field in Schema.from_arrow(pa.schema([_in_utc(f) for f in schema])).fields:
            field = _nullable(field)
            if (other := known.setdefault(field.name, field)).type != field.type:
                raise InputError(
                    f"{self.url}: column {field.name} is {other.type} in the published files, but"
                    f" {field.type} now: write to another folder"
                )
        return Schema([*known.values(), *by])


def storage_options(fs: AbstractFileSystem) -> dict[str, str]:
    """Return what deltalake needs to reach what an fsspec file system reaches.

    Credentials come from the environment, for both in the same variables (AWS_ACCESS_KEY_ID, …).
    """
    if "s3" not in fs.protocol:
        return {}
    endpoint = fs.endpoint_url or fs.client_kwargs.get("endpoint_url")
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return {}
    return {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http://"))}


def _nullable(field: Field) -> Field:
    """Let a column and its parts be null: Spark and Arrow tell different things of these."""
    parts = '"(nullable|containsNull|valueContainsNull)":false'
    return Field.from_json(re.sub(parts, r'"\1":true', field.to_json()))


def _in_utc(field: pa.Field) -> pa.Field:
    """Delta knows moments; a time zone beside them only says how to print them."""
    if pa.types.is_timestamp(field.type) and field.type.tz:
        return field.with_type(pa.timestamp("us", "UTC"))
    return field


def _hours(span: timedelta) -> int:
    return -int(-span.total_seconds() // 3600)
