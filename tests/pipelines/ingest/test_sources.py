"""Which dates the sources have, and where a day begins."""

from datetime import UTC, date, datetime

import pytest

from din_model.errors import InputError
from pipelines.ingest.sources import (
    BehaviourSource,
    Source,
    SourcesConfig,
    days_between,
    require_logs,
    start_of,
)

DAY, LOST = date(2026, 11, 20), date(2026, 11, 21)


def test_a_lost_date_cannot_be_built() -> None:
    log = Source(path="log.json", format="json")
    behaviours = (BehaviourSource(origin="impressions", label_delay="0s"),)
    sources = SourcesConfig(log, behaviours, lost_dates=(LOST,))
    require_logs(sources, DAY)
    with pytest.raises(InputError, match=r"2026-11-21 is in sources\.lost_dates.* run the next"):
        require_logs(sources, LOST)


def test_dates_between_include_both_ends() -> None:
    assert days_between(DAY, LOST) == [DAY, LOST]
    assert days_between(LOST, DAY) == []


def test_a_day_begins_at_midnight_of_its_zone() -> None:
    assert start_of(DAY, "UTC") == datetime(2026, 11, 20, tzinfo=UTC).timestamp() * 10**6
    assert start_of(DAY, "UTC") - start_of(DAY, "Asia/Kolkata") == 5.5 * 3600 * 10**6
