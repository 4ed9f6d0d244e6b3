"""Builds one date: raw logs -> vocabulary, examples(D), state(D) and their counts, each published.

The order is the safety: what a later step needs is published before it, and the counts, which pin
the examples they were taken from, come last. A date is built when they match; a job killed earlier
leaves yesterday's answer standing and is simply run again.
"""

from collections.abc import Callable
from datetime import date
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.config import to_dict
from din_model.console import console, stage
from din_model.errors import InputError
from din_model.features import FIRST_ID, FeatureSpec
from pipelines.examples import counts
from pipelines.examples import data_quality as quality
from pipelines.examples.data_quality import Numbers
from pipelines.examples.negatives import with_negatives
from pipelines.examples.publish import (
    EXAMPLES,
    HOLDOUT,
    BuildConfig,
    publish_examples,
    sample,
    unsampled_examples,
)
from pipelines.examples.split import SplitConfig, roles
from pipelines.examples.state import STATE, advance, as_behaviours
from pipelines.examples.vocabulary import encode, grow, keys_of, open_vocabulary
from pipelines.ingest.logs import DAY, Logs
from pipelines.ingest.quarantine import good, quarantine, quarantined, reasons
from pipelines.ingest.sources import fingerprint, start_of
from pipelines.store.store import Manifest, Store


def is_built(store: Store, day: date) -> bool:
    """Whether everything of a date is published and belongs together."""
    examples, counted = store.manifest(EXAMPLES, day), store.manifest(counts.NAME, day)
    state = store.manifest(STATE, day)
    if not (examples and counted and state):
        return False
    return bool(counted.facts["examples"] == examples.id and counted.facts["state"] == state.id)


def is_current(
    logs: Logs, store: Store, config: BuildConfig, split: SplitConfig, day: date
) -> bool:
    """Whether building a date again would read the same logs and state, and do the same to them."""
    if not is_built(store, day):
        return False
    parent, first = _parent(store, logs.spec, day)
    frames = [logs.impressions(split.since(day), day), logs.behaviours(first, day)]
    now = _origin(logs, parent, config, split) | {"inputs": fingerprint(logs.spark, frames)}
    facts = store.require(STATE, day, "").facts
    return all(facts.get(name) == value for name, value in now.items())


def build_day(
    logs: Logs,
    store: Store,
    config: BuildConfig,
    split: SplitConfig,
    day: date,
    log: Callable[[Numbers], None] = lambda numbers: None,
) -> Manifest:
    """Build and publish one date; return the manifest of its examples.

    ``log`` is told the day's numbers before they are judged.

    Raises:
        InputError: what the logs lack, too many broken rows, numbers out of bounds, or counts that
            do not reconcile; another job that is building in the store.
    """
    with store.sole_writer():
        return _build_day(logs, store, config, split, day, log)


def _build_day(
    logs: Logs, store: Store, config: BuildConfig, split: SplitConfig, day: date,
    log: Callable[[Numbers], None],
) -> Manifest:  # fmt: skip
    spark, spec = logs.spark, logs.spec
    parent, first = _parent(store, spec, day)
    facts = _origin(logs, parent, config, split)

    with stage(f"{day} read logs") as report:
        shown, done = logs.impressions(split.since(day), day), logs.behaviours(first, day)
        facts["inputs"] = fingerprint(spark, [shown, done])
        shown.persist(), done.persist()
        marked = {"impressions": shown, "behaviours": done}
        if logs.sources.clicks:
            known = store.manifest(EXAMPLES, day - DAY) is not None
            before = store.read(spark, [unsampled_examples(store, day - DAY)]) if known else None
            marked["clicks"] = logs.clicks_accounted(day, good(shown), before)
        counted, numbers = quality.of_impressions(shown, spec, day)
        others = {name: reasons(rows) for name, rows in marked.items() if rows is not shown}
        funnel = {"impressions": counted} | others
        report.rows = sum(funnel["impressions"].values())
        report.note = quarantined(funnel)
    quarantine(store, day, marked, funnel, config.max_broken)
    facts["funnel"] = funnel
    last = store.before(EXAMPLES, day)
    log(numbers)
    quality.validate(numbers, config.quality, last, day, whole=False)

    with stage(f"{day} vocabulary") as report:
        keys = [keys_of(good(shown), spec.features), _behaviour_keys(good(done), spec)]
        if (older := _days_before(logs, first, day)) and split.since(day):
            # A cold build gives the ids that the same days would have given one by one.
            keys.append(keys_of(good(logs.impressions(*older)), spec.features))
        part = grow(store, day, reduce(DataFrame.unionByName, keys))
        vocabulary, facts["next_id"] = open_vocabulary(spark, store)
        report.rows, report.note = sum(part.facts["new"].values()), "new keys"
    for name, following in facts["next_id"].items():
        numbers[f"vocabulary.{name}.new"] = part.facts["new"].get(name, 0)
        numbers[f"vocabulary.{name}.size"] = following - FIRST_ID

    seen = encode(good(shown), spec.features, vocabulary)
    mirrored = [f for f in spec.side("item", "user") if f.name in done.columns]
    behaviours = encode(good(done), mirrored, vocabulary).persist()
    state = store.read(spark, [parent]) if parent else None
    visible = behaviours
    if state is not None:
        past = as_behaviours(
            state.join(seen.select(spec.user).distinct(), spec.user, "left_semi"), spec
        )
        visible = behaviours.unionByName(past, allowMissingColumns=True)

    def check_quality(manifest: Manifest) -> None:
        written = spark.read.parquet(*store.urls(manifest, hidden=True))
        measured = quality.of_examples(written, spec, part.facts["first_new"])
        facts["quality"] = manifest.facts["quality"] = numbers | measured
        log(facts["quality"])
        quality.validate(facts["quality"], config.quality, last, day, whole=True)

    published: dict[str, Manifest] = {}
    by_role = roles(seen, spec, split)
    everything = EXAMPLES
    if config.sample_rate < 1:
        sampled = sample(by_role[EXAMPLES], config)
        if split.by == "date":
            by_role, everything = {HOLDOUT: by_role[EXAMPLES]}, HOLDOUT
        by_role[EXAMPLES] = sampled
    for role, rows in by_role.items():
        cutoff = F.lit(start_of(day, spec.time_zone)) if spec.cutoff == "day" else F.col("time")
        rows = rows.withColumn("cutoff", cutoff)
        if config.negatives:
            rows = with_negatives(
                rows, visible, logs, vocabulary, part.facts["known"], config.negatives, day
            )
        with stage(f"{day} {role}") as report:
            shift = config.negatives.logit_shift if config.negatives else 0.0
            about = facts | {"logit_shift": shift}
            about |= {"sample_rate": config.sample_rate if role == EXAMPLES else 1.0}
            check = check_quality if role == everything else _unchecked
            published[role] = publish_examples(
                store, role, day, rows, visible, spec, config, about, check
            )
            report.rows = published[role].rows
    if split.by == "date" and published[everything].rows != _in_order(funnel, config):
        raise InputError(
            f"{day}: {funnel['impressions'].get('good', 0)} good impressions, but"
            f" {published[everything].rows} examples: nothing may be lost"
        )
    with stage(f"{day} state") as report:
        rows = advance(state, behaviours, spec, start_of(day + DAY, spec.time_zone))
        new_state = store.publish(STATE, day, rows, facts)
        report.rows, report.note = new_state.rows, "users"
    with stage(f"{day} counts") as report:
        examples = store.read(spark, [published[EXAMPLES]])
        rows = counts.count_ids(examples, spec)
        pins = {"examples": published[EXAMPLES].id, "state": new_state.id}
        pins["content"] = counts.content(examples)
        report.rows = store.publish(counts.NAME, day, rows, pins).rows
    for frame in (shown, done, behaviours):
        frame.unpersist()
    _tell_stale(store, day)
    return published[EXAMPLES]


def _origin(
    logs: Logs, parent: Manifest | None, config: BuildConfig, split: SplitConfig
) -> dict[str, Any]:
    """What the rows of a date hang on, beside the logs."""
    judged_only = {"first", "max_broken", "quality"}
    return {
        "spec": logs.spec.to_json(),
        "spec_hash": logs.spec.hash,
        "parent": parent.id if parent else None,
        "build": {n: v for n, v in to_dict(config).items() if n not in judged_only},
        "split": to_dict(split),
    }


def _parent(store: Store, spec: FeatureSpec, day: date) -> tuple[Manifest | None, date | None]:
    """The newest state before ``day``, and the first day that it does not hold."""
    parent = store.before(STATE, day)
    if parent is None:
        return None, None
    if parent.facts["spec_hash"] != spec.hash:
        raise InputError(
            f"{store.url}/{STATE}: the state of {parent.date} was built with another spec"
            f" ({parent.facts['spec_hash']}, now {spec.hash}): use another store.path, or put"
            " features and history back"
        )
    return parent, date.fromisoformat(parent.date) + DAY


def _days_before(logs: Logs, first: date | None, day: date) -> tuple[date | None, date] | None:
    """The span of days before ``day`` whose impressions no vocabulary has seen."""
    start = first or (logs.since if logs.sources.impressions.dated else None)
    if start is not None and start >= day:
        return None
    return start, day - DAY


def _behaviour_keys(behaviours: DataFrame, spec: FeatureSpec) -> DataFrame:
    return keys_of(behaviours, [f for f in spec.features if f.name in behaviours.columns])


def _in_order(funnel: dict[str, dict[str, int]], config: BuildConfig) -> int:
    drawn = config.negatives.per_positive if config.negatives else 0
    return funnel["impressions"]["good"] * (1 + drawn)


def _unchecked(manifest: Manifest) -> None:
    """For rows that no quality gate looks at."""


def _tell_stale(store: Store, day: date) -> None:
    """Say which later dates were built upon a state that is no longer the published one."""
    current, stale = set(), []
    for state in store.manifests(STATE):
        parent = state.facts["parent"]
        if parent is None or parent in current:
            current.add(state.id)
        else:
            stale.append(state.date)
    if stale:
        listed = ", ".join(stale)
        console.print(f"  built upon the superseded state, build again if {day} changed: {listed}")
