"""Settings that nothing can work with are refused when the configuration is read."""

import typing
from typing import Any

import pytest

from din_model.config import load
from din_model.errors import InputError
from docs.configuration import sections
from jobs.cli import Settings
from tests.nights import DEMO

REFUSED = [
    "train.batch_size=0", "train.batch_size=4294967296", "train.window=-1", "train.window=99999",
    "train.epochs=0", "train.learning_rate=0", "train.learning_rate=inf", "train.oov_dropout=1.5",
    "train.embedding_learning_rate=-1", "train.patience=-1", "train.seed=-1", "train.min_count=-1",
    "train.model.tower=[80, 0]", "train.model.init_std=-1", "train.model.wide=-2",
    "launch.ranks=0", "launch.restarts=-1", "build.shards=0", "build.rows_per_file=0",
    "build.sample_rate=0", "build.max_broken=2", "build.negatives={per_positive: 0}",
    "build.negatives={base_rate: 1}", "build.quality.limits={rows: [5, 1]}",
    "build.quality.limits={rows: [nan, 3]}", "build.quality.change={rows: 0.5}",
    "split.skip_first=-1", "features.dimension=0", "features.columns.category.dimension=-1",
    "features.counters={x: {keys: [user_id], windows: [36h]}}",
    "features.counters={x: {keys: [user_id], windows: [0d]}}",
    "history.length=0", "history.kinds.clicks.lag=-5m", "history.since=0001-01-01",
    "sources.attribution_window=30", "sources.lost_dates=[2026-02-30]",
    "score.top=0", "score.explain=-1", "score.guards.max_calibration=0",
    "score.guards.min_clicks=0", "score.guards.max_unknown_items=95", "candidates={popular: -1}",
    "candidates={new: 1, new_days: 0}", "nightly.confidence=95", "nightly.confidence=1",
    "nightly.resamples=0", "nightly.min_users=0", "nightly.min_gain=nan", "nightly.wait=tonight",
    "nightly.poll=0s", "nightly.poll=-1s", "store.keep=7", "store.keep=99999999999999999999d",
    "store.path=''", "nightly.marker=''", "compare.seeds=[]", "compare.match=0",
    "date=2026-02-30", "date=9999-12-31", "date=20261102", "date=0", "generate.days=0",
    "generate.users=0", "generate.base_rate=0", "generate.broken=1.5", "generate.seed=-1",
]  # fmt: skip


@pytest.mark.parametrize("word", REFUSED)
def test_a_setting_out_of_range_is_one_line_that_names_it(word):
    with pytest.raises(InputError) as caught:
        load(Settings, [str(DEMO)], [word])
    key = word.partition("=")[0]
    assert f"'{key}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_ends_of_a_range_are_allowed():
    words = ["train.oov_dropout=1", "build.max_broken=0", "score.guards.max_drift=0"]
    words += ["train.min_steps=0", "history.kinds.clicks.lag=0s", "date=1970-01-01"]
    words += ["sources.impressions.options={quote: ''}", "erase.users=['']"]
    settings = load(Settings, [str(DEMO)], words)
    assert (settings.train.oov_dropout, settings.build.max_broken) == (1, 0)
    assert settings.sources.impressions.options == {"quote": ""}


def numbers_without_range(kind: Any) -> bool:
    args = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Annotated or str in args:  # a text or a number
        return False
    return kind in (int, float) or any(map(numbers_without_range, args))


def test_every_number_of_the_configuration_has_a_range():
    free = [
        f"{section.__name__}.{name}"
        for section in sections()
        for name, kind in typing.get_type_hints(section, include_extras=True).items()
        if numbers_without_range(kind)
    ]
    assert free == ["ColumnConfig.serving_default"], "a value of the log, not a setting"
