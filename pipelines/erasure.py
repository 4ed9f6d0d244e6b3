"""Removes users from published data: state, counters, examples, scores, quarantine and others.

Clean the raw logs first, because a later build reads them again. A rewritten run keeps its id, so
no date becomes stale. The vocabulary, which maps ids to users, forgets the users last, so a killed
job can be run again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from din_model.config import Section
from din_model.console import stage
from din_model.errors import InputError
from din_model.features import FeatureSpec
from din_model.ranges import Text
from pipelines.columns import column
from pipelines.examples import counts, vocabulary
from pipelines.examples.publish import BuildConfig, Publication, republish
from pipelines.ingest.sources import CORRUPT
from pipelines.store.data_sets import COUNTS, DATA_SETS, ERASURES, EXAMPLES, HOLDOUT, STATE, User
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store

Replace = Callable[[Manifest, DataFrame], Manifest]


@dataclass(frozen=True)
class EraseConfig(Section):
    """The users that jobs.erase removes.

    Attributes:
        users: their keys, as in the logs.
    """

    users: tuple[Text, ...] = ()


def erase(
    spark: SparkSession, store: Store, config: BuildConfig, users: Sequence[str]
) -> dict[str, int]:
    """Remove all rows of ``users`` and all superseded runs; return data set -> rows removed.

    A job that began before cannot publish afterwards; see Store.job. Checkpoints of unfinished
    trainings are removed too, which could not continue on the remaining rows. Reports of nights
    name no user, in the store and in MLflow.

    Raises:
        InputError: nothing is built in this store, or a date has examples of no other user.
    """
    with store.sole_writer():
        built = store.manifests(STATE)
        if not built:
            raise InputError(f"{store.url}: nothing is built here, so no user can be erased")
        spec = FeatureSpec.from_json(built[-1].facts["spec"])
        conditions = _conditions(spark, store, spec, users)
        today = datetime.now(UTC).date()
        store.publish(ERASURES, today, None, {"users": len(users)})
        replace_rows = partial(_replace_rows, store, spec, config)
        removed: dict[str, int] = {}
        store.remove_checkpoints()
        for name, condition in conditions.items():
            with stage(f"erase from {name}") as report:
                removed[name] = report.rows = _remove(spark, store, name, condition, replace_rows)
        store.vacuum(timedelta(0))
        return removed


def _conditions(
    spark: SparkSession, store: Store, spec: FeatureSpec, users: Sequence[str]
) -> dict[str, Column]:
    """Return what matches the users' rows in each data set that names users."""
    known = vocabulary.open_vocabulary(spark, store)[0].where(_in_vocabulary(spec, users))
    by_vocabulary = {(row["vocabulary"], row["id"]) for row in known.collect()}
    own = spec[spec.user].vocabulary
    ids = [number for name, number in by_vocabulary if name == own]
    user = spec[spec.user].log_name
    by_user = {
        User.KEY: column(user).cast("string").isin(*users),
        User.RAW: _raw_row_of(user, users),
        User.ID: F.col(spec.user).isin(ids),
        User.COUNTER_KEY: _of_users(spec, ids),
        User.VECTOR_ID: _of_vectors(by_vocabulary, own),
        User.VOCABULARY: _in_vocabulary(spec, users),
    }
    return {each.name: by_user[each.user] for each in DATA_SETS.values() if each.user in by_user}


def _replace_rows(
    store: Store, spec: FeatureSpec, config: BuildConfig, manifest: Manifest, rows: DataFrame
) -> Manifest:
    """Publish the remaining rows of a run in its place, and count the ids of examples again."""
    if manifest.name not in (EXAMPLES, HOLDOUT):
        return _publish(store, manifest, rows)
    day = date.fromisoformat(manifest.date)
    if manifest.name == EXAMPLES:
        counted = store.require(COUNTS, day, "run jobs.build_sequences for it")
        facts = counted.facts | {"content": counts.content(rows, spec)}
        _publish(store, counted, counts.count_ids(rows, spec), facts)
    publication = Publication(manifest.name, day, manifest.facts, replaces=manifest)
    return republish(store, publication, rows, spec, config)


def _remove(
    spark: SparkSession, store: Store, name: str, condition: Column, replace_rows: Replace
) -> int:
    """Remove the matching rows of every run, also of those published meanwhile."""
    removed = 0
    seen: set[str] = set()
    while new := [m for m in store.manifests(name) if m.folder not in seen]:
        for manifest in new:
            seen.add(manifest.folder)
            rows = store.read(spark, [manifest])
            if matches := rows.where(condition).count():
                remaining = rows.where(~F.coalesce(condition, F.lit(False)))
                seen.add(replace_rows(manifest, remaining).folder)
                removed += matches
    return removed


def _publish(
    store: Store, manifest: Manifest, rows: DataFrame, facts: dict[str, object] | None = None
) -> Manifest:
    day = date.fromisoformat(manifest.date)
    return store.publish(manifest.name, day, rows, facts or manifest.facts, replaces=manifest)


def _of_users(spec: FeatureSpec, ids: Sequence[int]) -> Column:
    """Match the users' rows in counters whose keys include the user."""
    matches = F.lit(False)
    for index, counter in enumerate(spec.counters):
        if spec.user in counter.keys:
            key = F.col(f"key_{counter.keys.index(spec.user)}")
            matches = matches | ((F.col("counter") == index) & key.isin(list(ids)))
    return matches


def _of_vectors(by_vocabulary: set[tuple[str, int]], own: str) -> Column:
    """Match the users' vectors; ``own`` is the vocabulary of the users themselves."""
    matches = F.lit(False)
    for name, number in by_vocabulary:
        if name != own:
            matches = matches | ((F.col("vocabulary") == name) & (F.col("id") == number))
    return matches


def _in_vocabulary(spec: FeatureSpec, users: Sequence[str]) -> Column:
    """Match the users' keys, and the keys of their vectors, in the vocabulary."""
    of_users = F.col("vocabulary") == spec[spec.user].vocabulary
    vectors = [f.vocabulary for f in spec.vectors if f.side == "user"]
    owner = F.regexp_replace("key", " [0-9a-f]{16}$", "")
    of_vectors = F.col("vocabulary").isin(vectors) & owner.isin(*users)
    return (of_users & F.col("key").isin(*users)) | of_vectors


def _raw_row_of(user: str, users: Sequence[str]) -> Column:
    """Match broken rows of the users by their user column or, if malformed, by their text."""
    values = F.from_json("raw", "map<string, string>")
    matches, malformed = values[user].isin(*users), values[CORRUPT]
    for key in users:
        matches = matches | malformed.rlike(rf"(?<![\w-])\Q{key}\E(?![\w-])")
    return F.coalesce(matches, F.lit(False))
