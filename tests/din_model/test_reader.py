import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from din_model.errors import InputError
from din_model.reader import File, Reader
from tests.din_model.conftest import small_spec, some_columns

SIZES = (37, 5, 12, 1, 20)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("parquet"), []
    for i, size in enumerate(SIZES):
        columns = some_columns(size, seed=i) | {"row": np.arange(size) + 1000 * i}
        arrays = {n: pa.array(v.tolist() if v.ndim > 1 else v) for n, v in columns.items()}
        pq.write_table(pa.table(arrays), folder / f"{i}.parquet")
        found.append(File(f"file://{folder}/{i}.parquet", size))
    return found


def rows_read(reader, epoch=0):
    return np.concatenate([columns["row"] for columns in reader.chunks(epoch)]).tolist()


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_every_row_comes_once_an_epoch_and_ranks_take_equal_steps(files, ranks):
    readers = [
        Reader(files, small_spec(), 8, r, ranks, seed=1, extra=["row"]) for r in range(ranks)
    ]
    every = sorted(row for reader in readers for row in rows_read(reader))
    assert every == sorted(1000 * i + n for i, size in enumerate(SIZES) for n in range(size))
    steps = [list(reader.epoch()) for reader in readers]
    assert {len(s) for s in steps} == {readers[0].steps}
    for together in zip(*steps, strict=True):
        assert {rows for _, rows in together} == {sum(batch.rows for batch, _ in together)}


def test_order_depends_on_seed_and_epoch_alone(files):
    def read(seed, epoch):
        return rows_read(Reader(files, small_spec(), 8, seed=seed, extra=["row"]), epoch)

    assert read(1, 0) == read(1, 0)
    assert read(1, 0) != read(1, 1) and read(1, 0) != read(2, 0)


def test_rows_that_the_manifest_does_not_know_stop_the_epoch(files):
    wrong = [*files[:-1], File(files[-1].url, 19)]
    with pytest.raises(InputError, match="read 75 rows of 5 files, but their manifests say 74"):
        list(Reader(wrong, small_spec(), 8).epoch())
