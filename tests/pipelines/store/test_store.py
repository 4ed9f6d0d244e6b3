"""Readers see one published run a date: the old one or the new one, never a part of either."""

import json
import os
import pickle
import re
import shutil
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder
from pyspark.sql import DataFrame, SparkSession

from din_model.errors import InputError
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store

DAY, NEXT = date(2026, 11, 19), date(2026, 11, 20)


def rows(spark: SparkSession, first: int, count: int) -> DataFrame:
    return spark.range(first, first + count, 1, 3)


def read_as_delta(root: Path) -> list[int]:
    """What anybody reads who opens the folder as a Delta table."""
    table = DeltaTable(str(root / "numbers"))
    read = QueryBuilder().register("numbers", table).execute("select id from numbers")
    return sorted(read.read_all().column("id").to_pylist())


def test_a_delta_reader_sees_one_run_a_date_and_publishing_again_replaces_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    first = store.publish("numbers", DAY, rows(spark, 0, 10), {})
    other = store.publish("numbers", NEXT, rows(spark, 100, 5), {})
    assert read_as_delta(tmp_path) == [*range(10), *range(100, 105)]

    second = store.publish("numbers", DAY, rows(spark, 50, 7), {"why": "again"})
    assert read_as_delta(tmp_path) == [*range(50, 57), *range(100, 105)]
    assert first.id != second.id
    assert store.dates("numbers") == [DAY, NEXT]
    assert store.manifests("numbers") == [second, other]
    assert store.read(spark, [second]).count() == 7


def test_who_opened_a_run_reads_it_to_the_end_after_another_replaced_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    opened = store.read(spark, [store.publish("numbers", DAY, rows(spark, 0, 10), {})])
    version = QueryBuilder().register("numbers", DeltaTable(str(tmp_path / "numbers")))
    store.publish("numbers", DAY, rows(spark, 50, 7), {})
    assert opened.count() == 10
    counted = version.execute("select count(*) from numbers").read_all()
    assert counted.column(0).to_pylist() == [10]


def test_a_manifest_tells_rows_and_sizes_of_its_files(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    written = store.publish("numbers", DAY, rows(spark, 0, 10), {"spec_hash": "abc"})
    found = Store(str(tmp_path)).manifest("numbers", DAY)
    assert found == written
    assert found.facts == {"spec_hash": "abc"}
    assert (found.rows, sorted(file.rows for file in found.files)) == (10, [3, 3, 4])
    for file, url in zip(found.files, store.urls(found), strict=True):
        path = Path(url.removeprefix("file://"))
        footer = pq.ParquetFile(path).metadata
        assert (file.bytes, file.rows) == (path.stat().st_size, footer.num_rows)
        assert file.row_groups == footer.num_row_groups == 1


def test_another_process_finds_the_same(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    written = store.publish("numbers", DAY, rows(spark, 0, 3), {})
    assert pickle.loads(pickle.dumps(store)).manifest("numbers", DAY) == written


def test_what_runs_were_made_of_is_a_table_too(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.publish("numbers", DAY, rows(spark, 0, 10), {"spec_hash": "abc"})
    again = store.publish("numbers", DAY, rows(spark, 0, 7), {"spec_hash": "def"})
    table = DeltaTable(str(tmp_path / "publications"))
    query = "select run, rows, facts from publications where data_set = 'numbers' order by rows"
    read = QueryBuilder().register("publications", table).execute(query).read_all()
    assert read.column("rows").to_pylist() == [7, 10]
    assert read.column("run").to_pylist()[0] == again.run
    assert json.loads(read.column("facts").to_pylist()[0]) == {"spec_hash": "def"}


@pytest.mark.parametrize("left", [None, 0, 0.5])
def test_a_file_that_is_not_what_was_written_is_named(
    spark: SparkSession, tmp_path: Path, left: float | None
) -> None:
    store = Store(str(tmp_path))
    manifest = store.publish("numbers", DAY, rows(spark, 0, 10), {})
    file = Path(store.urls(manifest)[1].removeprefix("file://"))
    if left is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: int(left * file.stat().st_size)])
    said = rf"{file}: has (no|\d+) bytes, but its manifest says"
    with pytest.raises(InputError, match=f"{said} {manifest.files[1].bytes}"):
        store.read(spark, [manifest])


@pytest.mark.parametrize("error", [InputError("too few"), KeyboardInterrupt()])
def test_a_failing_check_leaves_the_published_run_standing(
    spark: SparkSession, tmp_path: Path, error: BaseException
) -> None:
    store = Store(str(tmp_path))
    before = store.publish("numbers", DAY, rows(spark, 0, 10), {})
    seen: list[int] = []

    def refuse(manifest: Manifest) -> None:
        seen.append(manifest.rows)
        raise error

    for day in (DAY, NEXT):
        with pytest.raises(type(error)):
            store.publish("numbers", day, rows(spark, 50, 7), {}, refuse)
    assert seen == [7, 7]
    assert store.manifests("numbers") == [before]
    assert read_as_delta(tmp_path) == list(range(10))
    runs = [p.name for p in (tmp_path / "numbers").glob("date=*/run=*")]
    assert runs == [f"run={before.run}"]


def test_the_first_error_of_a_publication_is_told(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.publish("numbers", DAY, rows(spark, 0, 10), {})

    def fail(_: Manifest) -> None:
        log = tmp_path / "numbers/_delta_log"
        (log / f"{1:020}.json").write_text("damaged")
        raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"):
        store.publish("numbers", DAY, rows(spark, 50, 7), {}, fail)


def test_a_job_that_dies_while_writing_leaves_nothing_visible(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    before = store.publish("numbers", DAY, rows(spark, 0, 10), {})
    broken = spark.range(4).selectExpr("if(id = 3, raise_error('disk'), id) as id")
    with pytest.raises(Exception, match="disk"):
        store.publish("numbers", DAY, broken, {})
    assert store.manifest("numbers", DAY) == before
    assert read_as_delta(tmp_path) == list(range(10))


def test_a_run_without_rows_keeps_its_schema(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    empty = store.publish("numbers", DAY, rows(spark, 0, 10).where("id < 0"), {})
    assert (empty.rows, store.read(spark, [empty]).columns) == (0, ["id"])
    record = store.publish("facts", DAY, None, {"rate": 0.5})
    assert store.manifest("facts", DAY) == record
    assert record.files == ()


@pytest.mark.parametrize("damage", [b"", b"{", b"PAR1", None])
def test_a_damaged_record_is_named(
    spark: SparkSession, tmp_path: Path, damage: bytes | None
) -> None:
    Store(str(tmp_path)).publish("numbers", DAY, rows(spark, 0, 3), {})
    (record,) = tmp_path.glob("publications/*/*/*.parquet")
    record.unlink() if damage is None else record.write_bytes(damage)
    with pytest.raises(InputError, match=rf"{record.name}: not a record .*build the date again"):
        Store(str(tmp_path)).manifest("numbers", DAY)


def test_a_damaged_log_is_named(spark: SparkSession, tmp_path: Path) -> None:
    Store(str(tmp_path)).publish("numbers", DAY, rows(spark, 0, 3), {})
    (tmp_path / "numbers/_delta_log/00000000000000000000.json").write_text("{")
    with pytest.raises(InputError, match="numbers/_delta_log: cannot be read"):
        Store(str(tmp_path)).manifest("numbers", DAY)


def test_a_required_date_that_is_not_there_names_the_way_out(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert store.manifest("numbers", DAY) is None
    with pytest.raises(
        InputError, match="numbers: nothing is published for 2026-11-19: run the job"
    ):
        store.require("numbers", DAY, "run the job")


def test_a_vacuum_removes_what_was_replaced_long_enough_ago_and_nothing_published(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    first = store.publish("scores", DAY, rows(spark, 0, 10), {})
    second = store.publish("scores", DAY, rows(spark, 50, 7), {})
    assert store.vacuum(timedelta(days=1)) == 0
    assert store.read(spark, [first]).count() == 10
    assert store.vacuum(timedelta(0)) == len(first.files)
    assert store.read(spark, [second]).count() == 7


def test_a_vacuum_keeps_pinned_runs(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    first, second, third = (
        store.publish("scores", DAY, rows(spark, 10 * n, 3), {}) for n in range(3)
    )
    store.vacuum(timedelta(0), {first.run})
    assert [store.read(spark, [m]).count() for m in (first, third)] == [3, 3]
    assert not (tmp_path / second.folder / second.files[0].path).exists()


def test_an_earlier_moment_shows_what_was_published_then(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    before = datetime.now(UTC)
    first = store.publish("scores", DAY, rows(spark, 0, 10), {})
    between = datetime.now(UTC)
    second = store.publish("scores", DAY, rows(spark, 50, 7), {})
    other = store.publish("scores", NEXT, rows(spark, 50, 7), {})
    assert store.at(before).manifests("scores") == []
    assert store.at(between).manifests("scores") == [first]
    assert store.at(datetime.now(UTC)).manifests("scores") == [second, other]
    assert store.at(between).manifests("shadow") == []
    store.vacuum(timedelta(0))
    with pytest.raises(InputError, match=r"has no bytes, .* choose a later score\.as_of"):
        store.at(between).read(spark, [first])


def test_a_vacuum_leaves_the_files_of_running_jobs_and_takes_those_of_killed_ones(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    store.publish("scores", DAY, rows(spark, 0, 3), {})
    running, killed = (tmp_path / f"scores/date={DAY}/run={r}/part.parquet" for r in "ab")
    for path in (running, killed):
        path.parent.mkdir()
        path.touch()
    two_days_ago = time.time() - 2 * 86_400
    os.utime(killed, (two_days_ago, two_days_ago))
    assert store.vacuum(timedelta(0)) == 1
    assert (running.exists(), killed.exists()) == (True, False)


def test_a_copied_date_is_no_date(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    written = store.publish("numbers", DAY, rows(spark, 0, 3), {})
    folder = tmp_path / "numbers" / f"date={DAY}"
    shutil.copytree(folder, f"{folder}.bak")
    shutil.copytree(folder, folder.with_name("date=2026-11-20"))
    assert store.dates("numbers") == [DAY]
    assert read_as_delta(tmp_path) == [0, 1, 2]
    assert store.read(spark, [written]).count() == 3


def test_of_two_jobs_that_began_together_the_first_publishes_and_the_other_says_so(
    spark: SparkSession, tmp_path: Path
) -> None:
    one, other = Store(str(tmp_path)), Store(str(tmp_path))
    with one.job(), other.job():
        first = one.publish("scores", DAY, rows(spark, 0, 3), {})
        other.publish("scores", NEXT, rows(spark, 0, 3), {})
        with pytest.raises(InputError, match="scores: another job published it while this one ran"):
            other.publish("scores", DAY, rows(spark, 5, 2), {})
        one.publish("scores", DAY, rows(spark, 0, 4), {})
    assert first.run != one.manifest("scores", DAY).run
    assert {p.name for p in (tmp_path / f"scores/date={DAY}").iterdir()} == {
        f"run={first.run}", f"run={one.manifest('scores', DAY).run}",
    }  # fmt: skip


def test_a_date_of_a_chain_rests_on_all_dates_that_the_job_saw(
    spark: SparkSession, tmp_path: Path
) -> None:
    one, other = Store(str(tmp_path)), Store(str(tmp_path))
    with one.job(), other.job():
        one.publish("vocabulary", DAY, rows(spark, 0, 3), {})
        with pytest.raises(InputError, match="vocabulary: another job published"):
            other.publish("vocabulary", NEXT, rows(spark, 5, 2), {})


def test_a_job_that_began_before_an_erasure_publishes_nothing(
    spark: SparkSession, tmp_path: Path
) -> None:
    scoring, erasing = Store(str(tmp_path)), Store(str(tmp_path))
    with scoring.job():
        erasing.publish("erasures", DAY, None, {"users": 1})
        with pytest.raises(InputError, match="users were erased while this job ran"):
            scoring.publish("scores", DAY, rows(spark, 0, 3), {})
    assert scoring.dates("scores") == []
    with scoring.job():
        scoring.publish("scores", DAY, rows(spark, 0, 3), {})


def test_a_column_that_comes_is_null_before_and_one_that_changes_its_type_is_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    store.publish("numbers", DAY, spark.sql("select 1 id"), {})
    store.publish("numbers", NEXT, spark.sql("select 2 id, array('a') words"), {})
    table = DeltaTable(str(tmp_path / "numbers"))
    query = QueryBuilder().register("numbers", table)
    read = query.execute("select words from numbers order by id").read_all()
    assert read.column("words").to_pylist() == [None, ["a"]]
    with pytest.raises(InputError, match=r"numbers: column id is .*integer.* but .*string"):
        store.publish("numbers", NEXT, spark.sql("select 'x' id"), {})


@pytest.mark.parametrize("name", ["a[b]{c,d}*?", "date=2020-01-01", "a b #+ €"])
def test_every_character_of_the_path_stands_for_itself(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    store = Store(str(tmp_path / name))
    written = store.publish("numbers", DAY, rows(spark, 0, 3), {})
    assert store.dates("numbers") == [DAY]
    assert store.read(spark, [written]).count() == 3
    seen: list[int] = []

    def check(manifest: Manifest) -> None:
        seen.append(store.read(spark, [manifest]).count())

    store.publish("numbers", DAY, rows(spark, 5, 2), {}, check)
    assert seen == [2]


@pytest.mark.parametrize(
    "path", ["{folder}/${{STORE_PASSWORD}}", "{folder}/${{PLACE}}", "s3://KEY:${{PLACE}}@bucket/x"]
)
def test_a_path_that_holds_a_password_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.setenv("STORE_PASSWORD", "correct horse")
    monkeypatch.setenv("PLACE", "token=hunter2")
    with pytest.raises(InputError, match=r"store.path: .* holds a password") as caught:
        Store(path.format(folder=tmp_path))
    assert not re.search("horse|hunter2", str(caught.value))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("foo://x", "store.path: foo://x cannot be opened"),
        ("{file}", "is a file: name a folder"),
        ("{file}%20x", "contains %, which .* takes for an escape"),
    ],
)
def test_a_path_that_is_no_store_is_one_line(tmp_path: Path, path: str, message: str) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InputError, match=message):
        Store(path.format(file=file))
