"""Examples on object storage: a server that speaks S3, in a process of its own, read by s3fs."""

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from din_model.data.loader import File, Loader
from din_model.errors import InputError
from tests.din_model.conftest import small_spec, some_columns
from tests.s3 import s3_server

SIZES = (37, 5, 20)


@pytest.fixture
def bucket(monkeypatch):
    """The address of an empty bucket."""
    with s3_server(monkeypatch) as address:
        yield address


def test_rows_read_from_a_server_equal_those_of_the_disk(bucket, tmp_path):
    here, there = [], []
    for number, size in enumerate(SIZES):
        arrays = {n: pa.array(v.tolist()) for n, v in some_columns(size, seed=number).items()}
        path, url = f"{tmp_path}/{number}.parquet", f"{bucket}/examples/date=2026-11-20/{number}"
        pq.write_table(pa.table(arrays), path)
        with open(path, "rb") as local, fsspec.open(f"{url}.parquet", "wb") as remote:
            remote.write(local.read())
        here.append(File(f"file://{path}", size))
        there.append(File(f"{url}.parquet", size))
    both = [Loader(files, small_spec(), 8, seed=1) for files in (here, there)]
    for ours, theirs in zip(*(reader.chunks() for reader in both), strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in both[0].columns)
    assert both[1].read == sum(SIZES)
    with pytest.raises(InputError, match=r"none\.parquet: listed in the manifest but missing"):
        list(Loader([File(f"{bucket}/none.parquet", 1)], small_spec(), 8).chunks())
