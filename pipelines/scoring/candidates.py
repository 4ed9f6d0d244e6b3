"""Candidates by rule, if no table is given: popular items, new items, items of liked categories.

They replace ``sources.candidates``. Everything comes from what is published up to the end of the
day before (examples, state, vocabulary); no log is read again. Each user is one row until the lists
of items are joined, so no step is larger than users x candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from din_model.config import Section
from din_model.errors import InputError
from din_model.features import FIRST_ID, UNKNOWN, Feature, FeatureSpec
from din_model.ranges import Count, Days
from pipelines.examples.publish import unsampled_examples
from pipelines.examples.state import as_behaviours
from pipelines.examples.vocabulary import decode, open_vocabulary
from pipelines.ingest.logs import DAY, Logs
from pipelines.ingest.sources import days_between, start_of
from pipelines.store.data_sets import EXAMPLES, STATE, VOCABULARY
from pipelines.store.store import Store

USER, ITEM, KEY, VALUE = "_user", "_item", "_item_key", "_value"


@dataclass(frozen=True)
class CandidatesConfig(Section):
    """Candidates by rule, for every user with a history or an impression the day before.

    Attributes that no side table has are the newest of user or item in the examples of the day
    before.

    Attributes:
        popular: number of items for every user, by the day's clicks, then by impressions.
        of_categories: number of popular items whose ``by`` has a value in the user's history. Each
            value gets its share of the history; what rounding or a short list leaves goes to the
            most frequent values first.
        by: item feature of the categories for ``of_categories``.
        new: number of items first seen in the last ``new_days``, newest first, then by impressions.
            On a store's first date no item counts as new.
        new_days: number of days for which an item is new.
        exclude_seen: drop the items that the user's history holds; nothing takes their place.
    """

    popular: Count = 0
    of_categories: Count = 0
    by: str | None = None
    new: Count = 0
    new_days: Days = 1
    exclude_seen: bool = False

    def __post_init__(self) -> None:
        if not (self.popular or self.of_categories or self.new):
            raise ValueError("no candidates are configured: set popular, of_categories or new")


def candidates(logs: Logs, store: Store, day: date, config: CandidatesConfig | None) -> DataFrame:
    """Return the rows to score for ``day``: from the table, if there is one, else generated.

    Raises:
        InputError: neither ``sources.candidates`` nor the section is set; see ``generated``.
    """
    if logs.sources.candidates or config is None:
        return logs.candidates(day)
    return generated(logs, store, day, config)


# Over 50 lines with its docstring; one query whose parts are named by the functions below.
def generated(logs: Logs, store: Store, day: date, config: CandidatesConfig) -> DataFrame:
    """Generate the candidates of ``day``: one row per (user, item), like ``Logs.candidates``.

    Attributes that no side table has are the newest of user or item in the examples of the day
    before or, with ``new``, of the last ``new_days``.

    Raises:
        InputError: the day before is not built; no feature for categories; no history of seen
            items; nothing is generated.
    """
    spark, spec, night = logs.spark, logs.spec, day - DAY
    state = store.read(spark, [store.require(STATE, night, "run jobs.build_sequences for it")])
    today = store.read(spark, [unsampled_examples(store, night)])
    days = days_between(day - config.new_days * DAY, night) if config.new else [night]
    lately = store.read(
        spark, [unsampled_examples(store, d) for d in days if store.manifest(EXAMPLES, d)]
    )
    vocabulary, _ = open_vocabulary(spark, store)

    # Items: one list for all users, and one for each value that a user may like.
    by = _by(spec, config) if config.of_categories else None
    items = _keyed(_counted(today, spec, by), ITEM, KEY, spec[spec.item], vocabulary)
    for_all = items.orderBy(*_most_clicked()).limit(config.popular).select(ITEM)
    new = _first_seen(logs, store, days).join(_counted(lately, spec, None), ITEM, "left")
    new = new.orderBy(F.desc("_first"), F.desc_nulls_last("_shown"), KEY).limit(config.new)
    for_all = for_all.union(new.select(ITEM))

    # Users: one row each, with a list of items.
    past = _visible(state, spec, start_of(day, spec.time_zone))
    users = state.select(spec.user).union(today.select(spec.user)).distinct()
    users = users.withColumnRenamed(spec.user, USER)
    rows = users.crossJoin(F.broadcast(for_all.agg(F.collect_set(ITEM).alias("_for_all"))))
    listed, offered = for_all, F.col("_for_all")
    if by:
        top = _top(items, config.of_categories)
        liked = _liked(past.select(USER, F.col(by).alias(VALUE)), top, config.of_categories)
        rows, listed = rows.join(liked, USER, "left"), listed.union(top.select(ITEM))
        offered = F.array_union(offered, _or_empty("_liked"))
    if config.exclude_seen:
        rows = rows.join(_seen(past, spec), USER, "left")
        offered = F.array_except(offered, _or_empty("_seen"))
    rows = rows.select(USER, offered.alias("_offered")).where(F.size("_offered") > 0)
    if rows.isEmpty():
        raise InputError(
            f"candidates: nothing is generated for {day}, because {night} has no such item for any"
            " user: set candidates.popular, or exclude_seen to false"
        )

    # Keys and attributes instead of ids.
    rows = _named(rows, USER, spec[spec.user], logs, lately, vocabulary)
    catalogue = _named(listed.distinct(), ITEM, spec[spec.item], logs, lately, vocabulary)
    pairs = rows.withColumn(ITEM, F.explode("_offered")).join(F.broadcast(catalogue), ITEM)
    columns = [f.name for f in spec.side("user", "item") if f.name in pairs.columns]
    empty = [F.lit(None).cast("string").alias(name) for name in ("reason", "raw")]
    return logs.known(pairs.select(*columns, *empty), day)


def _by(spec: FeatureSpec, config: CandidatesConfig) -> str:
    """Return the item feature whose values the histories hold."""
    mirrored = {name for h in spec.histories for name in h.fields.values()}
    mirrored -= {spec.item, *(f.name for f in spec.vectors)}
    in_histories = {spec[name].log_name: name for name in mirrored}
    if config.by in in_histories:
        return in_histories[config.by]
    if config.by is None and len(in_histories) == 1:
        return mirrored.pop()
    problem = f"{config.by!r} is in no history" if config.by else "of_categories needs it"
    known = ", ".join(sorted(in_histories)) or f"nothing but {spec[spec.item].log_name!r}"
    raise InputError(f"candidates.by: {problem}; name what histories hold of an item: {known}")


def _counted(examples: DataFrame, spec: FeatureSpec, by: str | None) -> DataFrame:
    """Return each item's clicks, impressions and, if requested, newest value of ``by``.

    They come from the examples instead of the published counts, which cover only a sample of a
    sampled day.
    """
    counts = [F.count_if(F.col("label") > 0).alias("_clicks"), F.count(F.lit(1)).alias("_shown")]
    value = [_newest(F.col(by), F.col(by) > UNKNOWN).alias(VALUE)] if by else []
    return examples.groupBy(F.col(spec.item).alias(ITEM)).agg(*counts, *value)


def _newest(value: Column, known: Column) -> Column:
    """Return the value of the newest example that has one, or null."""
    return F.max_by(value, F.when(known, F.struct("time", "example_id")))


def _most_clicked() -> list[Column]:
    return [F.desc("_clicks"), F.desc("_shown"), F.col(KEY)]


def _first_seen(logs: Logs, store: Store, days: Sequence[date]) -> DataFrame:
    """Return the items first seen on ``days``: id, key and date."""
    name = logs.spec[logs.spec.item].vocabulary
    frames = [logs.spark.createDataFrame([], f"{ITEM} int, {KEY} string, _first string")]
    for part in [m for day in days if (m := store.manifest(VOCABULARY, day))]:
        # The first vocabulary may contain keys of any earlier date.
        if first := part.facts["first_new"].get(name):
            rows = store.read(logs.spark, [part]).where(F.col("vocabulary") == name)
            rows = rows.where(F.col("id") >= first).select("id", "key", F.lit(part.date))
            frames.append(rows)
    return reduce(DataFrame.union, frames)


def _visible(state: DataFrame, spec: FeatureSpec, cutoff: int) -> DataFrame:
    """Return the behaviours visible at the cutoff; others wait for their lag."""
    lags = F.array(*[F.lit(h.lag) for h in spec.histories])
    rows = as_behaviours(state, spec).withColumnRenamed(spec.user, USER)
    return rows.where(F.col("time") + F.element_at(lags, F.col("kind") + 1) < cutoff)


def _top(items: DataFrame, count: int) -> DataFrame:
    """Return the most popular ``count`` items of each value, with their rank, from 1."""
    best_first = Window.partitionBy(VALUE).orderBy(*_most_clicked())
    placed = items.where(F.col(VALUE) > UNKNOWN).withColumn(
        "_place", F.row_number().over(best_first)
    )
    return placed.where(F.col("_place") <= count)


def _liked(held: DataFrame, top: DataFrame, count: int) -> DataFrame:
    """Split ``count`` items per user over the values in the user's history.

    Args:
        held: (user, value) of each behaviour.
        top: see ``_top``.
        count: items per user.

    Returns:
        One row per user with ``_liked`` (array<int>): ``count`` ids, or as many as there are.
    """
    in_order = F.sort_array(F.collect_list(F.struct("_place", ITEM)))[ITEM]
    lists = top.groupBy(VALUE).agg(in_order.alias("_list"))
    sizes = lists.select(VALUE, F.size("_list").alias("_there"))
    rows = held.groupBy(USER, VALUE).agg(F.count(F.lit(1)).alias("_times"))
    rows = rows.join(F.broadcast(sizes), VALUE)
    of_user = Window.partitionBy(USER)
    rows = rows.withColumn("_total", F.sum("_times").over(of_user))
    share = F.least("_there", F.expr(f"{count} * _times div _total"))
    rows = rows.withColumn("_share", share).withColumn("_room", F.col("_there") - share)
    frequent_first = of_user.orderBy(F.desc("_times"), VALUE)
    filled = F.sum("_room").over(frequent_first.rowsBetween(Window.unboundedPreceding, -1))
    left = count - F.sum("_share").over(of_user) - F.coalesce(filled, F.lit(0))
    more = F.greatest(F.lit(0), F.least("_room", left))
    rows = rows.withColumn("_given", (F.col("_share") + more).cast("int"))
    rows = rows.where("_given > 0").join(F.broadcast(lists), VALUE)
    item_lists = F.collect_list(F.slice("_list", F.lit(1), F.col("_given")))
    return rows.groupBy(USER).agg(F.flatten(item_lists).alias("_liked"))


def _seen(past: DataFrame, spec: FeatureSpec) -> DataFrame:
    if spec.item not in past.columns:
        raise InputError(
            f"candidates.exclude_seen: no kind of history has {spec[spec.item].log_name!r}, so"
            " seen items are unknown: set it to false, or add the item to a kind's fields"
        )
    return past.groupBy(USER).agg(F.collect_set(spec.item).alias("_seen"))


def _or_empty(ids: str) -> Column:
    return F.coalesce(ids, F.array().cast("array<int>"))


def _keyed(
    rows: DataFrame, ids: str, name: str, feature: Feature, vocabulary: DataFrame
) -> DataFrame:
    """Add the keys of ``ids``; rows whose key was erased are dropped."""
    rows = rows.withColumn(name, F.col(ids))
    return decode(rows, name, F.lit(feature.vocabulary), vocabulary).where(F.col(name).isNotNull())


def _named(
    rows: DataFrame, ids: str, key: Feature, logs: Logs, examples: DataFrame, vocabulary: DataFrame
) -> DataFrame:
    """Add the key of user or item, and the attributes that no side table has."""
    rows = _keyed(rows, ids, key.name, key, vocabulary)
    own = [
        f for f in logs.spec.side(key.side) if f is not key and logs.side_tables.table_of(f) is None
    ]
    if not own:
        return rows
    newest = []
    for f in own:
        value, known = F.col(f.name), F.col(f.name) > UNKNOWN
        if f.is_value:
            known = ~F.isnan(f.name)
        if f.is_list:
            length = F.col(f"{f.name}__length")
            value, known = F.slice(f.name, F.lit(1), length), length > 0
        newest.append(_newest(value, known).alias(f.name))
    attributes = examples.groupBy(F.col(key.name).alias(ids)).agg(*newest)
    attributes = reduce(lambda t, f: _raw(t, ids, f, vocabulary), own, attributes)
    return rows.join(attributes, ids, "left")


def _raw(rows: DataFrame, ids: str, feature: Feature, vocabulary: DataFrame) -> DataFrame:
    """Turn a feature's ids back into values that encode to the same ids."""
    name, of = feature.name, F.lit(feature.vocabulary)
    if feature.is_value:
        return rows
    if feature.type == "number":
        lowest = F.array(*map(F.lit, (float("-inf"), *feature.boundaries)))
        bucket = F.element_at(lowest, F.col(name) - FIRST_ID + 1)
        # For a null index, Spark 4.0 returns some element.
        return rows.withColumn(name, F.when(F.col(name).isNotNull(), bucket))
    if not feature.is_list:
        return decode(rows, name, of, vocabulary)
    each = decode(rows.select(ids, F.posexplode(name).alias("_at", name)), name, of, vocabulary)
    in_order = F.sort_array(F.collect_list(F.struct("_at", name)))[name].alias(name)
    return rows.drop(name).join(each.groupBy(ids).agg(in_order), ids, "left")
