"""Which days a model is trained on, and that the day which judges it is none of them."""

from datetime import date

import pytest

from din_model.errors import InputError
from din_model.training.config import TrainConfig
from pipelines.examples.split import SplitConfig
from pipelines.store.manifest import Manifest
from pipelines.store.parquet import DataFile
from pipelines.store.store import Store
from pipelines.training.id_counts import IdCounts
from pipelines.training.training_set import (
    TrainingSet,
    hold_out,
    open_training_set,
    training_days,
)
from tests.din_model.conftest import small_spec

DAY = date(2026, 11, 22)
BY_DATE = SplitConfig()


def test_the_window_ends_the_day_before_the_one_that_judges():
    days = training_days(TrainConfig(window=3), BY_DATE, DAY, None)
    assert days == [date(2026, 11, 19), date(2026, 11, 20), date(2026, 11, 21)]


def test_the_window_begins_no_earlier_than_the_logs():
    days = training_days(TrainConfig(window=9), BY_DATE, DAY, date(2026, 11, 21))
    assert days == [date(2026, 11, 21)]


def test_earlier_days_take_the_place_of_lost_ones():
    lost = (date(2026, 11, 21), date(2026, 11, 19))
    days = training_days(TrainConfig(window=2), BY_DATE, DAY, None, lost)
    assert days == [date(2026, 11, 18), date(2026, 11, 20)]
    assert training_days(TrainConfig(window=2), BY_DATE, DAY, lost[0], lost) == []


def test_a_split_within_users_trains_and_judges_on_one_date():
    assert training_days(TrainConfig(window=3), SplitConfig(by="last_position"), DAY, None) == [DAY]


def test_a_window_without_days_and_a_day_that_is_not_built_name_the_way_out(tmp_path):
    store = Store(str(tmp_path))
    with pytest.raises(InputError, match="no day before 2026-11-22 to train on"):
        open_training_set(store, [], BY_DATE, DAY)
    with pytest.raises(InputError, match=r"2026-11-21: run jobs\.build_sequences for it"):
        open_training_set(store, [date(2026, 11, 21)], BY_DATE, DAY)


def day_of(files: int, day: str = "2026-11-20") -> Manifest:
    listed = tuple(DataFile(f"part-{n}", 10, 1, 1) for n in range(files))
    return Manifest("examples", day, "r", listed, {"sample_rate": 1.0})


def test_of_the_only_day_a_quarter_of_the_files_is_held_out(tmp_path):
    slices = hold_out(Store(str(tmp_path)), (day_of(9),))
    assert [m.rows for m in slices.training] == [70]
    assert slices.newest is not None
    assert [f.path for f in slices.newest.files] == ["part-7", "part-8"]
    assert slices.validation == slices.newest
    few = hold_out(Store(str(tmp_path)), (day_of(2),))
    assert ([m.rows for m in few.training], few.validation.rows) == ([10], 10)
    assert hold_out(Store(str(tmp_path)), (day_of(1),)) == ((day_of(1),), None, None)


def test_of_several_days_the_last_is_held_out(tmp_path):
    store = Store(str(tmp_path))
    manifest = store.publish("examples", date(2026, 11, 21), None, {"sample_rate": 1.0})
    slices = hold_out(store, (day_of(9), manifest))
    assert slices.training == (day_of(9),)
    assert slices.newest is not None
    assert slices.newest.date == "2026-11-21"
    assert slices.validation is not None
    assert slices.validation.date == "2026-11-21"


def test_a_new_item_has_no_older_rows_of_its_own_to_start_from(tmp_path):
    counts = IdCounts((), (), {"item": 9}, 0)
    training_set = TrainingSet(small_spec(), (), None, None, None, {}, counts, 0.1, "")
    with pytest.raises(InputError, match=r"new_item_init_from: 'item' is the item itself"):
        training_set.values_of_items(Store(str(tmp_path)), "item")
