"""Broken rows are published with their reason; too many of them stop the job."""

from datetime import date

import pytest

from din_model.errors import InputError
from pipelines.ingest.quarantine import good, quarantine, quarantined, reasons
from pipelines.store.store import Store

DAY = date(2026, 11, 20)


@pytest.fixture
def marked(spark):
    rows = [(n, None, None) for n in range(8)]
    rows += [(8, "malformed", "{"), (9, "repeated impression", "{}")]
    return spark.createDataFrame(rows, "id int, reason string, raw string")


def test_rows_are_counted_by_reason(marked):
    funnel = reasons(marked)
    assert funnel == {"good": 8, "malformed": 1, "repeated impression": 1}
    assert good(marked).columns == ["id"]
    assert good(marked).count() == 8
    assert quarantined({"impressions": funnel}) == "2 quarantined"
    assert quarantined({"impressions": {"good": 8}}) == ""


def test_broken_rows_are_published_with_source_reason_and_text(spark, marked, tmp_path):
    store, funnel = Store(str(tmp_path)), {"impressions": reasons(marked)}
    quarantine(store, DAY, {"impressions": marked}, funnel, limit=0.1)
    manifest = store.require("quarantine", DAY, "")
    rows = sorted(map(tuple, store.read(spark, [manifest]).collect()))
    assert rows == [("impressions", "malformed", "{"), ("impressions", "repeated impression", "{}")]
    assert manifest.facts == {"funnel": funnel}


def test_repeats_do_not_count_as_broken_and_the_limit_is_a_share(marked, tmp_path):
    store, funnel = Store(str(tmp_path)), {"impressions": reasons(marked)}
    with pytest.raises(InputError, match=r"1 of 10 rows of 2026-11-20 are broken, mostly 'malf"):
        quarantine(store, DAY, {"impressions": marked}, funnel, limit=0.09)


def test_a_day_whose_impressions_are_all_broken_is_not_called_empty(marked, tmp_path):
    funnel = {"impressions": {"malformed": 2}}
    with pytest.raises(InputError, match=r"2 of 2 rows of 2026-11-20 are broken, mostly 'malf"):
        quarantine(Store(str(tmp_path)), DAY, {"impressions": marked}, funnel, limit=1.0)


def test_a_day_without_a_good_impression_is_an_error(marked, tmp_path):
    broken = marked.where("reason is not null")
    with pytest.raises(InputError, match="no impressions on 2026-11-20"):
        quarantine(
            Store(str(tmp_path)), DAY, {"impressions": broken},
            {"impressions": {"repeated impression": 1}}, limit=1.0,
        )  # fmt: skip
