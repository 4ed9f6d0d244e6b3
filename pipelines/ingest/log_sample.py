"""A sample of a log: which files there are, how to read them, and some rows, without Spark."""

import csv
import gzip
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from din_model.errors import InputError

ROWS = 20_000
"""Rows that are read of a log: of the beginning of its first, middle and last file, and its end."""

FORMATS = {
    "parquet": "parquet", "json": "json", "jsonl": "json", "ndjson": "json",
    "csv": "csv", "tsv": "csv", "txt": "csv",
}  # fmt: skip
"""Format of Spark's reader by the suffix of a file, which may be followed by ``.gz``."""

DATE = re.compile(r"\d{4}-\d{2}-\d{2}")

DDL = {"int64": "bigint", "double": "double", "bool": "boolean"}
"""Type of a column of text files; every other one is a string."""


@dataclass(frozen=True)
class LogSample:
    """What is known of a log from some of its rows.

    Attributes:
        path: for ``sources``; ``{date}`` stands for the date if each has files of its own.
        format: of Spark's reader.
        rows: the sampled rows.
        options: of Spark's reader.
        dates: the dates of the path, in order; empty if it has none.
    """

    path: str
    format: str
    rows: pa.Table
    options: dict[str, str] = field(default_factory=dict)
    dates: tuple[str, ...] = ()

    @property
    def schema(self) -> str | None:
        """The columns as DDL, which text files need."""
        if self.format == "parquet":
            return None
        fields = self.rows.schema
        return ", ".join(f"`{f.name}` {_ddl(f.type)}" for f in fields)


def sample_logs(paths: Sequence[str]) -> list[LogSample]:
    """Read some rows of each log; neighbours with the same columns are files of one log.

    So does a shell pass the files that match a pattern.

    Raises:
        InputError: a log cannot be read; no pattern matches the files of a log and no others.
    """
    if len(paths) == 1:
        return [sample_log(paths[0])]
    filled = [path for path in paths if _files(*url_to_fs(path))]
    logs = groupby(filled or paths, key=_column_names)
    return [sample_log(_pattern(list(files))) for _, files in logs]


def sample_log(path: str) -> LogSample:
    """Read some rows of a file, a folder or a pattern.

    Raises:
        InputError: nothing is there, files of several or unknown formats, or no rows.
    """
    fs, root = url_to_fs(path)
    files = _files(fs, root)
    format_ = _format(path, files)
    options = _csv_options(fs, files) if format_ == "csv" else {}
    chosen = dict.fromkeys((files[0], files[len(files) // 2], files[-1]))
    rows_each = -(-ROWS // (len(chosen) + 1))
    tables = [_read(fs, file, format_, options, rows_each) for file in chosen]
    tables.append(_read(fs, files[-1], format_, options, rows_each, at_end=True))
    filled = [table for table in tables if len(table)] or tables[:1]
    rows = pa.concat_tables(filled, promote_options="permissive")
    if not len(rows):
        raise InputError(f"{path}: no rows in the first, middle and last of {len(files)} files")
    template, dates = _template(path, root, files)
    return LogSample(template, format_, rows, options, dates)


def _column_names(path: str) -> tuple[str, ...]:
    fs, root = url_to_fs(path)
    files = _files(fs, root)
    format_ = _format(path, files)
    options = _csv_options(fs, files) if format_ == "csv" else {}
    return tuple(_read(fs, files[0], format_, options, 1).column_names)


def _pattern(paths: list[str]) -> str:
    if len(paths) == 1:
        return paths[0]
    start = os.path.commonprefix(paths)  # noqa: RUF071 - letters, not folders
    rests = [path[len(start) :] for path in paths]
    end = os.path.commonprefix([rest[::-1] for rest in rests])[::-1]  # noqa: RUF071 - as above
    pattern = f"{start}*{end}"
    fs, root = url_to_fs(pattern)
    if set(_files(fs, root)) != {file for path in paths for file in _files(*url_to_fs(path))}:
        raise InputError(
            f"{paths[0]} and {len(paths) - 1} others have the same columns, so they are one log:"
            f" put them in a folder of their own, and name that (other files match {pattern})"
        )
    return pattern


def _format(path: str, files: list[str]) -> str:
    suffixes = {_suffix(file) for file in files}
    formats = {FORMATS.get(suffix, "") for suffix in suffixes}
    if not files or len(formats) != 1 or "" in formats:
        found = ", ".join(sorted(suffixes)) if files else "no file"
        raise InputError(
            f"{path}: {found} found: name a file, folder or pattern of one format, which the suffix"
            f" tells: {', '.join(sorted(FORMATS))}"
        )
    return formats.pop()


def _files(fs: AbstractFileSystem, root: str) -> list[str]:
    if fs.isfile(root):
        return [root] if fs.size(root) else []
    if fs.isdir(root):
        found = fs.find(root)
    else:
        matches = fs.glob(root, detail=True)
        found = [f for path, m in matches.items() for f in _within(fs, path, m["type"])]
    visible = [p for p in found if not re.search(r"/[._][^/]*$", p)]
    return sorted(p for p in visible if fs.size(p))


def _within(fs: AbstractFileSystem, path: str, type_: str) -> list[str]:
    return fs.find(path) if type_ == "directory" else [path]


def _suffix(path: str) -> str:
    return path.removesuffix(".gz").rpartition("/")[2].rpartition(".")[2].lower()


def _template(path: str, root: str, files: list[str]) -> tuple[str, tuple[str, ...]]:
    """Return the path with ``{date}`` in place of the only date in the names of all files."""
    folder, below_folder = (re.sub(r"/?[^/]*[*?\[].*", "", text) for text in (path, root))
    below = [file.removeprefix(below_folder) for file in files]
    dates = [DATE.findall(name) for name in below]
    folders = {DATE.sub("{date}", name.rpartition("/")[0]) for name in below}
    names = {DATE.sub("{date}", name) for name in below}
    if all(len(set(found)) == 1 for found in dates):
        every = tuple(sorted({found[0] for found in dates}))
        for templates in (folders, names):  # one folder a date, or one file
            if len(templates) == 1 and "{date}" in (template := templates.pop()):
                return folder.rstrip("/") + template, every
    return path, ()


def _opened(fs: AbstractFileSystem, path: str) -> IO[bytes]:
    raw = fs.open(path, "rb")
    return gzip.open(raw) if path.endswith(".gz") else raw  # type: ignore[return-value]


def _csv_options(fs: AbstractFileSystem, files: list[str]) -> dict[str, str]:
    """Return separator and header of CSV files, by the first lines of the first file."""
    with _opened(fs, files[0]) as file:
        lines = [line.decode(errors="replace") for line in islice(file, 50)]
    try:
        separator = csv.Sniffer().sniff("".join(lines), ",;\t|").delimiter
    except csv.Error:
        separator = "\t" if "\t" in lines[0] else ","
    first, *others = list(csv.reader(lines, delimiter=separator))
    named = len(set(first)) == len(first) and not any(_is_number(cell) for cell in first)
    repeated = any(set(first) & set(other) - {""} for other in others[:20])
    options = {"header": "true"} if named and not repeated else {}
    return options | ({"sep": separator} if separator != "," else {})


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"\s*[-+]?[\d.,:/-]+\s*", cell) is not None


def _read(
    fs: AbstractFileSystem, path: str, format_: str, options: dict[str, str], rows: int,
    at_end: bool = False,
) -> pa.Table:  # fmt: skip
    """Return the first rows of a file, or the last ones that are not among those."""
    try:
        if format_ == "parquet":
            with fs.open(path, "rb") as file:
                return _read_parquet(pq.ParquetFile(file), rows, at_end)
        with _opened(fs, path) as file:
            head = b"".join(islice(file, rows + 1))
            if at_end:
                names = head.splitlines(keepends=True)[:1] if "header" in options else []
                head = b"".join([*names, *_last_lines(file, len(head))])
        if format_ == "json":
            reading = pajson.ReadOptions(use_threads=False)
            return pajson.read_json(io.BytesIO(head), reading) if head.strip() else pa.table({})
        # Threads of Arrow may still run when the process ends, which aborts it.
        reading = pacsv.ReadOptions(
            use_threads=False, autogenerate_column_names="header" not in options
        )
        parsing = pacsv.ParseOptions(
            delimiter=options.get("sep", ","), invalid_row_handler=lambda _: "skip"
        )
        if not head.strip():
            return pa.table({})
        return pacsv.read_csv(io.BytesIO(head), reading, parsing)
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as {format_} ({str(error)[:200]})") from None


def _read_parquet(file: pq.ParquetFile, rows: int, at_end: bool) -> pa.Table:
    if not at_end:
        return pa.Table.from_batches(islice(file.iter_batches(rows), 1), file.schema_arrow)
    if not file.num_row_groups:
        return file.schema_arrow.empty_table()
    last = file.read_row_group(file.num_row_groups - 1)
    beyond = min(rows, file.metadata.num_rows - rows, len(last))
    return last.slice(len(last) - max(beyond, 0))


def _last_lines(file: IO[bytes], size: int) -> list[bytes]:
    """Return the whole lines among the last ``size`` bytes that have not been read yet.

    None of a compressed file, all of which would have to be read.
    """
    if isinstance(file, gzip.GzipFile):
        return []
    read, end = file.tell(), file.seek(0, io.SEEK_END)
    file.seek(max(read, end - size))
    if end - size > read:
        file.readline()  # its beginning is cut off
    return file.readlines()


def _ddl(type_: pa.DataType) -> str:
    if pa.types.is_list(type_):
        return f"array<{_ddl(type_.value_type)}>"
    if pa.types.is_struct(type_):
        parts: Iterator[Any] = iter(type_)
        return f"struct<{', '.join(f'`{p.name}`: {_ddl(p.type)}' for p in parts)}>"
    return DDL.get(str(type_), "string")
