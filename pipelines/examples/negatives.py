"""Sampled negatives for logs of positives only: items that the user never touched."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.config import Section
from din_model.errors import InputError
from din_model.features import FIRST_ID, UNKNOWN, Feature, FeatureSpec
from din_model.ranges import NotNegative, Probability, Seed, Size
from pipelines.examples.vocabulary import encode
from pipelines.ingest.logs import Logs
from pipelines.ingest.side_tables import as_of

TRIES = 64
"""Items sampled at once for a row. If the user has touched all of them, the item is sampled from
those that the user has not touched."""

Choose = Callable[[np.random.Generator, set[int]], int | None]
"""Sampler of a negative item outside the set of touched items; returns None if all are touched."""


@dataclass(frozen=True)
class NegativesConfig(Section):
    """Unclicked rows sampled for each click from items that the user did not touch.

    A sampled row has the click's user, time and context, and the attributes of the sampled item,
    which must be in ``sources.items``.

    Attributes:
        per_positive: sampled rows per click.
        base_rate: click rate, between 0 and 1, that published scores refer to; null: that of the
            sampled rows, 1 / (1 + per_positive).
        by: ``uniform``: over all items that the vocabulary knew that day; ``popularity``: by the
            item's clicks of the day.
        power: exponent of those clicks (arXiv 1310.4546, section 2.2).
        seed: of the sampling.
    """

    per_positive: Size = 1
    base_rate: Probability | None = None
    by: Literal["uniform", "popularity"] = "uniform"
    power: NotNegative = 0.75
    seed: Seed = 2019

    @property
    def logit_shift(self) -> float:
        """Difference between the log odds at ``base_rate`` and those among the sampled rows."""
        if self.base_rate is None:
            return 0.0
        return math.log(self.base_rate / (1 - self.base_rate) * self.per_positive)

    @property
    def popularity_weight(self) -> float:
        """How much of an item's popularity, in log odds, is left to tell clicks from sampled rows.

        An item with n clicks is clicked in proportion to n and sampled in proportion to n ** power,
        so the log odds of a click grow with (1 - power) * log(n). Uniform sampling has power 0.
        """
        return 1.0 - self.power if self.by == "popularity" else 1.0


# Over 50 lines with its docstring; its steps share the user's columns.
def sample_negatives(
    positives: DataFrame,
    touched: DataFrame,
    spec: FeatureSpec,
    config: NegativesConfig,
    items: int,
) -> DataFrame:
    """Return ``per_positive`` rows for each positive, with another item and label 0.

    The sample depends on the positive's example_id, the seed and the items to choose from; uniform
    ones are the ids FIRST_ID to ``items`` - 1. Other item features keep the positive's value and
    must be looked up again.

    Args:
        positives: encoded rows with example_id.
        touched: encoded (user, item) pairs that must not be sampled.
        spec: names user and item.
        config: how to sample.
        items: the next free id of an item.

    Raises:
        InputError: a user has touched every item.
    """
    user, item = spec.user, spec.item
    lists = touched.groupBy(user).agg(F.collect_set(item).alias("_touched"))
    rows = positives.join(lists, user, "left")
    schema = T.StructType([*positives.schema.fields])
    popular = config.by == "popularity"
    choose = _popular(positives, item, config.power) if popular else _uniform(items)
    at_item = positives.columns.index(item)
    at_id, at_label = positives.columns.index("example_id"), positives.columns.index("label")

    def draw(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            ids = batch.column("example_id").to_numpy()
            forbidden = [set(x or ()) for x in batch.column("_touched").to_pylist()]
            for number in range(config.per_positive):
                drawn = np.empty(len(ids), np.int32)
                for row, (example, never) in enumerate(zip(ids, forbidden, strict=True)):
                    seed = [config.seed, number, int(example) % 2**63]
                    chosen = choose(np.random.default_rng(seed), never)
                    if chosen is None:
                        raise InputError(
                            f"build.negatives: the user with id {batch.column(user)[row]} in the"
                            " vocabulary has touched every item that can be sampled: leave such"
                            " users out in the query of the source"
                        )
                    drawn[row] = chosen
                columns = [batch.column(i) for i in range(len(schema))]
                columns[at_item] = pa.array(drawn)
                columns[at_label] = pa.array(np.zeros(len(ids)))
                # A sampled row needs its own example_id.
                columns[at_id] = pa.array(ids ^ np.int64(0x9E3779B97F4A7C15 - 2**64) + number)
                yield pa.RecordBatch.from_arrays(columns, schema.names)

    return rows.select(*positives.columns, "_touched").mapInArrow(draw, schema)


def _uniform(items: int) -> Choose:
    def choose(rng: np.random.Generator, never: set[int]) -> int | None:
        tried = rng.integers(FIRST_ID, items, TRIES)
        return _first(tried, never) or _of_rest(rng, np.arange(FIRST_ID, items), never)

    return choose


def _popular(positives: DataFrame, item: str, power: float) -> Choose:
    """Choose by clicks ** power: one number per clicked item, sent with the function."""
    counted = positives.groupBy(item).count().orderBy(item).collect()
    ids = np.array([row[0] for row in counted], np.int32)
    weights = np.array([row[1] for row in counted], np.float64) ** power
    cumulative = np.cumsum(weights)
    cumulative /= cumulative[-1]

    def choose(rng: np.random.Generator, never: set[int]) -> int | None:
        tried = ids[np.searchsorted(cumulative, rng.random(TRIES), side="right")]
        return _first(tried, never) or _of_rest(rng, ids, never, weights)

    return choose


def _first(tried: NDArray[Any], never: set[int]) -> int | None:
    return next((int(item) for item in tried if item not in never), None)


def _of_rest(
    rng: np.random.Generator, ids: NDArray[Any], never: set[int],
    weights: NDArray[Any] | None = None,
) -> int | None:  # fmt: skip
    """Sample an id outside ``never`` by weight, or uniformly; return None if none is left."""
    left = np.isin(ids, list(never), invert=True)
    if not left.any():
        return None
    share = None if weights is None else weights[left] / weights[left].sum()
    return int(rng.choice(ids[left], p=share))


def _or_missing(feature: Feature) -> Column:
    """Return an encoded feature; for an item that the side table lacks, as a missing value."""
    missing = F.lit(float("nan")).cast("float") if feature.is_value else F.lit(UNKNOWN)
    if feature.is_list:
        missing = F.array().cast("array<int>")
    return F.coalesce(feature.name, missing).alias(feature.name)


# Seven parameters: each is one input of a build, and no other caller would share a group of them.
def with_negatives(
    rows: DataFrame, behaviours: DataFrame, logs: Logs, vocabulary: DataFrame,
    known: dict[str, int], drawn: NegativesConfig, day: date,
) -> DataFrame:  # fmt: skip
    """Add to positives the sampled negatives, with the attributes of their items.

    Args:
        rows: encoded positives with ``cutoff``, as of which the attributes are read.
        behaviours: encoded behaviours: what users touched.
        logs: the side tables.
        vocabulary: (vocabulary, key, id).
        known: next free id of each vocabulary.
        drawn: how to sample.
        day: of the snapshot of the side tables.
    """
    spec = logs.spec
    item = spec[spec.item]
    others = [f for f in spec.side("item") if f is not item]
    if spec.item not in behaviours.columns:
        raise InputError(
            f"build.negatives: no kind of history has {item.log_name!r}, so the items that users"
            " touched are unknown: add it to a kind's fields"
        )
    touched = behaviours.select(spec.user, spec.item).where(F.col(spec.item).isNotNull())
    negatives = sample_negatives(rows, touched, spec, drawn, known[item.vocabulary])
    if others:
        table = encode(logs.side_tables.table("items", others, day), [item, *others], vocabulary)
        negatives = negatives.drop(*[f.name for f in others]).withColumn("_at", F.col("cutoff"))
        negatives = as_of(negatives, table, spec.item).drop("_at")
        negatives = negatives.withColumns({f.name: _or_missing(f) for f in others})
    return rows.unionByName(negatives)
