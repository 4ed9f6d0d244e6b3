"""A check shows what a configuration makes of a log, and warns of what often goes wrong."""

import gzip
from dataclasses import replace
from datetime import timedelta

import pytest

from din_model.console import console
from din_model.errors import InputError
from pipelines.ingest.sources import Source
from pipelines.reports.log_check import check_logs
from pipelines.reports.log_warnings import CheckConfig
from pipelines.spec import ColumnConfig, HistoryConfig, KindConfig, feature_spec
from tests.pipelines.examples.test_build import DAY, FEATURES, NEXT, impressions, logs_of

CONFIG = CheckConfig(batch_size=10, min_users=5, max_broken=0.01)


def at(day, rows):
    return [
        row | {"id": f"{day} {row['id']}", "at": row["at"].replace(str(DAY), str(day))}
        for row in rows
    ]


@pytest.fixture
def logs(spark, tmp_path):
    """A day of 401 impressions after a day of 401."""
    return logs_of(spark, tmp_path, [*impressions(), *at(NEXT, impressions())])


def test_a_sound_log_has_its_rows_history_and_baselines_shown(logs, capsys):
    assert check_logs(logs, CONFIG, NEXT) == []
    out = capsys.readouterr().out
    assert "401 good impressions, 81 clicked (20.20%)" in out
    assert "11 of 11 users have behaviours before 2026-11-21" in out
    assert "2026-11-21 00:00:00" in out
    assert "9007199254740992" in out
    assert "baselines of the gate: popularity (by training days), base rate" in out


def test_a_table_wider_than_the_terminal_says_which_columns_it_shows(logs, capsys, monkeypatch):
    monkeypatch.setattr(console, "width", 50)
    check_logs(logs, CONFIG, NEXT)
    out = capsys.readouterr().out
    assert "The first 20 typed rows, columns 1 to 1 of 2" in out
    assert "The first 20 typed rows, columns 2 to 2 of 2" in out


def test_every_shape_that_cannot_work_well_is_warned_of(spark, tmp_path, capsys):
    rows = [row | {"clicked": 0} for row in impressions(40)]
    broken = [row | {"user": None} for row in at("2026-11-20", impressions(1))]
    logs = logs_of(spark, tmp_path, [*rows, *broken])
    columns = FEATURES.columns | {"id": ColumnConfig(side="context", serving_default="x")}
    history = HistoryConfig({"clicks": KindConfig({"item": "item"})}, "day", length=5)
    spec = feature_spec(replace(FEATURES, columns=columns, key=()), history)
    warnings = " | ".join(check_logs(replace(logs, spec=spec), CONFIG, DAY))
    for words in (
        "2.4% of the rows are broken",
        "features.key is not set",
        "no impression is clicked",
        "a day makes 4 training steps of 10 rows",
        "100% of the users have no behaviour before 2026-11-20",
    ):
        assert words in warnings
    assert "user is missing or of the wrong type" in capsys.readouterr().out


def test_a_column_without_values_is_named(spark, tmp_path):
    rows = [row | {"item": None} if n % 4 else row for n, row in enumerate(impressions(80))]
    columns = FEATURES.columns | {"shelf": ColumnConfig(side="item")}
    history = HistoryConfig({"clicks": KindConfig({"item": "item"})}, "day", length=5)
    logs = logs_of(spark, tmp_path, [row | {"item": 7} for row in rows])
    source = replace(
        logs.sources.impressions, query="select *, if(id = 'i0', 'a', null) shelf from raw"
    )
    spec = feature_spec(replace(FEATURES, columns=columns), history)
    logs = replace(logs, spec=spec, sources=replace(logs.sources, impressions=source))
    assert any("99% of shelf are missing" in each for each in check_logs(logs, CONFIG, DAY))


def test_candidates_that_a_day_did_not_show_are_counted(logs, tmp_path, capsys):
    table = logs.spark.createDataFrame([("u1", 1), ("u1", 2**53)], "user string, item bigint")
    table.write.parquet(str(tmp_path / "candidates"))
    source = Source(path=str(tmp_path / "candidates"))
    logs = replace(logs, sources=replace(logs.sources, candidates=source))
    warnings = check_logs(logs, CONFIG, NEXT)
    assert "2 candidates for 2026-11-22, of 1 users; 50% have an item" in capsys.readouterr().out
    assert len(warnings) == 1
    assert warnings[0].startswith("50% of the candidates have items that 2026-11-21 did not show")


def test_candidates_that_are_cut_off_are_named(logs, tmp_path):
    text = "user,item\n" + "".join(f"u{n},{n * 7919 % 10007}\n" for n in range(5000))
    whole = gzip.compress(text.encode())
    (tmp_path / "c.csv.gz").write_bytes(whole[: len(whole) // 2])
    source = Source(
        path=f"{tmp_path}/c.csv.gz", format="csv", options={"header": "true"},
        schema="user string, item bigint",
    )  # fmt: skip
    logs = replace(logs, sources=replace(logs.sources, candidates=source))
    [warning] = check_logs(logs, CONFIG, NEXT)
    assert warning.startswith("no candidates for 2026-11-22: ")
    assert f"{tmp_path}/c.csv.gz: cannot be read" in warning


def test_what_a_build_refuses_is_refused(logs):
    logs = replace(logs, spec=replace(logs.spec, label="bought"))
    with pytest.raises(InputError, match="no column 'bought'"):
        check_logs(logs, CONFIG, NEXT)


def test_a_date_without_impressions_is_said(logs):
    later = NEXT + timedelta(days=3)
    assert any(f"no impressions on {later}" in each for each in check_logs(logs, CONFIG, later))
