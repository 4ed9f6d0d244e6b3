"""The checks and derived settings of the section train."""

import pytest

from din_model.training.config import TrainConfig


@pytest.mark.parametrize(("settings", "message"), [
    ({"schedule": "plateau", "patience": 0}, "plateau needs a validation day: set patience"),
    ({"embedding_engine": "sharded"}, "support embedding_optimizer adagrad and sgd, not adam"),
    (
        {"embedding_engine": "sharded", "embedding_optimizer": "sgd", "regularisation": 0.1},
        "sharded tables do not support regularisation: set it to 0",
    ),
])  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize(("tables", "expected"), [(None, 0.001), (0.02, 0.02), (0.0, 0.0)])
def test_tables_use_the_dense_learning_rate_unless_they_have_their_own(tables, expected):
    config = TrainConfig(learning_rate=0.001, embedding_learning_rate=tables)
    assert config.rows_rate == expected


def test_one_process_shards_nothing():
    config = TrainConfig(embedding_engine="sharded", embedding_optimizer="sgd")
    assert config.sharding is None
