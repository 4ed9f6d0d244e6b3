"""Small files of a log, and sources that read them."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.ingest.raw_rows import Raw
from pipelines.ingest.sources import Source

DAY, NEXT = date(2026, 11, 20), date(2026, 11, 21)
CSV = {"header": "true"}


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def put_table(path: Path, **columns: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def rows(raws: list[Raw], *columns: str) -> list[tuple]:
    return sorted(tuple(row) for raw in raws for row in raw.rows.select(*columns).collect())


def source(folder: Path, **others: object) -> Source:
    kind = others.get("format", "csv")
    options = CSV if kind == "csv" else None
    return Source(**{"path": f"{folder}/{{date}}", "format": kind, "options": options} | others)
