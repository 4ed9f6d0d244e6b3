"""A manifest comes back from its row of the table of publications."""

from dataclasses import replace

import pyarrow as pa
import pytest

from din_model.errors import InputError
from pipelines.store.manifest import Manifest
from pipelines.store.parquet import DataFile

FILES = (DataFile("a.parquet", 3, 40, 1), DataFile("b.parquet", 4, 50, 2))
MANIFEST = Manifest("scores", "2026-11-19", "r1", FILES, {"rate": 0.5, "pins": {"state": ["s"]}}, 2)


def test_a_row_holds_everything_of_a_manifest() -> None:
    row = MANIFEST.to_table()
    assert Manifest.from_table("scores", "2026-11-19", row) == MANIFEST
    assert row.select(["rows", "bytes"]).to_pylist() == [{"rows": 7, "bytes": 90}]


def test_an_erasure_keeps_the_id_that_others_pin() -> None:
    erased = replace(MANIFEST, run="r1.e7")
    assert erased.id == MANIFEST.id == "scores/2026-11-19/r1"
    assert erased.folder != MANIFEST.folder


def test_a_row_of_another_format_says_which() -> None:
    row = MANIFEST.to_table()
    column = row.schema.get_field_index("format_version")
    row = row.set_column(column, "format_version", pa.array([99]))
    with pytest.raises(InputError, match="format version 99, but this release reads 2"):
        Manifest.from_table("scores", "2026-11-19", row)
