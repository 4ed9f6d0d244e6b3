"""A day whose numbers are out of bounds is not published, and says which number."""

import json
from datetime import timedelta

import pytest

from din_model.errors import InputError
from pipelines.examples.build import build_day
from pipelines.examples.data_quality import QualityConfig
from pipelines.examples.publish import BuildConfig
from pipelines.examples.split import SplitConfig
from pipelines.store.store import Store
from tests.pipelines.examples.test_build import DAY, impressions, logs_of

NEXT = DAY + timedelta(days=1)
BY_DATE = SplitConfig()


def config(**quality) -> BuildConfig:
    return BuildConfig(shards=1, quality=QualityConfig(**quality))


def two_days(first: list, second: list) -> list:
    later = [row | {"id": f"n{row['id']}", "at": f"{NEXT} 12:00:00"} for row in second]
    return [*first, *later]


def test_the_numbers_of_a_day_are_those_counted_by_hand(spark, tmp_path):
    first, second = impressions(80), impressions(40)
    second[0]["item"] = 5  # new that day
    second = [row | {"clicked": int(n < 10)} for n, row in enumerate(second)]
    logs = logs_of(spark, tmp_path, [*two_days(first, second), first[0]])
    store, told = Store(str(tmp_path / "store")), []
    build_day(logs, store, config(change={}), BY_DATE, DAY)
    manifest = build_day(logs, store, config(change={}), BY_DATE, NEXT, told.append)
    numbers = manifest.facts["quality"]
    clicked = sum(row["clicked"] for row in first)
    assert numbers["rows"] == 40
    assert numbers["label_rate"] == 0.25
    assert (numbers["first_hour"], numbers["last_hour"], numbers["null.user"]) == (12, 12, 0)
    assert numbers["unknown.item"] == 1 / 40
    assert numbers["unknown.user"] == 0
    assert numbers["vocabulary.item.new"] == 1
    assert numbers["vocabulary.item.size"] == 18
    # All forty are user u0's, who clicked eight of forty the day before: five are kept.
    assert clicked == 16
    assert numbers["history.clicks.p50"] == 5
    assert numbers["history.clicks.empty"] == 0
    assert told[-1] == numbers
    before = store.require("examples", DAY, "").facts["quality"]
    assert before["repeated"] == 1 / 81
    assert before["history.clicks.empty"] == 1
    json.dumps(numbers)


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        ({"limits": {"label_rate": (0.3, None)}}, r"label_rate is 0\.2, outside .*\[0\.3, -\]"),
        ({"limits": {"history.clicks.p90": (1, None)}}, r"history\.clicks\.p90 is 0, outside"),
        ({"limits": {"null.itme": (None, 0)}}, r"limits: no number 'null\.itme'; did you mean"),
    ],
)
def test_a_number_out_of_bounds_publishes_nothing(spark, tmp_path, quality, message):
    logs, store = logs_of(spark, tmp_path, impressions(40)), Store(str(tmp_path / "store"))
    with pytest.raises(InputError, match=message):
        build_day(logs, store, config(**quality), BY_DATE, DAY)
    assert store.dates("examples") == store.dates("state") == store.dates("counts") == []


def test_a_day_unlike_the_last_one_is_held_back_and_the_last_one_stands(spark, tmp_path):
    dead = [row | {"clicked": 0} for row in impressions(40)]
    logs = logs_of(spark, tmp_path, two_days(impressions(40), dead))
    store = Store(str(tmp_path / "store"))
    before = build_day(logs, store, config(), BY_DATE, DAY)
    with pytest.raises(InputError, match=r"label_rate is 0, but was 0\.2 on 2026-11-20"):
        build_day(logs, store, config(), BY_DATE, NEXT)
    assert store.dates("examples") == store.dates("state") == store.dates("vocabulary") == [DAY]
    assert store.manifest("examples", DAY) == before
    assert build_day(logs, store, config(change={}), BY_DATE, NEXT).rows == 40


def test_only_one_job_builds_in_a_store(spark, tmp_path):
    logs, store = logs_of(spark, tmp_path, impressions(40)), Store(str(tmp_path / "store"))
    with store.sole_writer(), pytest.raises(InputError, match="another job is building"):
        build_day(logs, store, config(), BY_DATE, DAY)
    assert build_day(logs, store, config(), BY_DATE, DAY).rows == 40


def test_a_lock_on_an_object_store_is_a_file_that_one_job_makes(tmp_path):
    store = Store("memory://locked")
    message, other = r"remove .*\.writer\.lock", Store("memory://locked")
    with store.sole_writer(), pytest.raises(InputError, match=message), other.sole_writer():
        pass
    with store.sole_writer():
        assert store.fs.exists(f"{store.base}/.writer.lock")
    assert not store.fs.exists(f"{store.base}/.writer.lock")
