"""Thirty builds in a row: ids stay where they are, and the end is what one cold build gives."""

from datetime import date, timedelta

import pytest

from din_model.config import load
from jobs.settings import Settings
from pipelines.build import build_day
from pipelines.dataset import Store
from pipelines.synthetic import generate
from pipelines.vocabulary import open_vocabulary
from tests.jobs.conftest import SMALL, demo, rows

FIRST, NIGHTS = date(2026, 11, 19), 30


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_nights_move_no_id_and_equal_one_cold_build(spark, tmp_path):
    settings = load(Settings, [demo(tmp_path)], [*SMALL, f"generate.days={NIGHTS}"])
    assert settings.generate is not None
    generate(spark, settings.generate)
    logs, store = settings.open("tests", FIRST)
    ids: dict[tuple[str, str], int] = {}
    for number in range(NIGHTS):
        day = FIRST + timedelta(days=number)
        build_day(logs, store, settings.build, settings.split, day)
        table = open_vocabulary(spark, store)[0].collect()
        now = {(row["vocabulary"], row["key"]): row["id"] for row in table}
        assert len(now) == len(table) and ids.items() <= now.items(), f"an id moved on {day}"
        ids = now
    cold = Store(str(tmp_path / "cold"))
    build_day(logs, cold, settings.build, settings.split, day)
    for name in ("examples", "state", "counts"):
        chained, rebuilt = store.require(name, day, ""), cold.require(name, day, "")
        assert rows(store.read(spark, [chained])) == rows(cold.read(spark, [rebuilt]))
    assert rows(open_vocabulary(spark, store)[0]) == rows(open_vocabulary(spark, cold)[0])
