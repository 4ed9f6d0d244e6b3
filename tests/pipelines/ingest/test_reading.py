"""Files are read as they are written, whatever the day and the path."""

import pytest

from din_model.errors import InputError
from pipelines.ingest.reading import fingerprint, read
from tests.pipelines.ingest.files import DAY, put_table, source


def test_files_of_one_date_are_read_by_their_own_types_and_partitions(spark, tmp_path):
    put_table(tmp_path / f"{DAY}/country=NO/a.parquet", id=[1], clicked=[1])
    put_table(tmp_path / f"{DAY}/country=SE/a.parquet", id=[2.0], clicked=[True], more=["x"])
    raws = read(spark, source(tmp_path, format="parquet"), "impressions", [DAY])
    assert [dict(raw.rows.dtypes)["clicked"] for raw in raws] == ["bigint", "boolean"]
    found = [(int(r["id"]), r["country"]) for raw in raws for r in raw.rows.collect()]
    assert found == [(1, "NO"), (2, "SE")]


NAMES = ["a b#", "50%20", "v[2]", "{x}", "a*b\\", "country=New%20Zealand", "ü"]


def test_a_path_may_hold_any_character(spark, tmp_path):
    for name in NAMES:
        folder = tmp_path / name / str(DAY)
        put_table(folder / name / "a b.parquet", id=[1])
        log = source(tmp_path, path=f"{tmp_path}/{name}/{{date}}/{name}", format="parquet")
        (raw,) = read(spark, log, "impressions", [DAY])
        assert [row["id"] for row in raw.rows.collect()] == [1], name
        assert fingerprint(spark, [raw.rows])["files"] == 1


def test_files_of_other_types_may_have_any_name(spark, tmp_path):
    for i, name in enumerate(NAMES):
        put_table(tmp_path / f"{DAY}/{name}/{name}.parquet", **{"id": [i], f"c{i}": [0]})
    log = source(tmp_path, path=f"{tmp_path}/{DAY}/*", format="parquet")
    found = [row["id"] for raw in read(spark, log, "items", [DAY]) for row in raw.rows.collect()]
    assert sorted(found) == list(range(len(NAMES)))


def test_a_pattern_matches_its_files(spark, tmp_path):
    put_table(tmp_path / "east" / str(DAY) / "a.parquet", id=[1])
    put_table(tmp_path / "west" / str(DAY) / "a.parquet", id=[2.5])
    path = f"{tmp_path}/{{east,west}}/{{date}}"
    log = source(tmp_path, path=path, format="parquet")
    raws = read(spark, log, "impressions", [DAY])
    assert sorted(row["id"] for raw in raws for row in raw.rows.collect()) == [1, 2.5]


@pytest.mark.parametrize("path", ["/x/[y/{date}", "/x/{y/{date}", "nowhere://x/{date}", "a:b"])
def test_an_invalid_path_is_reported_in_one_line(spark, tmp_path, path):
    with pytest.raises(InputError, match="no such address or pattern") as error:
        read(spark, source(tmp_path, path=path), "impressions", [DAY])
    assert "\n" not in str(error.value)


def test_a_folder_without_files_is_a_missing_day(spark, tmp_path):
    (tmp_path / str(DAY)).mkdir()
    with pytest.raises(InputError, match=f"impressions: {tmp_path}/{DAY} holds no file"):
        read(spark, source(tmp_path), "impressions", [DAY])
