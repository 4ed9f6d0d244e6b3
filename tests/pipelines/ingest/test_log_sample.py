"""Rows of a log are sampled, and its files, format and dates are found."""

from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest

from din_model.errors import InputError
from pipelines.ingest import log_sample
from pipelines.ingest.log_sample import sample_log, sample_logs
from pipelines.ingest.proposal import propose
from tests.pipelines.ingest.test_proposal import DAY, ROWS, log


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet", "csv.gz"])
@pytest.mark.parametrize(("ends_at", "last"), [(3, 28), (20, 29)])
def test_the_last_date_is_the_newest_one_that_reaches_noon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, ends_at: int, last: int
) -> None:
    monkeypatch.setattr(log_sample, "ROWS", 120)
    path = tmp_path / f"log.{suffix}"
    times = pd.date_range(DAY, DAY + timedelta(days=9, hours=ends_at), periods=ROWS)
    frame = log().assign(shown_at=times.floor("s"))
    if suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "json":
        frame.to_json(path, orient="records", lines=True, date_format="iso")
    else:
        frame.to_csv(path, index=False)
    sample = sample_log(str(path))
    time = propose(sample, [], {}).time
    assert time.first == DAY.date()
    assert len(sample.rows.to_pandas().drop_duplicates()) == len(sample.rows), "no row twice"
    if suffix != "csv.gz":  # whose end nobody reads
        assert time.last == date(2026, 11, last)


def test_files_that_a_shell_passes_are_one_log(tmp_path: Path) -> None:
    frame, folder = log(), tmp_path / "logs"
    folder.mkdir()
    for hour in range(3):
        frame[hour::3].to_csv(folder / f"hour-{hour}.csv", index=False)
    frame[:0].to_csv(folder / "hour-3.csv", index=False)
    items = pd.DataFrame({"article_id": frame["article_id"].unique(), "brand": "b"})
    items.to_csv(folder / "items.csv", index=False)
    (folder / "hour-4.csv").touch()
    files = [str(folder / f"hour-{hour}.csv") for hour in (4, 3, 0, 1, 2)]
    found, table = sample_logs([*files, str(folder / "items.csv")])
    assert found.path == f"{folder}/hour-*.csv"
    assert len(found.rows) > ROWS / 2  # of the first, middle and last file
    assert table.path == f"{folder}/items.csv"
    with pytest.raises(InputError, match=r"hour-3.csv and 1 others .* one log: .*hour-\*.csv\)"):
        sample_logs(files[:3])


def test_folders_that_a_shell_passes_are_one_log(tmp_path: Path) -> None:
    for day in ("2026-11-20", "2026-11-21"):
        (tmp_path / f"date={day}").mkdir()
        log().to_csv(tmp_path / f"date={day}" / "part.csv", index=False)
    (found,) = sample_logs([str(path) for path in tmp_path.iterdir()])
    assert found.path == f"{tmp_path}/date={{date}}"


@pytest.mark.parametrize("pattern", ["*", "*.csv", "2026*"])
def test_a_pattern_of_files_by_date_becomes_a_path_with_the_date(
    tmp_path: Path, pattern: str
) -> None:
    for day in ("2026-11-20", "2026-11-21"):
        log().to_csv(tmp_path / f"{day}.csv", index=False)
    found = sample_log(f"{tmp_path}/{pattern}")
    assert found.path == f"{tmp_path}/{{date}}.csv"
    assert found.dates == ("2026-11-20", "2026-11-21")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no file found"),
        ({"a.xls": "x"}, "xls found"),
        ({"a.csv": "x", "b.json": "{}"}, "csv, json found"),
        ({"a.parquet": "no"}, "cannot be read as parquet"),
    ],
)
def test_a_log_that_cannot_be_read_is_one_line(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        sample_log(str(tmp_path))


def test_csv_without_a_header_is_read_by_position(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log().to_csv(path, index=False, header=False, sep="|")
    sample = sample_log(str(path))
    assert sample.options == {"sep": "|"}
    assert sample.rows.column_names[:2] == ["f0", "f1"]
    assert len(sample.rows) == ROWS
