"""Counters and histories as scoring attaches them, against those of the examples."""

import json
import shutil
from datetime import timedelta

import pytest

from din_model.errors import InputError
from pipelines.ingest.logs import Logs
from pipelines.scoring.skew_check import replay
from pipelines.store.store import Store
from tests.nights import NIGHTS

LAST, BEFORE = NIGHTS[-1], NIGHTS[-1] - timedelta(days=1)


@pytest.fixture
def logs(nights) -> Logs:
    settings, _, _ = nights
    return settings.open("tests", LAST)[0]


@pytest.fixture
def copy(nights, tmp_path) -> Store:
    """A store of the test's own, without runs and models."""
    _, store, _ = nights
    ignored = shutil.ignore_patterns("mlflow.db*", "mlartifacts")
    return Store(str(shutil.copytree(store.base, tmp_path / "store", ignore=ignored)))


def publish(logs: Logs, store: Store, name: str, day, rows: int | None = None, **facts) -> None:
    """Publish a data set of a date again, cut to its first rows and with other facts."""
    manifest = store.require(name, day, "")
    frame = store.read(logs.spark, [manifest])
    store.publish(name, day, frame if rows is None else frame.limit(rows), manifest.facts | facts)


def test_scoring_attaches_what_the_examples_hold(nights, logs):
    _, store, _ = nights
    assert replay(logs, store, LAST) == store.require("examples", LAST, "").rows > 0


@pytest.mark.parametrize("name", ["state", "counters"])
def test_other_histories_or_counters_are_an_error_with_their_number(logs, copy, name):
    publish(logs, copy, name, BEFORE, rows=0)
    with pytest.raises(InputError, match=r": [1-9]\d* of \d+ rows have other counters or hist"):
        replay(logs, copy, LAST)


def test_a_missing_example_is_an_error(logs, copy):
    publish(logs, copy, "examples", LAST, rows=copy.require("examples", LAST, "").rows - 1)
    with pytest.raises(InputError, match=r": 1 of \d+ rows have other"):
        replay(logs, copy, LAST)


def test_histories_of_another_cutoff_are_refused(logs, copy):
    spec = json.loads(copy.require("examples", LAST, "").facts["spec"]) | {"cutoff": "impression"}
    publish(logs, copy, "examples", LAST, spec=json.dumps(spec))
    with pytest.raises(InputError, match=r"needs history\.cutoff: day"):
        replay(logs, copy, LAST)
