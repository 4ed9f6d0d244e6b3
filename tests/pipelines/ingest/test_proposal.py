"""A configuration is proposed from the columns of a log and a sample of its rows."""

import re
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from din_model.config import load
from din_model.errors import InputError
from jobs.cli import Settings
from pipelines.ingest.log_sample import sample_log
from pipelines.ingest.proposal import Proposal, propose, render

ROWS = 400
DAY = datetime(2026, 11, 20)


def log(**columns: object) -> pd.DataFrame:
    """A log of a shop; further columns or other values for those."""
    rng = np.random.default_rng(1)
    items = rng.integers(0, 30, ROWS)
    users = rng.integers(0, 40, ROWS)
    frame = pd.DataFrame(
        {
            "impression_id": [f"n{n}" for n in range(ROWS)],
            "userId": users,
            "session_id": rng.integers(0, 300, ROWS),
            "article_id": [f"i{n}" for n in items],
            "category": [f"c{n % 5}" for n in items],
            "country": [f"k{n % 3}" for n in users],
            "device": [f"d{n}" for n in rng.integers(0, 3, ROWS)],
            "price": items * 1.25,
            "published_at": DAY - timedelta(days=9),
            "shown_at": [DAY + timedelta(minutes=int(n)) for n in rng.integers(0, 2880, ROWS)],
            "read_seconds": rng.integers(0, 90, ROWS),
            "title": [f"the long and full title {n} of an item that is shown" for n in range(ROWS)],
            "clicked": rng.integers(0, 2, ROWS),
        }
    )
    return frame.assign(**columns)


def proposed(frame: pd.DataFrame, path: Path, *tables: Path, **given: str) -> Proposal:
    frame.to_parquet(path)
    return propose(sample_log(str(path)), [sample_log(str(t)) for t in tables], given)


def test_the_default_of_whole_numbers_with_nulls_is_a_whole_number(tmp_path: Path) -> None:
    device = np.resize([1.0, np.nan, 1.0, 2.0, 3.0], ROWS)
    found = proposed(log(device=device), tmp_path / "log.parquet")
    (settings,) = (c.settings for c in found.columns if c.name == "device")
    assert settings == {"side": "context", "type": "int64", "serving_default": "1"}


def test_each_column_gets_its_role_and_side(tmp_path: Path) -> None:
    found = proposed(log(), tmp_path / "log.parquet")
    assert (found.user, found.item, found.label) == ("userId", "article_id", "clicked")
    assert (found.time.column, found.key) == ("shown_at", ("impression_id",))
    assert (found.since, found.last) == ("2026-11-20", "2026-11-21")
    features = {c.name: c.settings for c in found.columns if c.settings}
    assert features.pop("userId") == {"side": "user", "type": "int64"}
    assert features.pop("device").keys() == {"side", "serving_default"}
    assert features.pop("price") == {"side": "item", "type": "number", "quantiles": 10}
    assert features == {
        "article_id": {"side": "item"}, "category": {"side": "item"}, "country": {"side": "user"},
    }  # fmt: skip
    left_out = {c.name for c in found.columns if not c.settings}
    assert left_out == {"session_id", "published_at", "read_seconds", "title"}
    assert found.mirrored == ["article_id", "category"]


def test_what_is_known_only_after_the_click_is_no_feature(tmp_path: Path) -> None:
    sessions = np.repeat(np.arange(ROWS), np.resize([1, 2, 3, 5], ROWS))[:ROWS]
    sizes = pd.Series(sessions).groupby(sessions).transform("size").to_numpy()
    frame = log(session_id=sessions, session_size=sizes)
    found = proposed(
        frame.assign(
            nonclk=1 - frame["clicked"], is_like=frame["clicked"] * frame["device"].eq("d1")
        ),
        tmp_path / "log.parquet",
    )
    why = {c.name: c.why for c in found.columns if not c.settings}
    assert "counts the rows of its session_id" in why["session_size"]
    assert re.match(r"all \d+ sampled rows with 0 are clicked: known only after", why["nonclk"])
    assert why["is_like"] == "may be known only after the click, which would leak it"


def test_a_place_on_the_page_is_no_item(tmp_path: Path) -> None:
    places = np.resize(["a_1", "a_2"], ROWS)
    frame = log(pid=places).rename(columns={"article_id": "adgroup_id", "userId": "user"})
    found = proposed(frame, tmp_path / "log.parquet")
    assert (found.user, found.item) == ("user", "adgroup_id")


@pytest.mark.parametrize("label", ["clicked", None])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "parquet"])
def test_a_proposal_is_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, label: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    frame = log() if label else log().drop(columns="clicked")
    for day in ("2026-11-20", "2026-11-21"):
        path = Path(f"logs/date={day}/part-0.{suffix}")
        path.parent.mkdir(parents=True)
        if suffix == "json":
            frame.to_json(path, orient="records", lines=True, date_format="iso")
        elif suffix == "parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, sep="," if suffix == "csv" else "\t", index=False)
    found = propose(sample_log("logs"), [], {})
    Path("shop.yaml").write_text(render(found, "shop"))
    settings = load(Settings, ["shop.yaml"], [])
    assert settings.sources.impressions.path == "logs/date={date}"
    assert settings.history.since == date(2026, 11, 20)
    assert settings.features.label == "clicked"
    assert (settings.build.negatives is None) == bool(label)
    sides = {n: c.side for n, c in settings.features.columns.items()}
    assert ("category" in sides) == bool(label), "negatives need attributes of items by item"
    assert sides["country"] == "user"


def test_whole_numbers_that_are_dates_are_parsed_by_the_query(
    spark: SparkSession, tmp_path: Path
) -> None:
    hours = log()["shown_at"].dt.strftime("%y%m%d%H").astype("int64")
    found = proposed(log(shown_at=hours), tmp_path / "log.parquet")
    spark.read.parquet(str(tmp_path / "log.parquet")).createOrReplaceTempView("raw")
    times = spark.sql(f"select {found.selected} from raw").select("shown_at").toPandas()
    assert list(times["shown_at"]) == list(log()["shown_at"].dt.floor("h"))


def test_attributes_come_from_tables_of_items_and_users(tmp_path: Path) -> None:
    items, users = tmp_path / "items.parquet", tmp_path / "users.parquet"
    pd.DataFrame(
        {
            "article_id": [f"i{n}" for n in range(30)],
            "brand": ["a", "b"] * 15,
            "rating": [1, 2, 3] * 10,
        }
    ).to_parquet(items)
    pd.DataFrame({"userId": range(40), "plan": ["x", "y"] * 20}).to_parquet(users)
    frame = log().drop(columns="clicked")
    found = proposed(frame, tmp_path / "log.parquet", items, users)
    sides = {c.name: c.settings["side"] for c in found.columns if c.settings}
    assert (sides["brand"], sides["plan"]) == ("item", "user")
    assert "rating" not in sides
    assert set(found.tables) == {"items", "users"}


def test_what_cannot_be_guessed_names_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    with pytest.raises(InputError, match=r"like the item: say --item COLUMN, one of .*thing"):
        proposed(log().rename(columns={"article_id": "thing"}), path)
    assert propose(sample_log(str(path)), [], {"item": "thing"}).item == "thing"
    with pytest.raises(InputError, match="--user who: the log has impression_id"):
        propose(sample_log(str(path)), [], {"item": "thing", "user": "who"})
    timeless = log().drop(columns=["shown_at", "published_at"])
    with pytest.raises(InputError, match="no column holds times"):
        proposed(timeless, path)
