"""A night waits for what it reads, counts only what Spark would read, and says what is missing."""

import io
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from pyspark.errors import AnalysisException

from din_model.config import build
from din_model.errors import InputError
from pipelines.ingest.sources import SourcesConfig
from pipelines.sensor import await_logs, lost_before
from pipelines.store.store import Store
from pipelines.training.gate import NightlyConfig

DAY = date(2026, 11, 22)
NEXT = DAY + timedelta(days=1)
NOW = NightlyConfig()
A_WHILE = NightlyConfig(wait="1h", poll="1ms")


def sources(root: Path, **others: object) -> SourcesConfig:
    paths = {"impressions": {"path": f"{root}/impressions/date={{date}}"}}
    return build(SourcesConfig, paths | {"behaviours": []} | others, "test")


def put(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}\n")


class Deliver(io.StringIO):
    """A terminal, and somebody who delivers as soon as it says that the night waits."""

    def __init__(self, deliver: Callable[[], None]) -> None:
        super().__init__()
        self.deliver = deliver

    def write(self, text: str) -> int:
        if "waiting" in text:
            self.deliver()
        return super().write(text)


def test_existing_logs_are_not_waited_for(spark, tmp_path, capsys):
    put(tmp_path / f"impressions/date={DAY}/part-0.json")
    await_logs(spark, sources(tmp_path), A_WHILE, DAY, built=False)
    assert capsys.readouterr().out == ""


def test_waiting_for_a_late_day_prints_one_line(spark, tmp_path, monkeypatch):
    folder = tmp_path / f"impressions/date={DAY}"
    said = Deliver(lambda: put(folder / "part-0.json"))
    monkeypatch.setattr(sys, "stdout", said)
    await_logs(spark, sources(tmp_path), A_WHILE, DAY, built=False)
    line = f"  waiting up to 1h: sources.impressions: no data for {DAY}: {folder} does not exist\n"
    assert said.getvalue() == line


def test_a_day_that_never_arrives_is_reported_with_path_date_and_wait(spark, tmp_path, capsys):
    path = re.escape(f"{tmp_path}/impressions/date={DAY}")
    config = NightlyConfig(wait="30ms", poll="1ms")
    message = (
        rf"^sources\.impressions: no data for {DAY}: {path} does not exist"
        r" after nightly\.wait of 30ms$"
    )
    with pytest.raises(InputError, match=message):
        await_logs(spark, sources(tmp_path), config, DAY, built=False)
    assert capsys.readouterr().out.count("\n") == 1, "one line, however often it looked"


def test_without_a_wait_a_missing_day_fails_at_once(spark, tmp_path, capsys):
    with pytest.raises(InputError, match=r"does not exist after nightly\.wait of 0s"):
        await_logs(spark, sources(tmp_path), NOW, DAY, built=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "file",
    [
        "part-0.json", "hour=03/part-0.json", "_hour=03/part-0.json",  # a day is there
        "", "empty/", "_SUCCESS", ".part-0.json.crc", "part-0.json._COPYING_",  # and is not
        "_temporary/0/task_1/part-0.json", ".staging/part-0.json",
    ],
)  # fmt: skip
def test_a_day_exists_once_spark_would_read_one_of_its_files(spark, tmp_path, file):
    folder = tmp_path / f"impressions/date={DAY}"
    folder.mkdir(parents=True)
    if file.endswith("/"):
        (folder / file).mkdir()
    elif file:
        put(folder / file)
    try:
        readable = bool(spark.read.text(str(folder)).inputFiles())
    except AnalysisException:
        readable = False
    try:
        await_logs(spark, sources(tmp_path), NOW, DAY, built=False)
        refused = None
    except InputError as error:
        refused = str(error)
    assert (refused is None) == readable
    assert refused is None or f"{folder} holds no file" in refused


def test_with_a_marker_a_folder_is_complete_once_it_holds_the_marker(spark, tmp_path, monkeypatch):
    folder = tmp_path / f"impressions/date={DAY}"
    put(folder / "part-0.json")
    with pytest.raises(InputError, match=f"date={DAY} has no _SUCCESS"):
        await_logs(spark, sources(tmp_path), NightlyConfig(marker="_SUCCESS"), DAY, built=False)
    said = Deliver(lambda: put(folder / "_SUCCESS"))
    monkeypatch.setattr(sys, "stdout", said)
    config = NightlyConfig(wait="1h", poll="1ms", marker="_SUCCESS")
    await_logs(spark, sources(tmp_path), config, DAY, built=False)
    assert "has no _SUCCESS" in said.getvalue()


def test_a_day_in_one_file_needs_no_folder_and_allows_no_marker(spark, tmp_path):
    config = sources(tmp_path, impressions={"path": f"{tmp_path}/{{date}}.json", "format": "json"})
    put(tmp_path / f"{DAY}.json")
    await_logs(spark, config, NOW, DAY, built=False)
    with pytest.raises(
        InputError, match=r"nightly\.marker: .* is one file per date, .* which cannot"
    ):
        await_logs(spark, config, NightlyConfig(wait="1h", marker="DONE"), DAY, built=False)


def test_a_pattern_is_complete_when_every_folder_it_matches_is(spark, tmp_path):
    config = sources(tmp_path, impressions={"path": f"{tmp_path}/*/{{date}}"})
    (tmp_path / f"west/{DAY}").mkdir(parents=True)
    put(tmp_path / f"east/{DAY}/part-0.json")
    with pytest.raises(InputError, match="holds no file"):
        await_logs(spark, config, NOW, DAY, built=False)
    put(tmp_path / f"west/{DAY}/part-0.json")
    await_logs(spark, config, NOW, DAY, built=False)


def test_each_dated_path_is_waited_for_on_its_own_date(spark, tmp_path, monkeypatch):
    dated = [("clicks", DAY), ("behaviours.0", DAY), ("items", DAY), ("candidates", NEXT)]
    where = {name: {"path": f"{tmp_path}/{name}/{{date}}"} for name, _ in dated}
    always = {"path": f"{tmp_path}/history"}
    behaviours = {"behaviours": [where.pop("behaviours.0"), always]}
    config = sources(tmp_path, **where, **behaviours)
    for name, day in [("impressions", DAY), *dated]:
        missing = rf"sources\.{re.escape(name)}: no data for {day}: .*{name}/.*{day} does not exist"
        with pytest.raises(InputError, match=missing):
            await_logs(spark, config, NOW, DAY, built=False)
        folder = f"date={day}" if name == "impressions" else str(day)
        put(tmp_path / name / folder / "part-0.json")
    await_logs(spark, config, NOW, DAY, built=False)


def test_a_built_date_waits_only_for_the_candidates_of_the_next(spark, tmp_path):
    config = sources(tmp_path, candidates={"path": f"{tmp_path}/candidates/{{date}}"})
    with pytest.raises(InputError, match=f"sources.candidates: no data for {NEXT}"):
        await_logs(spark, config, NOW, DAY, built=True)
    put(tmp_path / f"candidates/{NEXT}/part-0.json")
    await_logs(spark, config, NOW, DAY, built=True)


def test_catalog_tables_are_not_waited_for_and_the_night_says_so(spark, tmp_path, capsys):
    config = sources(tmp_path, impressions={"table": "db.shown", "query": "SELECT '{date}'"})
    await_logs(spark, config, A_WHILE, DAY, built=False)
    assert capsys.readouterr().out == "  not waiting for tables: sources.impressions\n"
    await_logs(spark, config, NOW, DAY, built=False)
    assert capsys.readouterr().out == ""


def test_a_path_may_hold_brackets_and_variables(spark, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIN_TEST_LOGS", str(tmp_path))
    config = sources(tmp_path, impressions={"path": "${DIN_TEST_LOGS}/[a-b]/{date}"})
    put(tmp_path / f"a/{DAY}/part-0.json")
    await_logs(spark, config, NOW, DAY, built=False)
    with pytest.raises(InputError, match="does not exist"):
        await_logs(spark, config, NightlyConfig(wait="5ms", poll="1ms"), NEXT, built=False)
    printed = capsys.readouterr().out
    assert f"${{DIN_TEST_LOGS}}/[a-b]/{NEXT}" in printed, "no markup, and no value of a variable"


@pytest.mark.parametrize("built", [[], [DAY - timedelta(days=3)]])
def test_a_date_without_a_log_before_one_with_a_log_is_passed_over_and_named(
    spark, tmp_path, capsys, built
):
    days = [DAY - timedelta(days=n) for n in range(5)]
    for day in (days[0], days[2], days[3]):
        put(tmp_path / f"impressions/date={day}/part-0.json")
    store = Store(f"{tmp_path}/store")
    for day in built:
        store.publish("state", day, None, {})
    place, window = sources(tmp_path), 2
    assert lost_before(spark, store, place, days[3], window, DAY) == (days[1],)
    line = f"{days[1]} is passed over: {tmp_path}/impressions/date={days[1]} does not exist, though"
    assert line in " ".join(capsys.readouterr().out.split())
    known = replace(place, lost_dates=(days[1],))
    assert lost_before(spark, store, known, days[3], window, DAY) == ()
    assert lost_before(spark, store, place, days[4], 4, DAY) == (days[4], days[1])


def test_no_date_is_passed_over_that_is_built_or_of_a_log_without_dates(spark, tmp_path):
    store = Store(f"{tmp_path}/store")
    for day in (DAY - timedelta(days=2), DAY - timedelta(days=1)):
        store.publish("state", day, None, {})
    assert lost_before(spark, store, sources(tmp_path), None, 2, DAY) == ()
    undated = sources(tmp_path, impressions={"path": f"{tmp_path}/log"})
    assert lost_before(spark, Store(f"{tmp_path}/other"), undated, None, 2, DAY) == ()
