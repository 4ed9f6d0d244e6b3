"""Readers see one published run a date: the old one or the new one, never a part of either."""

import json
import shutil
from datetime import date, datetime, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from din_model.errors import InputError
from pipelines.store.store import Manifest, Store

DAY, NEXT = date(2026, 11, 19), date(2026, 11, 20)


def rows(spark: SparkSession, first: int, count: int) -> DataFrame:
    return spark.range(first, first + count, 1, 3)


def plainly(spark: SparkSession, root: Path) -> list[int]:
    """What somebody sees who knows of no manifest."""
    return sorted(row["id"] for row in spark.read.parquet(str(root / "numbers")).collect())


def test_a_lock_on_an_object_store_is_a_file_that_one_job_makes(tmp_path):
    store = Store("memory://locked")
    message, other = r"remove .*\.writer\.lock", Store("memory://locked")
    with store.sole_writer(), pytest.raises(InputError, match=message), other.sole_writer():
        pass
    with store.sole_writer():
        assert store.fs.exists(f"{store.base}/.writer.lock")
    assert not store.fs.exists(f"{store.base}/.writer.lock")


def test_a_plain_read_sees_one_run_a_date_and_publishing_again_replaces_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    first = store.publish("numbers", DAY, rows(spark, 0, 10), {})
    other = store.publish("numbers", NEXT, rows(spark, 100, 5), {})
    assert plainly(spark, tmp_path) == [*range(10), *range(100, 105)]

    second = store.publish("numbers", DAY, rows(spark, 50, 7), {"why": "again"})
    assert plainly(spark, tmp_path) == [*range(50, 57), *range(100, 105)]
    assert first.id != second.id
    assert store.dates("numbers") == [DAY, NEXT]
    assert store.manifests("numbers") == [second, other]
    assert store.read(spark, [second]).count() == 7
    assert len(list((tmp_path / "numbers" / f"date={DAY}").glob("run=*"))) == 1


def test_a_manifest_tells_rows_and_sizes_of_its_files(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    written = store.publish("numbers", DAY, rows(spark, 0, 10), {"spec_hash": "abc"})
    found = store.manifest("numbers", DAY)
    assert found == written
    assert found.facts == {"spec_hash": "abc"}
    assert (found.rows, sorted(file.rows for file in found.files)) == (10, [3, 3, 4])
    for file, url in zip(found.files, store.urls(found), strict=True):
        path = Path(url.removeprefix("file://"))
        footer = pq.ParquetFile(path).metadata
        assert (file.bytes, file.rows) == (path.stat().st_size, footer.num_rows)
        assert file.row_groups == footer.num_row_groups == 1
    on_disk = json.loads((tmp_path / "numbers" / f"date={DAY}" / "_manifest.json").read_text())
    assert (on_disk["rows"], on_disk["bytes"]) == (10, sum(file.bytes for file in found.files))


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
    assert plainly(spark, tmp_path) == list(range(10))
    runs = [p.name for p in (tmp_path / "numbers").glob("date=*/*run=*")]
    assert runs == [f"run={before.run}"]


def test_a_job_that_dies_while_writing_leaves_nothing_visible(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    before = store.publish("numbers", DAY, rows(spark, 0, 10), {})
    broken = spark.range(4).selectExpr("if(id = 3, raise_error('disk'), id) as id")
    with pytest.raises(Exception, match="disk"):
        store.publish("numbers", DAY, broken, {})
    assert store.manifest("numbers", DAY) == before
    assert plainly(spark, tmp_path) == list(range(10))


def test_a_run_without_rows_keeps_its_schema(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    empty = store.publish("numbers", DAY, rows(spark, 0, 10).where("id < 0"), {})
    assert (empty.rows, store.read(spark, [empty]).columns) == (0, ["id"])
    record = store.publish("facts", DAY, None, {"rate": 0.5})
    assert store.manifest("facts", DAY) == record
    assert record.files == ()


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null", '{"format_version": 1}', "\x00"])
def test_an_unreadable_manifest_is_an_input_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "numbers" / f"date={DAY}" / "_manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InputError, match=r"_manifest\.json.*not a manifest.*build the date again"):
        Store(str(tmp_path)).manifest("numbers", DAY)


def test_a_manifest_of_another_format_says_which(tmp_path: Path) -> None:
    path = tmp_path / "numbers" / f"date={DAY}" / "_manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"format_version": 99}')
    with pytest.raises(InputError, match="format version 99, but this release reads 1"):
        Store(str(tmp_path)).manifest("numbers", DAY)


def test_a_required_date_that_is_not_there_names_the_way_out(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert store.manifest("numbers", DAY) is None
    with pytest.raises(
        InputError, match="numbers: nothing is published for 2026-11-19: run the job"
    ):
        store.require("numbers", DAY, "run the job")


def test_pruning_removes_superseded_runs_of_their_age_and_nothing_published(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    store.publish("numbers", DAY, rows(spark, 0, 10), {})
    store.publish("numbers", DAY, rows(spark, 50, 7), {})
    killed = tmp_path / "numbers" / f"date={NEXT}" / ".run=20200101T000000-abcdef"
    killed.mkdir(parents=True)
    hidden = tmp_path.glob("numbers/date=*/.run=*")
    assert len(list(hidden)) == 2
    assert store.prune(datetime(2021, 1, 1, tzinfo=timezone.utc)) == 1
    assert not killed.exists()
    assert store.prune(datetime(2100, 1, 1, tzinfo=timezone.utc)) == 1
    assert list(tmp_path.glob("numbers/date=*/.run=*")) == []
    assert plainly(spark, tmp_path) == [*range(50, 57)]


def test_a_copied_date_is_no_date_and_a_copied_run_is_no_run(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    store.publish("numbers", DAY, rows(spark, 0, 3), {})
    folder = tmp_path / "numbers" / f"date={DAY}"
    shutil.copytree(folder, f"{folder}.bak")
    shutil.copytree(folder, f"{folder} copy/date=2026-11-20")
    (folder / ".run=backup").mkdir()
    (folder / "run=of-mine").mkdir()
    assert store.dates("numbers") == [DAY]
    store.publish("numbers", DAY, rows(spark, 0, 3), {})
    assert store.prune(datetime(2100, 1, 1, tzinfo=timezone.utc)) == 1
    assert (folder / ".run=backup").exists()
    assert (folder / "run=of-mine").exists()
    assert Path(f"{folder}.bak").exists()


@pytest.mark.parametrize("name", ["a[b]{c,d}*?", "date=2020-01-01", "a\\b #%20 €"])
def test_every_character_of_the_path_stands_for_itself(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    store = Store(str(tmp_path / name))
    written = store.publish("numbers", DAY, rows(spark, 0, 3), {})
    assert store.dates("numbers") == [DAY]
    assert store.read(spark, [written]).count() == 3
    seen: list[int] = []

    def check(manifest: Manifest) -> None:
        seen.append(store.read_hidden(spark, manifest).count())

    store.publish("numbers", DAY, rows(spark, 5, 2), {}, check)
    assert seen == [2]
    assert store.prune(datetime(2100, 1, 1, tzinfo=timezone.utc)) == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [("foo://x", "store.path: foo://x cannot be opened"), ("{file}", "is a file: name a folder")],
)
def test_a_path_that_is_no_store_is_one_line(tmp_path: Path, path: str, message: str) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InputError, match=message):
        Store(path.format(file=file))
