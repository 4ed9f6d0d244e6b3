"""Writes odd small logs as files of JSON, CSV or Parquet, some of them damaged."""

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.odd_logs import DAMAGES, Log


def write(folder: Path, logs: list[Log], kind: str) -> int | None:
    """Write the logs, one file each; return how many rows they hold, None if damaged."""
    folder.mkdir(parents=True)
    for number, log in enumerate(logs):
        path = folder / f"part-{number}.{kind}"
        if kind == "parquet":
            pq.write_table(table(log), path)
            data = path.read_bytes()
        else:
            data = quirky(lines(log, kind), log.quirk)
        if log.quirk in ("cut", "packed and cut"):
            data = data[: len(data) * 2 // 3]
        if log.quirk == "bytes":
            data = data[: len(data) // 2] + b"\xff\x00\xfe" + data[len(data) // 2 + 3 :]
        if log.quirk in ("packed", "packed and cut", "named .gz") and kind != "parquet":
            path = path.with_name(f"{path.name}.gz")
        path.write_bytes(b"" if log.quirk == "empty" else data)
    damaged = any(log.quirk in DAMAGES for log in logs)
    return None if damaged else sum(len(log.rows) for log in logs)


def quirky(text: str, quirk: str) -> bytes:
    if quirk == "crlf":
        text = text.replace("\n", "\r\n")
    if quirk == "blank lines":
        text = text.replace("\n", "\n\n")
    if quirk == "no last newline":
        text = text[:-1]
    encoding = {"bom": "utf-8-sig", "utf-16": "utf-16"}.get(quirk, "utf-8")
    data = text.encode(encoding, "surrogatepass")
    return gzip.compress(data) if quirk.startswith("packed") else data


def table(log: Log) -> pa.Table:
    names = list(log.types)
    return pa.table({n: array([row[n] for row in log.rows], log.types[n]) for n in names})


def array(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    """The values in the type if all fit, else in the type that they have, else as text."""
    for tried in (kind, None):
        try:
            held = pa.array(values, tried)
            if pa.types.is_timestamp(held.type) and held.type.unit == "s":
                held = held.cast(pa.timestamp("ms", held.type.tz))  # Parquet has no seconds
            return held
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def lines(log: Log, kind: str) -> str:
    if kind == "json":
        plain = [
            {n: float(v) if isinstance(v, Decimal) else v for n, v in r.items()} for r in log.rows
        ]
        return "".join(f"{json.dumps(row)}\n" for row in plain)
    names = list(log.types)
    texts = [names] + [["" if row[n] is None else str(row[n]) for n in names] for row in log.rows]
    return "".join(",".join(map(cell, line)) + "\n" for line in texts)


def cell(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if any(c in text for c in ',"\\') else text
