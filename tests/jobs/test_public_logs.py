"""MovieLens and Taobao's display ads by their configurations, on files of the public schema."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from din_model.config import load
from jobs import build_sequences, nightly, train
from jobs.cli import Settings
from pipelines.examples.histories import with_histories
from pipelines.examples.vocabulary import open_vocabulary
from pipelines.store.store import Store

DATASETS = Path(__file__).parents[2] / "conf" / "datasets"
SHANGHAI = ZoneInfo("Asia/Shanghai")


def settings_of(name: str, folder: Path, *words: str) -> Settings:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ[name.upper()] = str(folder)
    return load(Settings, [str(DATASETS / f"{name}.yaml")], [f"store.path={folder}/store", *words])


def keys(spark, store: Store) -> dict[tuple[str, int], str]:
    rows = open_vocabulary(spark, store)[0].collect()
    return {(row["vocabulary"], row["id"]): row["key"] for row in rows}


@pytest.mark.slow
def test_movielens_ratings_become_likes_with_the_users_likes_and_dislikes_before(spark, tmp_path):
    genres = ["Comedy|Romance", "Drama", "(no genres listed)", "Action|Adventure|Sci-Fi", "Drama"]
    titles = ['"American President, The (1995)"', "Toy Story (1995)", '"He said ""No"" (1960)"',
              "Untitled", "Heat (1995)"]  # fmt: skip
    movies = [f"{m + 1},{titles[m % 5]},{genres[m % 5]}" for m in range(40)]
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *movies, ""]))
    rng = np.random.default_rng(1)
    ratings = [
        (user, int(movie) + 1, float(rng.integers(1, 11)) / 2, 1_112_484_727 + 10 * n + user)
        for user in range(1, 31)
        for n, movie in enumerate(rng.permutation(40)[:12])
    ]
    lines = [f"{u},{m},{r},{t}" for u, m, r, t in ratings]
    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *lines]))
    settings = settings_of(
        "movielens", tmp_path, "train.min_count=1", "train.baselines=[]", "build.shards=1"
    )
    build_sequences.run(settings, settings.date)
    store = Store(settings.store.path)
    examples = store.require("examples", settings.date, "")
    holdout = store.require("holdout", settings.date, "")
    assert (examples.rows, holdout.rows) == (30 * 10, 30)

    key_of = keys(spark, store)
    for row in with_histories(store.read(spark, [examples, holdout]), settings.spec).collect():
        user = int(key_of["userId", row["userId"]])
        past = [r for r in ratings if r[0] == user and r[3] * 10**6 < row["time"]]
        (now,) = [r for r in ratings if r[0] == user and r[3] * 10**6 == row["time"]]
        assert (str(now[1]), now[2] >= 4) == (key_of["movieId", row["movieId"]], row["label"] == 1)
        for kind, seen in (
            ("liked", [str(m) for _, m, r, _ in past if r >= 4]),
            ("disliked", [str(m) for _, m, r, _ in past if r < 4]),
        ):
            length = row[f"{kind}__length"]
            ids = row[f"{kind}__movieId"][:length]
            assert [key_of["movieId", i] for i in ids] == seen
            assert [key_of["genre", i] for i in row[f"{kind}__genre"][:length]] == [
                genres[(int(m) - 1) % 5].split("|")[0] for m in seen
            ]
        told = [key_of["genre", i] for i in row["genres"][: row["genres__length"]]]
        assert told == genres[(now[1] - 1) % 5].split("|")
    years = {
        name
        for vocabulary, name in [(v, k) for (v, _), k in key_of.items()]
        if vocabulary == "year"
    }
    assert years == {"1995", "1960"}
    train.run(settings, settings.date)


def taobao(folder: Path) -> tuple[list[tuple], list[tuple]]:
    """Six days of clicks, and what the users did before; all four files as published."""
    rng = np.random.default_rng(2)
    start = int(datetime(2017, 5, 6, tzinfo=SHANGHAI).timestamp())
    ads = [
        (i, 1000 + i % 6, 90 + i, 7, "NULL" if i % 5 == 0 else i % 4, 10.5 * i)
        for i in range(1, 31)
    ]
    shown, done = set(), set()
    for user in range(1, 61):
        for _ in range(12):
            at = start + int(rng.integers(0, 3 * 86_400))
            ad, click = int(rng.integers(1, 31)), int(rng.random() < 0.3)
            shown.add((user, at, ad, "430539_1007", 1 - click, click))
        for _ in range(10):
            at = start + int(rng.integers(-14 * 86_400, 3 * 86_400))
            tag = str(rng.choice(["pv", "pv", "pv", "cart", "fav", "buy"]))
            done.add((user, at, tag, 1000 + int(rng.integers(0, 6)), int(rng.integers(0, 4))))
    profiles = [(u, u % 9, 3, 1 + u % 2, 2, "" if u % 3 else 2, 3, 0, "") for u in range(1, 50)]
    for name, header, rows in (
        ("raw_sample", "user,time_stamp,adgroup_id,pid,nonclk,clk", sorted(shown)),
        ("ad_feature", "adgroup_id,cate_id,campaign_id,customer,brand,price", ads),
        (
            "user_profile",
            "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,"
            "occupation,new_user_class_level ",
            profiles,
        ),
        ("behavior_log", "user,time_stamp,btag,cate,brand", sorted(done)),
    ):
        lines = [header, *(",".join(map(str, row)) for row in rows), ""]
        (folder / f"{name}.csv").write_text("\n".join(lines))
    return sorted(shown), sorted(done)


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_taobaos_ads_are_scored_by_the_categories_and_brands_that_their_users_looked_at(
    spark, tmp_path
):
    shown, done = taobao(tmp_path)
    settings = settings_of(
        "taobao", tmp_path, "train.window=1", "train.min_count=1", "nightly.min_gain=-1",
        "build.shards=1", "score.explain=2", "features.columns.price.quantiles=4",
    )  # fmt: skip
    day = datetime(2017, 5, 7).date()
    nightly.run(settings, day)
    store = Store(settings.store.path)
    manifest = store.require("examples", day, "")
    midnight = int(datetime(2017, 5, 7, tzinfo=SHANGHAI).timestamp())
    of_day = [r for r in shown if midnight <= r[1] < midnight + 86_400]
    assert manifest.rows == len({(r[0], r[2], r[1]) for r in of_day}) > 100

    key_of = keys(spark, store)
    for row in with_histories(store.read(spark, [manifest]), settings.spec).collect():
        user = int(key_of["user", row["user"]])
        for kind, tags in (("viewed", ("pv",)), ("wanted", ("cart", "fav", "buy"))):
            past = sorted(
                (at, cate, brand)
                for u, at, tag, cate, brand in done
                if u == user and tag in tags and at < midnight
            )
            length = row[f"{kind}__length"]
            found = [
                (key_of["cate_id", c], key_of["brand", b])
                for c, b in zip(
                    row[f"{kind}__cate_id"][:length], row[f"{kind}__brand"][:length], strict=True
                )
            ]
            assert sorted(found) == sorted((str(c), str(b)) for _, c, b in past)
        assert (row["cms_segid"] == 1) == (user >= 50), "users without a profile are unknown"

    scored = day + timedelta(days=1)
    after = midnight + 86_400
    pairs = {(r[0], r[2]) for r in shown if after <= r[1] < after + 86_400}
    scores = store.read(spark, [store.require("scores", scored, "")]).collect()
    assert {(row["user"], row["adgroup_id"]) for row in scores} == pairs
    categories = {str(1000 + i) for i in range(6)}
    told = {why["item"] for row in scores for why in row["explanations"] or ()}
    assert told, "behaviours are named by what is known of them"
    assert told <= categories, "behaviours are named by what is known of them"
