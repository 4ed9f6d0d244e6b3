"""Removes users from published data: state, counters, examples, scores, quarantine and others.

Clean the raw logs first, because a later build reads them again. A rewritten run keeps its id, so
no date becomes stale. The vocabulary, which maps ids to users, forgets the users last, so a killed
job can be run again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
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
from pipelines.examples.counters import COUNTERS
from pipelines.examples.publish import EXAMPLES, HOLDOUT, BuildConfig, Publication, republish
from pipelines.examples.state import STATE
from pipelines.examples.vectors import VECTORS
from pipelines.ingest.quarantine import QUARANTINE
from pipelines.ingest.sources import CORRUPT
from pipelines.scoring.score_date import REFUSED, SCORES
from pipelines.scoring.shadow import SHADOW
from pipelines.store.store import Manifest, Store

Replace = Callable[[Manifest, DataFrame], None]


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

    Raises:
        InputError: nothing is built in this store, or a date has examples of no other user.
    """
    with store.sole_writer():
        built = store.manifests(STATE)
        if not built:
            raise InputError(f"{store.url}: nothing is built here, so no user can be erased")
        spec = FeatureSpec.from_json(built[-1].facts["spec"])
        known = vocabulary.open_vocabulary(spark, store)[0].where(_in_vocabulary(spec, users))
        by_vocabulary = {(row["vocabulary"], row["id"]) for row in known.collect()}
        own = spec[spec.user].vocabulary
        ids = [number for name, number in by_vocabulary if name == own]
        by_id = F.col(spec.user).isin(ids)
        user = spec[spec.user].log_name
        by_key = column(user).cast("string").isin(*users)
        in_raw, replace = _raw_row_of(user, users), partial(_publish, store)

        def replace_examples(manifest: Manifest, rows: DataFrame) -> None:
            day = date.fromisoformat(manifest.date)
            if manifest.name == EXAMPLES:
                counted = store.require(counts.NAME, day, "run jobs.build_sequences for it")
                facts = counted.facts | {"content": counts.content(rows)}
                _publish(store, counted, counts.count_ids(rows, spec), facts)
            publication = Publication(manifest.name, day, manifest.facts, replaces=manifest)
            republish(store, publication, rows, spec, config)

        removed: dict[str, int] = {}
        steps: list[tuple[str, Column, Replace]] = [
            (SCORES, by_key, replace),
            (SHADOW, by_key, replace),
            (REFUSED, in_raw, replace),
            (QUARANTINE, in_raw, replace),
            (EXAMPLES, by_id, replace_examples),
            (HOLDOUT, by_id, replace_examples),
            (COUNTERS, _of_users(spec, ids), replace),
            (STATE, by_id, replace),
            (VECTORS, _of_vectors(by_vocabulary, own), replace),
            (vocabulary.NAME, _in_vocabulary(spec, users), replace),
        ]
        for name, condition, replace_rows in steps:
            with stage(f"erase from {name}") as report:
                removed[name] = report.rows = _remove(spark, store, name, condition, replace_rows)
        store.prune(datetime.now(timezone.utc))
        return removed


def _remove(
    spark: SparkSession, store: Store, name: str, condition: Column, replace_rows: Replace
) -> int:
    removed = 0
    for manifest in store.manifests(name):
        rows = store.read(spark, [manifest])
        if matches := rows.where(condition).count():
            replace_rows(manifest, rows.where(~F.coalesce(condition, F.lit(False))))
            removed += matches
    return removed


def _publish(
    store: Store, manifest: Manifest, rows: DataFrame, facts: dict[str, object] | None = None
) -> None:
    day = date.fromisoformat(manifest.date)
    store.publish(manifest.name, day, rows, facts or manifest.facts, replaces=manifest)


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
