"""The configurations of conf/datasets on the real logs they are written for.

DIN_REAL_DATA says where those lie; without it, nothing here runs.
"""

import os
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from din_model.config import load
from din_model.registry import versions
from jobs import build_sequences, nightly, train
from jobs.cli import Settings
from pipelines.examples.build import build_day
from pipelines.examples.histories import with_histories
from pipelines.examples.vocabulary import decode, open_vocabulary
from pipelines.scoring.skew_check import replay
from pipelines.store.store import Store

DATASETS = Path(__file__).parents[2] / "conf" / "datasets"
FIRST, JUDGE = date(2023, 5, 18), date(2023, 5, 24)
LENGTH = 50

pytestmark = [
    pytest.mark.skipif("DIN_REAL_DATA" not in os.environ, reason="DIN_REAL_DATA is not set"),
    pytest.mark.timeout(900),
]


def settings_of(name: str, store: Path, *words: str) -> Settings:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return load(Settings, [str(DATASETS / name)], [f"store.path={store}", *words])


def of_every_sixth_user(folder: Path) -> None:
    """Write the part of EB-NeRD that belongs to every sixth user."""
    (folder / "ebnerd").mkdir()
    for name in ("behaviors", "history"):
        rows = pd.read_parquet(Path(os.environ["DIN_REAL_DATA"]) / "ebnerd" / f"{name}.parquet")
        rows[rows["user_id"] % 6 == 0].to_parquet(folder / "ebnerd" / f"{name}.parquet")


def ebnerd() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read impressions (one row per article shown) and behaviours with pandas."""
    folder = Path(os.environ["DIN_REAL_DATA"]) / "ebnerd"
    views = pd.read_parquet(folder / "behaviors.parquet")
    shown = views.explode("article_ids_inview").rename(columns={"article_ids_inview": "article"})
    clicked = [
        article in set(ids)
        for article, ids in zip(shown["article"], shown["article_ids_clicked"], strict=True)
    ]
    shown["clicked"] = clicked
    past = pd.read_parquet(folder / "history.parquet")
    past = past.rename(
        columns={"article_id_fixed": "article", "impression_time_fixed": "impression_time"}
    )[["user_id", "article", "impression_time"]].explode(["article", "impression_time"])
    mine = shown[shown["clicked"]][["user_id", "article", "impression_time"]]
    both = pd.concat([past, mine]).astype({"article": "int64", "impression_time": "datetime64[us]"})
    return shown, both.drop_duplicates()


def test_ebnerd_loses_no_impression_and_reads_only_earlier_days(spark, tmp_path, monkeypatch):
    of_every_sixth_user(tmp_path)
    monkeypatch.setenv("DIN_REAL_DATA", str(tmp_path))
    settings = settings_of("ebnerd.yaml", tmp_path)
    logs, store = settings.open("tests", JUDGE)
    shown, behaviours = ebnerd()
    days = [FIRST, FIRST + timedelta(days=1)]
    for day in days:
        manifest = build_day(logs, store, settings.build, settings.split, day)
        assert manifest.rows == (shown["impression_time"].dt.date == day).sum()
    day = days[-1]
    assert replay(logs, store, day) == manifest.rows

    vocabulary, _ = open_vocabulary(spark, store)
    examples = with_histories(store.read(spark, [manifest]), logs.spec)
    examples = examples.select("user_id", "clicks__article_id")
    examples = decode(examples.distinct(), "user_id", F.lit("user_id"), vocabulary).toPandas()
    ids = vocabulary.where("vocabulary = 'article_id'").toPandas()
    key_of = dict(zip(ids["id"], ids["key"].astype(int), strict=True))
    visible = behaviours[behaviours["impression_time"] < pd.Timestamp(day)]
    times = {
        user: rows.sort_values("impression_time")["impression_time"].to_numpy()[-LENGTH:]
        for user, rows in visible.groupby("user_id")
    }
    when = visible.groupby(["user_id", "article"])["impression_time"].agg(set).to_dict()
    assert examples["user_id"].is_unique, "a user has one history a day"
    for user, history in examples.set_index("user_id")["clicks__article_id"].items():
        articles = [key_of[i] for i in history if i]
        expected = times.get(int(user), np.array([]))
        assert len(articles) == len(expected)
        # Clicks at one moment have no order of their own, so each must fit its place's time.
        for article, time in zip(articles, expected, strict=True):
            assert pd.Timestamp(time) in when[int(user), article]


@pytest.mark.slow
def test_ebnerd_trains_gates_registers_and_scores(tmp_path):
    settings = settings_of("ebnerd.yaml", tmp_path)
    nightly.run(settings, JUDGE)
    logs, store = settings.open("tests", JUDGE)
    shown, _ = ebnerd()
    until = shown[shown["impression_time"].dt.date <= JUDGE]
    assert sum(m.rows for m in store.manifests("examples")) == len(until) == 269_347
    decision = store.require("nights", JUDGE, "").facts
    assert versions.champion(settings.tracking.model) == decision["version"] == 1
    offered = shown[shown["impression_time"].dt.date == JUDGE + timedelta(days=1)]
    offered = offered.drop_duplicates(["user_id", "article", "is_subscriber"])
    assert store.require("scores", JUDGE + timedelta(days=1), "").rows == len(offered)
    assert replay(logs, store, JUDGE) == store.require("examples", JUDGE, "").rows


@pytest.mark.slow
def test_a_night_runs_on_globos_clicks(tmp_path):
    settings = settings_of("globo.yaml", tmp_path, "train.epochs=1")
    nightly.run(settings, date(2017, 10, 5))
    files = Path(os.environ["DIN_REAL_DATA"], "globo").glob("*.csv")
    clicks = pd.concat(map(pd.read_csv, files))  # one of them has no row
    at = pd.to_datetime(clicks["click_timestamp"], unit="ms", utc=True)
    clicks["date"] = at.dt.tz_convert("America/Sao_Paulo").dt.date.astype(str)
    clicks = clicks[clicks["date"] <= "2017-10-05"]  # a file holds sessions to their end
    store = Store(settings.store.path)
    built = {m.date: m.rows for m in store.manifests("examples")}
    assert built == (5 * clicks.groupby("date").size()).to_dict()
    users, scores = clicks["user_id"].nunique(), store.require("scores", date(2017, 10, 6), "")
    assert scores.rows == 10 * users
    assert scores.facts["candidates"] == 50 * users
    assert "reports" in {path.rpartition("/")[2] for path in store.fs.ls(store.base)}


@pytest.mark.slow
def test_beauty_trains_and_is_evaluated_on_each_users_last_position(tmp_path):
    settings = settings_of("beauty.yaml", tmp_path)
    assert settings.date is not None
    build_sequences.run(settings, settings.date)
    train.run(settings, settings.date)
    store = Store(settings.store.path)
    lines = (Path(os.environ["DIN_REAL_DATA"]) / "s3rec" / "Beauty.txt").read_text().splitlines()
    lengths = np.array([len(line.split()) - 1 for line in lines])
    assert store.require("examples", settings.date, "").rows == 2 * (lengths - 2).sum()
    assert store.require("holdout", settings.date, "").rows == 2 * len(lengths)
    _, facts = versions.load(settings.tracking.model, 1)
    assert facts.rows == facts.rows_read
    assert facts.metrics["din"]["auc"] > facts.metrics["mean"]["auc"] > 0.75
