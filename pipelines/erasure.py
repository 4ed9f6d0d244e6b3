"""Takes users out of all that is published: state, examples, counts, scores, what was set aside.

The raw logs are their owner's to clean, before this: a later build reads them again. What is left
keeps its id, so no date counts as stale. The vocabulary, which knows whose id is whose, forgets the
users last, so a job that was killed is simply run again.
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
from pipelines.examples import counts, vocabulary
from pipelines.examples.publish import EXAMPLES, HOLDOUT, BuildConfig, publish_examples
from pipelines.examples.state import STATE
from pipelines.ingest.quarantine import QUARANTINE
from pipelines.ingest.sources import CORRUPT
from pipelines.scoring.score_date import REFUSED, SCORES
from pipelines.store.store import Manifest, Store

Replace = Callable[[Manifest, DataFrame], None]


@dataclass(frozen=True)
class EraseConfig(Section):
    """Whom jobs.erase takes out.

    Attributes:
        users: their keys, as the logs have them.
    """

    users: tuple[str | int, ...] = ()


def erase(
    spark: SparkSession, store: Store, config: BuildConfig, users: Sequence[str]
) -> dict[str, int]:
    """Remove every row of ``users``, and every superseded run; return data set -> rows removed.

    Raises:
        InputError: nothing is built in this store, or nobody else has an example on some date.
    """
    with store.sole_writer():
        built = store.manifests(STATE)
        if not built:
            raise InputError(f"{store.url}: nothing is built here, so there is nobody to erase")
        spec = FeatureSpec.from_json(built[-1].facts["spec"])
        known = vocabulary.open_vocabulary(spark, store)[0].where(_in_vocabulary(spec, users))
        by_id = F.col(spec.user).isin([row["id"] for row in known.collect()])
        by_key = F.col(spec.user).cast("string").isin(*users)
        set_aside, replace = _told_in_raw(spec.user, users), partial(_publish, store)

        def replace_examples(manifest: Manifest, rows: DataFrame) -> None:
            day = date.fromisoformat(manifest.date)
            if manifest.name == EXAMPLES:
                counted = store.require(counts.NAME, day, "run jobs.build_sequences for it")
                facts = counted.facts | {"content": counts.content(rows)}
                _publish(store, counted, counts.count_ids(rows, spec), facts)
            publish_examples(
                store, manifest.name, day, rows, None, spec, config, manifest.facts,
                replaces=manifest,
            )  # fmt: skip

        removed: dict[str, int] = {}
        steps: list[tuple[str, Column, Replace]] = [
            (SCORES, by_key, replace),
            (REFUSED, set_aside, replace),
            (QUARANTINE, set_aside, replace),
            (EXAMPLES, by_id, replace_examples),
            (HOLDOUT, by_id, replace_examples),
            (STATE, by_id, replace),
            (vocabulary.NAME, _in_vocabulary(spec, users), replace),
        ]
        for name, theirs, put in steps:
            with stage(f"erase from {name}") as report:
                removed[name] = report.rows = _remove(spark, store, name, theirs, put)
        store.prune(datetime.now(timezone.utc))
        return removed


def _remove(spark: SparkSession, store: Store, name: str, theirs: Column, put: Replace) -> int:
    removed = 0
    for manifest in store.manifests(name):
        rows = store.read(spark, [manifest])
        if found := rows.where(theirs).count():
            put(manifest, rows.where(~F.coalesce(theirs, F.lit(False))))
            removed += found
    return removed


def _publish(
    store: Store, manifest: Manifest, rows: DataFrame, facts: dict[str, object] | None = None
) -> None:
    day = date.fromisoformat(manifest.date)
    store.publish(manifest.name, day, rows, facts or manifest.facts, replaces=manifest)


def _in_vocabulary(spec: FeatureSpec, users: Sequence[str]) -> Column:
    mine = F.col("vocabulary") == spec[spec.user].vocabulary
    return mine & F.col("key").isin(*users)


def _told_in_raw(user: str, users: Sequence[str]) -> Column:
    """Whether a broken row is of the users: by its user column, or, malformed, by its text."""
    theirs = F.get_json_object("raw", f"$.{user}").isin(*users)
    malformed = F.get_json_object("raw", f"$.{CORRUPT}")
    for key in users:
        theirs = theirs | malformed.rlike(rf"(?<![\w-])\Q{key}\E(?![\w-])")
    return F.coalesce(theirs, F.lit(False))
