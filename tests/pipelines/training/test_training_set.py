"""Which days a model is trained on, and that the day which judges it is none of them."""

from datetime import date

import pytest

from din_model.errors import InputError
from din_model.training.config import TrainConfig
from pipelines.examples.split import SplitConfig
from pipelines.store.store import Store
from pipelines.training.training_set import open_training_set, training_days

DAY = date(2026, 11, 22)
BY_DATE = SplitConfig()


def test_the_window_ends_the_day_before_the_one_that_judges():
    days = training_days(TrainConfig(window=3), BY_DATE, DAY, None)
    assert days == [date(2026, 11, 19), date(2026, 11, 20), date(2026, 11, 21)]


def test_the_window_begins_no_earlier_than_the_logs():
    days = training_days(TrainConfig(window=9), BY_DATE, DAY, date(2026, 11, 21))
    assert days == [date(2026, 11, 21)]


def test_a_split_within_users_trains_and_judges_on_one_date():
    assert training_days(TrainConfig(window=3), SplitConfig(by="last_position"), DAY, None) == [DAY]


def test_a_window_without_days_and_a_day_that_is_not_built_name_the_way_out(tmp_path):
    store = Store(str(tmp_path))
    with pytest.raises(InputError, match="no day before 2026-11-22 to train on"):
        open_training_set(store, [], BY_DATE, DAY)
    with pytest.raises(InputError, match=r"2026-11-21: run jobs\.build_sequences for it"):
        open_training_set(store, [date(2026, 11, 21)], BY_DATE, DAY)


@pytest.mark.parametrize("split", [BY_DATE, SplitConfig(by="last_position")])
def test_patience_needs_a_day_to_stop_by(tmp_path, split):
    with pytest.raises(InputError, match=r"train\.patience holds the last training day out"):
        open_training_set(Store(str(tmp_path)), [date(2026, 11, 21)], split, DAY, patience=2)
