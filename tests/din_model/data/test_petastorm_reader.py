"""Files of one and of many row groups, on local disk and on a server that speaks S3."""

import random
import sys
import threading
import time
from contextlib import contextmanager

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from din_model.data import petastorm_adapter
from din_model.data.loader import File, Loader
from din_model.data.petastorm_reader import row_groups
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


def write(folder, groups):
    """Write a file of as many row groups, of one row each, once."""
    path = folder / f"{groups}.parquet"
    if not path.exists():
        pq.write_table(pa.table({"row": range(groups)}), path, row_group_size=1)
    return f"file://{path}"


def rows_of(url):
    return [row for group in row_groups(url, ["row"]) for row in group["row"].tolist()]


def test_no_row_group_is_lost_if_all_are_handed_out_before_the_pool_asks_for_more(
    tmp_path, monkeypatch
):
    ventilator_class = petastorm_adapter.reader.ConcurrentVentilator
    completed, reader = ventilator_class.completed, threading.current_thread()

    def completed_after_a_switch(ventilator):
        if threading.current_thread() is reader and ventilator._ventilation_thread:
            ventilator._ventilation_thread.join(timeout=0.1)
        return completed(ventilator)

    monkeypatch.setattr(ventilator_class, "completed", completed_after_a_switch)
    for groups in (1, 2, 5, 20):
        assert rows_of(write(tmp_path, groups)) == list(range(groups))


@contextmanager
def interrupted(seed):
    """Let other threads run between two lines of Petastorm's pool or ventilator, at random."""
    draw = random.Random(seed)

    def at_line(frame, event, arg):
        if draw.random() < 0.01:
            time.sleep(draw.random() / 500)
        return at_line

    def at_call(frame, event, arg):
        return at_line if "workers_pool" in frame.f_code.co_filename else None

    threading.settrace(at_call)
    sys.settrace(at_call)
    try:
        yield
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]


@pytest.mark.timeout(120)  # Petastorm's own pool loses row groups, or waits for ever
@pytest.mark.parametrize("reads", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_no_row_group_is_lost_while_threads_are_interrupted_at_random(tmp_path, reads):
    for seed in range(reads):
        groups = random.Random(seed).randint(1, 64)
        url = write(tmp_path, groups)
        with interrupted(seed):
            found = rows_of(url)
        assert found == list(range(groups)), f"seed {seed}"
