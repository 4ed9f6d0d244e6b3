import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from din_model.data.loader import File, Loader, shard_files
from din_model.errors import InputError
from din_model.features import UNKNOWN
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


@given(sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=30), ranks=st.integers(1, 5))
def test_ranks_differ_by_at_most_one_file(sizes, ranks):
    files = [File(f"file:///{i}.parquet", rows) for i, rows in enumerate(sizes)]
    row_partition = shard_files(files, ranks)
    assert sorted(f.url for mine in row_partition for f in mine) == sorted(f.url for f in files)
    rows = [sum(file.rows for file in mine) for mine in row_partition]
    assert max(rows) - min(rows) <= max(sizes)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_an_epoch_reads_every_row_once_and_ranks_take_equal_steps(files, ranks):
    readers = [
        Loader(files, small_spec(), 8, r, ranks, seed=1, extra=["row"]) for r in range(ranks)
    ]
    every = sorted(row for reader in readers for row in rows_read(reader))
    assert every == sorted(1000 * i + n for i, size in enumerate(SIZES) for n in range(size))
    steps = [list(reader.epoch()) for reader in readers]
    assert {len(s) for s in steps} == {readers[0].steps}
    for together in zip(*steps, strict=True):
        assert {rows for _, rows in together} == {sum(batch.rows for batch, _ in together)}


@pytest.mark.parametrize(
    "epochs", [3, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_every_epoch_has_every_row_once_in_a_new_order(files, ranks, epochs):
    readers = [
        Loader(files, small_spec(), 8, r, ranks, seed=1, extra=["row"]) for r in range(ranks)
    ]
    orders = []
    for epoch in range(epochs):
        orders.append([row for reader in readers for row in rows_read(reader, epoch)])
        assert sorted(orders[-1]) == sorted(orders[0])
        assert len(set(orders[0])) == sum(SIZES)
        assert sum(reader.read for reader in readers) == (epoch + 1) * sum(SIZES)
    assert len(set(map(tuple, orders))) == epochs


def test_rows_of_a_user_are_spread_over_the_batches_of_an_epoch(tmp_path):
    files = []
    for i in range(4):  # each has 20 rows of each of 16 users, one user after another
        columns = some_columns(320) | {"row": np.repeat(np.arange(16), 20) + 16 * i}
        arrays = {n: pa.array(v.tolist()) for n, v in columns.items()}
        pq.write_table(pa.table(arrays), tmp_path / f"{i}.parquet")
        files.append(File(f"file://{tmp_path}/{i}.parquet", 320))
    reader = Loader(files, small_spec(), 128, seed=1, extra=["row"])
    for columns in reader.chunks():
        assert len(set(columns["row"] // 16)) == 4, "a batch has rows of all files"
        assert np.bincount(columns["row"]).max() <= 10, "of 20 rows of a user, a batch has few"


def test_a_kept_unclicked_row_is_weighted_for_the_dropped_ones(files):
    sampled = [f._replace(sample_rate=0.25) if i == 0 else f for i, f in enumerate(files)]
    reader = Loader(sampled, small_spec(), 8, seed=1, extra=["row"])
    for columns in reader.chunks():
        left_out = (columns["row"] < 1000) & (columns["label"] == 0)
        assert (columns["weight"] == np.where(left_out, 4, 1)).all()
    batches = [batch for batch, _ in Loader(sampled, small_spec(), 8, seed=1).epoch()]
    assert {float(w) for batch in batches for w in batch.weight} == {1.0, 4.0}


def test_order_depends_on_seed_and_epoch_alone(files):
    def read(seed, epoch):
        return rows_read(Loader(files, small_spec(), 8, seed=seed, extra=["row"]), epoch)

    assert read(1, 0) == read(1, 0)
    assert read(1, 0) != read(1, 1)
    assert read(1, 0) != read(2, 0)
    assert len({read(1, epoch)[0] // 1000 for epoch in range(8)}) > 2, "files keep one order"


def test_oov_dropout_applies_only_in_training(files):
    first = 20
    dated = [File(f.url, f.rows, {"item": first} if i else {}) for i, f in enumerate(files)]

    def ids(seed, share):
        reader = Loader(dated, small_spec(), 8, seed=seed, extra=["row"], oov_dropout=share)
        chunks = list(reader.chunks())
        together = {n: np.concatenate([c[n] for c in chunks]) for n in chunks[0]}
        order = np.argsort(together["row"])
        return {n: values[order] for n, values in together.items()}

    as_written, judged = ids(1, 0.0), ids(None, 1.0)
    late = as_written["row"] >= 1000  # the first file's day has no day before it
    for name, values in as_written.items():
        assert (judged[name] == values).all()
        new = (values >= first) & (late if values.ndim == 1 else late[:, None])
        if name not in ("item", "clicks__item"):
            new[:] = False
        assert (ids(1, 1.0)[name] == np.where(new, UNKNOWN, values)).all()
        half = ids(1, 0.5)[name]
        assert (half == values)[~new].all()
        assert set(half[new]) <= {UNKNOWN, *values[new]}
        assert not new.any() or 0 < (half[new] == UNKNOWN).mean() < 1


def test_more_rows_than_in_the_manifest_are_an_error(files):
    wrong = [*files[:-1], File(files[-1].url, 19)]
    with pytest.raises(InputError, match="read 75 rows of 5 files, but their manifests say 74"):
        list(Loader(wrong, small_spec(), 8).epoch())
