"""Builds one date: raw logs to vocabulary, examples(D), counters(D), state(D) and counts of ids.

Each step publishes what later steps need. The counts, which pin the examples and the state, come
last: a date is built if they match. A job killed earlier leaves the last published day and is run
again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.console import stage
from din_model.errors import InputError
from din_model.features import FIRST_ID, FeatureSpec
from pipelines.caching import cached, caching
from pipelines.examples import counts, data_quality
from pipelines.examples.data_quality import Numbers
from pipelines.examples.event_sums import EventSums, parent_sums
from pipelines.examples.negatives import with_negatives
from pipelines.examples.origin import origin_of, parent_state, print_stale
from pipelines.examples.publish import (
    BuildConfig,
    Past,
    Publication,
    join_and_publish,
    sample,
    unsampled_examples,
)
from pipelines.examples.split import SplitConfig, roles
from pipelines.examples.state import advance, as_behaviours
from pipelines.examples.vectors import publish_vectors, vectors_of
from pipelines.examples.vocabulary import encode, grow, keys_of, open_vocabulary
from pipelines.ingest.logs import DAY, Logs
from pipelines.ingest.quarantine import good, quarantine, quarantined, reasons
from pipelines.ingest.reading import files_of, fingerprint, naming_damaged
from pipelines.ingest.sources import require_logs, start_of
from pipelines.store import plan
from pipelines.store.data_sets import COUNTS, EXAMPLES, HOLDOUT, PINS, STATE
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store


@caching()
def build_day(
    logs: Logs,
    store: Store,
    config: BuildConfig,
    split: SplitConfig,
    day: date,
    log: Callable[[Numbers], None] = lambda _: None,
) -> Manifest:
    """Build and publish one date; return the manifest of its examples.

    Args:
        logs: the sources and the spec.
        store: where it is published.
        config: how examples are built.
        split: which rows are held out.
        day: the date.
        log: called with the numbers of the day before they are validated.

    Raises:
        InputError: the logs are lost or lack something, too many broken rows, numbers out of
            bounds, counts that do not add up, or another job that is building in the store.
    """
    require_logs(logs.sources, day)
    with store.sole_writer():
        return _build_day(_Job(logs, store, config, split, day, log))


@dataclass(frozen=True)
class _Job:
    """What every step of a build needs."""

    logs: Logs
    store: Store
    config: BuildConfig
    split: SplitConfig
    day: date
    log: Callable[[Numbers], None]

    @property
    def spec(self) -> FeatureSpec:
        """The contract of the build."""
        return self.logs.spec


@dataclass(frozen=True)
class _RawDay:
    """The logs of a day, good and broken rows together, cached."""

    impressions: DataFrame
    behaviours: DataFrame
    clicks: DataFrame | None
    funnel: dict[str, dict[str, int]]  # source -> rows by reason
    numbers: Numbers
    inputs: dict[str, Any]  # fingerprint of the log files

    @property
    def marked(self) -> dict[str, DataFrame]:
        """Rows by source."""
        frames = {"impressions": self.impressions, "behaviours": self.behaviours}
        return frames if self.clicks is None else frames | {"clicks": self.clicks}


@dataclass(frozen=True)
class _Vocabulary:
    """The vocabulary as grown by the day."""

    table: DataFrame  # (vocabulary, key, id)
    part: Manifest
    next_id: dict[str, int]

    @property
    def numbers(self) -> Numbers:
        """New keys and size of each vocabulary."""
        new = {f"vocabulary.{n}.new": self.part.facts["new"].get(n, 0) for n in self.next_id}
        return new | {f"vocabulary.{n}.size": i - FIRST_ID for n, i in self.next_id.items()}


def _build_day(job: _Job) -> Manifest:
    spark, spec, store, day = job.logs.spark, job.spec, job.store, job.day
    parent, first = parent_state(store, spec, day)
    counted = parent_sums(store, spec, parent, job.split)
    raw = _read_logs(job, first)
    quarantine(store, day, raw.marked, raw.funnel, job.config.max_broken)
    last = store.before(EXAMPLES, day)
    job.log(raw.numbers)
    data_quality.validate(raw.numbers, job.config.quality, last, day, complete=False)
    vocabulary = _grow_vocabulary(job, raw, first)
    facts = origin_of(job.logs, parent, counted, job.config, job.split) | {
        "inputs": raw.inputs,
        "funnel": raw.funnel,
        "next_id": vocabulary.next_id,
    }
    impressions = encode(good(raw.impressions), spec.features, vocabulary.table)
    mirrored = [f for f in spec.side("item", "user") if f.name in raw.behaviours.columns]
    behaviours = cached(encode(good(raw.behaviours), mirrored, vocabulary.table))
    state = store.read(spark, [parent]) if parent else None
    sums = EventSums(job.logs, store, job.split, day, counted, first, vocabulary.table)
    past = Past(_visible(behaviours, state, impressions, spec))
    if spec.counters:
        past = past._replace(sums=sums.visible(impressions, behaviours))
    check = _QualityCheck(job, raw.numbers | vocabulary.numbers, vocabulary, last)
    examples, facts = _publish_roles(job, impressions, past, vocabulary, facts, check)
    new_sums = _publish_counters(sums, impressions, behaviours, facts) if spec.counters else None
    with stage(f"{day} state") as report:
        rows = advance(state, behaviours, spec, start_of(day + DAY, spec.time_zone))
        new_state = store.publish(STATE, day, rows, facts)
        report.rows, report.note = new_state.rows, "users"
    _publish_counts(job, examples, new_state, new_sums)
    print_stale(store, day)
    return examples


def _read_logs(job: _Job, first: date | None) -> _RawDay:
    """Read impressions, behaviours and clicks; count them by reason, and measure impressions."""
    logs, store, day = job.logs, job.store, job.day
    with stage(f"{day} read logs") as report:
        impressions = logs.impressions(job.split.since(day), day)
        behaviours = logs.behaviours(first, day)
        inputs = fingerprint(logs.spark, [impressions, behaviours])
        files = files_of([impressions, behaviours])
        cached(impressions), cached(behaviours)
        clicks = None
        if logs.sources.clicks:
            built = store.manifest(EXAMPLES, day - DAY) is not None
            before = (
                store.read(logs.spark, [unsampled_examples(store, day - DAY)]) if built else None
            )
            clicks = cached(logs.clicks_accounted(day, good(impressions), before))
        with naming_damaged(logs.spark, files):
            counted, numbers = data_quality.of_impressions(impressions, job.spec, day)
            funnel = {"impressions": counted, "behaviours": reasons(behaviours)}
            funnel |= {"clicks": reasons(clicks)} if clicks is not None else {}
        numbers |= data_quality.of_clicks(funnel.get("clicks"))
        report.rows, report.note = sum(counted.values()), quarantined(funnel)
    return _RawDay(impressions, behaviours, clicks, funnel, numbers, inputs)


def _grow_vocabulary(job: _Job, raw: _RawDay, first: date | None) -> _Vocabulary:
    """Assign ids to the keys of the day and, in a cold build, of the days before it."""
    logs, store, day, features = job.logs, job.store, job.day, job.spec.features
    with stage(f"{day} vocabulary") as report:
        in_behaviours = [f for f in features if f.name in raw.behaviours.columns]
        keys = [
            keys_of(good(raw.impressions), features),
            keys_of(good(raw.behaviours), in_behaviours),
        ]
        if (older := logs.days_before(first, day)) and job.split.since(day):
            # A cold build assigns the ids that building day by day would have assigned.
            keys.append(keys_of(good(logs.impressions(*older)), features))
        vectors = cached(vectors_of(logs, day)) if job.spec.vectors else None
        if vectors:
            keys.append(vectors.select("vocabulary", "key", F.lit(day).alias("day")))
        part = grow(store, day, reduce(DataFrame.unionByName, keys))
        if vectors:
            publish_vectors(store, logs, day, part, vectors)
        table, next_id = open_vocabulary(logs.spark, store)
        report.rows, report.note = sum(part.facts["new"].values()), "new keys"
    return _Vocabulary(table, part, next_id)


def _visible(
    behaviours: DataFrame, state: DataFrame | None, impressions: DataFrame, spec: FeatureSpec
) -> DataFrame:
    """Return the behaviours of the day and, for users with impressions, those of the state."""
    if state is None:
        return behaviours
    users = impressions.select(spec.user).distinct()
    past = as_behaviours(state.join(users, spec.user, "left_semi"), spec)
    return behaviours.unionByName(past, allowMissingColumns=True)


@dataclass(frozen=True)
class _QualityCheck:
    """Measures written examples before they are published, and validates all numbers of the day."""

    job: _Job
    numbers: Numbers
    vocabulary: _Vocabulary
    last: Manifest | None

    def __call__(self, manifest: Manifest) -> None:
        job = self.job
        written = job.store.read(job.logs.spark, [manifest])
        first_new = self.vocabulary.part.facts["first_new"]
        numbers = self.numbers | data_quality.of_examples(written, job.spec, first_new)
        manifest.facts["quality"] = numbers
        job.log(numbers)
        data_quality.validate(numbers, job.config.quality, self.last, job.day, complete=True)


def _publish_roles(
    job: _Job, impressions: DataFrame, past: Past, vocabulary: _Vocabulary,
    facts: dict[str, Any], check: _QualityCheck,
) -> tuple[Manifest, dict[str, Any]]:  # fmt: skip
    """Publish holdout and examples; return the examples, and the facts with the data quality.

    Raises:
        InputError: the examples do not add up to the good impressions.
    """
    spec, config, day = job.spec, job.config, job.day
    by_role, complete_role = _roles(job, impressions)
    published: dict[str, Manifest] = {}
    for role, rows in by_role.items():
        cutoff = F.lit(start_of(day, spec.time_zone)) if spec.cutoff == "day" else F.col("time")
        rows = rows.withColumn("cutoff", cutoff)
        if config.negatives:
            rows = with_negatives(
                rows, past.behaviours, job.logs, vocabulary.table, vocabulary.part.facts["known"],
                config.negatives, day,
            )  # fmt: skip
        rate = config.sample_rate if role == EXAMPLES else 1.0
        sampled = {"sample_rate": rate}
        if config.negatives:
            sampled |= {
                "logit_shift": config.negatives.logit_shift,
                "popularity_weight": config.negatives.popularity_weight,
            }
        publication = Publication(
            role, day, facts | sampled, check if role == complete_role else None
        )
        with stage(f"{day} {role}") as report:
            published[role] = join_and_publish(job.store, publication, rows, past, spec, config)
            report.rows = published[role].rows
        if role == complete_role:
            facts = facts | {"quality": published[role].facts["quality"]}
    drawn = config.negatives.per_positive if config.negatives else 0
    good_impressions = facts["funnel"]["impressions"].get("good", 0)
    rows_published = published[complete_role].rows
    if job.split.by == "date" and rows_published != good_impressions * (1 + drawn):
        raise InputError(
            f"{day}: {good_impressions} good impressions, but {rows_published} examples: rows were"
            " lost or doubled, which is a bug"
        )
    return published[EXAMPLES], facts


def _roles(job: _Job, impressions: DataFrame) -> tuple[dict[str, DataFrame], str]:
    """Split the impressions by role; return also the role that holds all of them."""
    by_role = roles(impressions, job.spec, job.split)
    if job.config.sample_rate == 1:
        return by_role, EXAMPLES
    sampled = sample(by_role[EXAMPLES], job.config)
    if job.split.by == "date":
        return {HOLDOUT: by_role[EXAMPLES], EXAMPLES: sampled}, HOLDOUT
    return by_role | {EXAMPLES: sampled}, EXAMPLES


def _publish_counters(
    sums: EventSums, impressions: DataFrame, behaviours: DataFrame, facts: dict[str, Any]
) -> Manifest:
    """Publish the counters before the state: a later day finds both or neither."""
    with stage(f"{sums.day} counters") as report:
        published = sums.publish(impressions, behaviours, facts)
        report.rows, report.note = published.rows, "sums"
    return published


def _publish_counts(job: _Job, examples: Manifest, state: Manifest, sums: Manifest | None) -> None:
    """Publish the counts of ids last: they pin the other data sets, which makes the date built."""
    with stage(f"{job.day} counts") as report:
        rows = job.store.read(job.logs.spark, [examples])
        facts = {PINS: plan.pins(examples, state, sums), "content": counts.content(rows, job.spec)}
        counted = counts.count_ids(rows, job.spec)
        report.rows = job.store.publish(COUNTS, job.day, counted, facts).rows
