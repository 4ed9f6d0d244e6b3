"""Simulates users, impressions and clicks from a known law of clicks.

It shares no code with the model and the other stages, which never see that law.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from din_model.config import Section
from din_model.ranges import (
    Count,
    LengthOrZero,
    NotNegative,
    Number,
    Probability,
    Seed,
    Share,
    Size,
)

NEWEST = 50  # behaviours of a user that affect a click


HISTORY_DAYS = 21


LIKED_SHARE = 0.4  # share of the impressions drawn from the user's own categories


PARTITIONS = 512  # at most; many enough for any cluster that only writes logs
BLOCK = 500  # users simulated together; part of the seeding, so independent of the cores


DAY = 86_400_000_000  # microseconds


ITEMS, USERS, CANDIDATES = 1, 2, 3  # streams of random numbers


BROKEN_KINDS = 4


Ints = NDArray[np.int64]


# What the simulation emits, for all tables: numbers, which `COLUMNS` makes into names.
EVENTS = """table string, time string, user long, item long, day long, number long,
    position long, broken long, true_probability double"""


@dataclass(frozen=True)
class GenerateConfig(Section):
    """What jobs.generate_logs writes; shares and rates are fractions of 1.

    Attributes:
        path: root folder of the logs.
        first_date: first day of impressions, such as "2026-11-19".
        days: how many days of impressions.
        users: how many exist from the start.
        items: how many exist from the start.
        categories: how many the items are in.
        impressions: a day, about.
        interests: categories that a user likes.
        affinity: logit gained by a candidate that matches some of the past; 0 is none.
        popularity_effect: standard deviation on the logit, by item.
        user_effect: standard deviation on the logit, by user.
        base_rate: click probability with no match and no effect.
        history: mean behaviours before the first day, of users who exist from the start.
        new_users: share of the initial number added each day.
        new_items: the same of items; they are shown a day later.
        fresh: share of a day's impressions that show new items, which nobody has seen before.
        vector_size: dimension of the items' column ``embedding``: a vector of their category
            plus noise; 0: no such column.
        broken: share of impression lines broken on purpose.
        candidates_users: users with candidates, a day.
        candidates_items: candidates a user.
        seed: of all that is drawn.
    """

    path: str
    first_date: str
    days: Size
    users: Size
    items: Size
    categories: Size = 60
    impressions: Size = 40_000
    interests: Size = 4
    affinity: Number = 3.0
    popularity_effect: NotNegative = 0.3
    user_effect: NotNegative = 0.3
    base_rate: Probability = 0.07
    history: Count = 15
    new_users: NotNegative = 0.02
    new_items: NotNegative = 0.03
    fresh: Share = 0.0
    vector_size: LengthOrZero = 0
    broken: Share = 0.002
    candidates_users: Size = 300
    candidates_items: Size = 40
    seed: Seed = 7

    def users_by(self, day: int) -> int:
        """Return the number of users that exist by the end of a day, 0 being the first."""
        return self.users + (day + 1) * round(self.users * self.new_users)

    def items_by(self, day: int) -> int:
        """Return the number of items that exist by the end of a day; they are shown a day later."""
        return self.items + (day + 1) * round(self.items * self.new_items)


class Catalogue:
    """Every item that will ever exist, oldest first, with its `category` and `effect` [items]."""

    def __init__(self, config: GenerateConfig) -> None:
        rng = _rng(config, ITEMS)
        total, categories = config.items_by(config.days - 1), np.arange(config.categories)
        sizes = (categories + 1.0) ** -0.5
        self.category: Ints = rng.choice(categories, total, p=sizes / sizes.sum())
        self.category[: len(categories)] = categories  # none stays empty
        self.effect = rng.standard_normal(total)
        popularity = (rng.permutation(total) + 1.0) ** -0.8
        # Grouped by category and oldest first within: the items of a day are one run per category.
        self._order = np.argsort(self.category, kind="stable")
        self._edges = np.concatenate([[0.0], np.cumsum(popularity[self._order])])
        self._first = np.searchsorted(self.category[self._order], categories)

    def draw(
        self, rng: np.random.Generator, liked: Ints, share: float, live: int, oldest: int = 0
    ) -> tuple[Ints, Ints]:
        """Draw items by popularity: a share in the category `liked` [n], the rest in any.

        Returns:
            items and their categories, [n] each; only the items `oldest` to `live` are drawn.
        """
        categories = len(self._first)
        start = self._first + np.bincount(self.category[:oldest], minlength=categories)
        end = self._first + np.bincount(self.category[:live], minlength=categories)
        low, mass = self._edges[start], self._edges[end] - self._edges[start]
        popular = rng.choice(len(mass), len(liked), p=mass / mass.sum())
        own = (rng.random(len(liked)) < share) & (mass[liked] > 0)
        category = np.where(own, liked, popular)
        level = low[category] + rng.random(len(liked)) * mass[category]
        place = np.searchsorted(self._edges, level, side="right") - 1
        return self._order[np.minimum(place, end[category] - 1)], category


def simulate(
    spark: SparkSession, config: GenerateConfig, partitions: int | None = None
) -> DataFrame:
    """Return the rows of all tables as ``EVENTS``; equal for any number of partitions."""

    def parts(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        catalogue = Catalogue(config)
        for part in (part for batch in batches for part in batch["id"]):
            if part < config.days:
                yield from _day(config, catalogue, part)
            else:
                yield from _block(config, catalogue, part - config.days)

    count = config.days - (-config.users_by(config.days - 1) // BLOCK)
    partitions = partitions or min(count, PARTITIONS)
    return spark.range(0, count, 1, partitions).mapInPandas(parts, EVENTS)


def _day(config: GenerateConfig, catalogue: Catalogue, day: int) -> Iterator[pd.DataFrame]:
    """Yield the items that exist by the end of a day, and the pairs to score for the next."""
    users, items = config.users_by(day), config.items_by(day)
    yield _events("items", item=np.arange(items), number=catalogue.category[:items], day=day)
    rng, each = _rng(config, CANDIDATES, day), config.candidates_items
    user = rng.choice(users, config.candidates_users, replace=False)
    item = np.concatenate([rng.choice(items, each, replace=False) for _ in user])
    yield _events("candidates", user=user.repeat(each), item=item, day=day + 1)


# Over 50 lines: the law of the simulation, kept in one place to be read against its description.
def _block(config: GenerateConfig, catalogue: Catalogue, block: int) -> Iterator[pd.DataFrame]:
    """Simulate a block of users: their history, then impressions and clicks day by day."""
    rng = _rng(config, USERS, block)
    users = np.arange(block * BLOCK, min((block + 1) * BLOCK, config.users_by(config.days - 1)))
    activity = rng.lognormal(-0.5, 1.0, len(users))  # of mean 1
    user_logit = np.log(config.base_rate / (1 - config.base_rate))
    user_logit += config.user_effect * rng.standard_normal(len(users))
    interests = rng.random((len(users), config.categories)).argsort(axis=1)[:, : config.interests]
    start = int(np.datetime64(config.first_date, "us").astype(np.int64))

    def active(mean: float, existing: int) -> tuple[Ints, Ints]:
        user = np.arange(len(users)).repeat(rng.poisson(mean * activity * (users < existing)))
        return user, interests[user, rng.integers(config.interests, size=len(user))]

    user, liked = active(config.history, config.users)
    item, category = catalogue.draw(rng, liked, 1.0, config.items)
    time = start - rng.integers(1, HISTORY_DAYS * DAY, len(user))
    yield _events("history", user=users[user], item=item, time=time)
    behaviours = np.stack([user, time, category])
    for day in range(config.days):
        yield _events("users", user=users[users < config.users_by(day)], day=day)
        begin = start + day * DAY
        late = behaviours[1] >= begin  # clicks after midnight on earlier impressions
        past, late = _newest(behaviours[:, ~late]), behaviours[:, late]
        size = len(users) * config.categories
        known = np.bincount(past[0] * config.categories + past[2], minlength=size)

        user, liked = active(config.impressions / config.users, config.users_by(day))
        live = config.items_by(day - 1)
        item, category = catalogue.draw(rng, liked, LIKED_SHARE, live)
        if config.fresh:
            fresh = rng.random(len(user)) < config.fresh
            item[fresh], category[fresh] = catalogue.draw(
                rng, liked[fresh], LIKED_SHARE, live, config.items_by(day - 2)
            )
        match = 1 - np.exp(-known[user * config.categories + category])
        logit = user_logit[user] + config.affinity * match
        logit += config.popularity_effect * catalogue.effect[item]
        kind = rng.integers(1, BROKEN_KINDS + 1, len(user))
        shown = {
            "user": users[user],
            "item": item,
            "time": begin + rng.integers(DAY, size=len(user)),
            "day": np.full(len(user), day),  # of the impression, also in the row of its click
            "number": np.arange(len(user)) - np.searchsorted(user, user),
            "position": rng.integers(1, 11, len(user)),
            "broken": np.where(rng.random(len(user)) < config.broken, kind, 0),
            "true_probability": 1 / (1 + np.exp(-logit)),
        }
        yield _events("impressions", **shown)

        clicked = (rng.random(len(user)) < shown["true_probability"]) & (shown["broken"] == 0)
        clicks = {name: values[clicked] for name, values in shown.items()}
        delay = 1 + rng.exponential(44, clicked.sum())  # seconds
        clicks["time"] = clicks["time"] + (delay * 1e6).astype(np.int64)
        yield _events("clicks", **clicks)
        new = np.stack([user[clicked], clicks["time"], category[clicked]])
        behaviours = np.concatenate([past, late, new], axis=1)


def _newest(behaviours: Ints) -> Ints:
    """Keep the ``NEWEST`` of each user among [3, n] rows of user, time and category."""
    user, time, _ = behaviours
    behaviours = behaviours[:, np.lexsort((-time, user))]
    age = np.arange(len(user)) - np.searchsorted(behaviours[0], behaviours[0])
    return behaviours[:, age < NEWEST]


def _events(table: str, **columns: Any) -> pd.DataFrame:
    """Return rows of a table from arrays [n] and constants."""
    frame = pd.DataFrame({"table": table} | columns)
    if "time" in columns:  # text, so that no time zone shifts it
        times = columns["time"].astype("datetime64[us]")
        frame["time"] = np.datetime_as_string(times, timezone="UTC")
    names = [column.split()[0] for column in EVENTS.split(",")]
    # None, and not the NaN of reindex: pyarrow 21 on makes no text column of NaN that Spark takes.
    return frame.assign(**{name: None for name in names if name not in frame})[names]


def _rng(config: GenerateConfig, stream: int, number: int = 0) -> np.random.Generator:
    return np.random.default_rng([config.seed, stream, number])
