"""Random features of all kinds with degenerate values: a night ends complete, or with one line."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from din_model.config import build
from jobs import build_sequences, nightly, score, train
from jobs.cli import Settings
from pipelines.failures import one_line
from pipelines.store.data_sets import EXAMPLES, HOLDOUT, SCORES
from pipelines.store.store import Store
from tests.fuzz import profile, require_one_line
from tests.odd_nights import DAYS, NEXT, OddNight, odd_night


def run(odd: OddNight, folder: Path) -> str:
    """Run the night; return the line that refuses it, or an empty text."""
    name = folder.name
    data = odd.write(folder) | {
        "tracking": {"model": name, "uri": f"sqlite:///{folder.parent}/mlflow.db"}
    }
    try:
        settings = build(Settings, data, "drawn")
        if settings.history.cutoff == "day" and settings.split.by == "date":
            nightly.run(settings, DAYS[-1])
        else:
            step_by_step(settings)
    except Exception as error:
        require_one_line(error)
        return str(one_line(error))
    require_complete(settings, odd)
    return ""


def step_by_step(settings: Settings) -> None:
    """Run the jobs of what no night does: other splits, and a cutoff at each impression."""
    dates = replace(settings.build, first=DAYS[0])
    build_sequences.run(replace(settings, build=dates), DAYS[-1])
    train.run(settings, DAYS[-1])
    score.run(replace(settings, score=replace(settings.score, model="1")), NEXT)


def require_complete(settings: Settings, odd: OddNight) -> None:
    """Every impression is an example or broken, and every good candidate has a score."""
    store = Store(settings.store.path)
    drawn = settings.build.negatives.per_positive if settings.build.negatives else 0
    by_date = settings.split.by == "date"
    for day in DAYS if by_date else DAYS[-1:]:
        name = EXAMPLES if settings.build.sample_rate == 1 else HOLDOUT
        manifest = store.require(name, day, "")
        reasons = manifest.facts["funnel"]["impressions"]
        dates = [day] if by_date else DAYS
        rows = sum(len(odd.tables[f"impressions/{date}"]) for date in dates)
        assert sum(reasons.values()) == rows
        assert not by_date or manifest.rows == reasons["good"] * (1 + drawn)
    scores = store.require(SCORES, NEXT, "")
    facts = scores.facts
    given = odd.tables.get(f"candidates/{NEXT}")
    assert given is None or facts["good"] + facts["refused"] == len(given)
    rows = [row for url in store.urls(scores) for row in pq.read_table(local(url)).to_pylist()]
    assert len(rows) == facts["good"] - facts["below_top"] > 0
    assert all(0 < row["score"] < 1 for row in rows), rows
    if settings.score.delta:
        assert DeltaTable(settings.score.delta).to_pyarrow_table().num_rows == len(rows)


def local(url: str) -> str:
    return url.removeprefix("file://")


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_random_nights_end_complete_or_with_one_line(spark, tmp_path_factory):
    refusals = []

    @profile(20, shrink=False)
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        refusals.append(run(odd_night(seed), tmp_path_factory.mktemp("night")))

    check()
    assert "" in refusals, refusals
