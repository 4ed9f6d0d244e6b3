"""Publishes examples: rows with histories, in files of equal rows.

Users come in a seeded order, so each file is a sample of the users. The rows of a user follow each
other, and share their history. The build publishes new examples; erasure publishes the remaining
rows of old ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.config import Section
from din_model.errors import InputError
from din_model.features import FeatureSpec
from din_model.ranges import Date, PositiveShare, Seed, Share, Size
from pipelines.caching import cached, caching
from pipelines.examples import counters
from pipelines.examples.data_quality import QualityConfig
from pipelines.examples.histories import once, shared_by, with_histories
from pipelines.examples.negatives import NegativesConfig
from pipelines.examples.partitioning import exactly_by, with_rank
from pipelines.examples.point_in_time_join import attach_history, unpack
from pipelines.examples.vocabulary import padded
from pipelines.ingest.sources import start_of
from pipelines.store.data_sets import EXAMPLES, HOLDOUT
from pipelines.store.manifest import Manifest
from pipelines.store.parquet import Prepare
from pipelines.store.store import Store

LEAST_FILES = 4
"""Minimum number of files of a date: training on one date holds some of them out for validation."""

Check = Callable[[Manifest], None]


@dataclass(frozen=True)
class BuildConfig(Section):
    """How examples are built and written.

    Attributes:
        first: jobs.build_sequences builds every date from here to --date; null: only that date.
        shards: the number of files is a multiple of it, so that this many ranks get equal shares.
        rows_per_file: maximum rows of a file; each file is one row group.
        seed: of the order of the rows, and of the sample.
        sample_rate: share of unclicked impressions to train on, in (0, 1]; evaluation rows are
            never sampled.
        max_broken: share of broken rows (without repeats) above which nothing is published.
        quality: limits on the numbers of a day.
        negatives: unclicked rows to sample, for logs of positives only.
    """

    first: Date | None = None
    shards: Size = 4
    rows_per_file: Size = 50_000
    seed: Seed = 2019
    sample_rate: PositiveShare = 1.0
    max_broken: Share = 0.01
    quality: QualityConfig = field(default_factory=QualityConfig)
    negatives: NegativesConfig | None = None


def unsampled_examples(store: Store, day: date) -> Manifest:
    """Return all good impressions of a date, also if its examples are a sample of them."""
    examples = store.require(EXAMPLES, day, "run jobs.build_sequences for it")
    if examples.facts["sample_rate"] == 1:
        return examples
    return store.require(HOLDOUT, day, "run jobs.build_sequences for it")


def sample(rows: DataFrame, config: BuildConfig) -> DataFrame:
    """Return all clicked rows, and the configured share of the others, chosen by a seeded hash."""
    number = F.pmod(F.xxhash64("example_id", F.lit(config.seed), F.lit("sample")), F.lit(2**53))
    return rows.where((F.col("label") > 0) | (number < config.sample_rate * 2**53))


@dataclass(frozen=True)
class Publication:
    """What a run of examples is published as.

    Attributes:
        name: ``examples`` or ``holdout``.
        day: the date.
        facts: recorded in the manifest.
        check: further check of the written files before they are published.
        replaces: the run whose remaining rows these are, after an erasure.
    """

    name: str
    day: date
    facts: dict[str, Any]
    check: Check | None = None
    replaces: Manifest | None = None


class Past(NamedTuple):
    """What happened before rows: behaviours, and the partial sums of the counters, if any."""

    behaviours: DataFrame
    sums: DataFrame | None = None


@caching()
def join_and_publish(
    store: Store, publication: Publication, rows: DataFrame, past: Past, spec: FeatureSpec,
    config: BuildConfig,
) -> Manifest:  # fmt: skip
    """Attach counters and histories to encoded rows with ``cutoff``, and publish them.

    Raises:
        InputError: there are no rows, or the written files are not equal.
    """
    placed = _place(_numeric(rows, spec), publication, spec, config)
    targets = placed.rows
    if past.sums is not None:
        day = start_of(publication.day, spec.time_zone) if spec.cutoff == "day" else None
        targets = counters.attach(targets, past.sums, spec, day)
    joined = attach_history(targets, past.behaviours, spec, once_in=("_file", "_rank"))
    return _publish(store, publication, placed, joined, unpack(spec))


@caching()
def republish(
    store: Store, publication: Publication, examples: DataFrame, spec: FeatureSpec,
    config: BuildConfig,
) -> Manifest:  # fmt: skip
    """Publish examples that already have their histories, in files of equal rows.

    Raises:
        InputError: there are no rows, or the written files are not equal.
    """
    placed = _place(with_histories(examples, spec), publication, spec, config)
    return _publish(store, publication, placed, placed.rows, once(spec))


class _Placed(NamedTuple):
    rows: DataFrame  # with _rank and _file
    total: int
    files: int


def _place(
    rows: DataFrame, publication: Publication, spec: FeatureSpec, config: BuildConfig
) -> _Placed:
    """Rank rows by a seeded hash of the user, and assign each to one of the files of equal rows."""
    user, row = (F.xxhash64(name, F.lit(config.seed)) for name in (spec.user, "example_id"))
    order = [user, *map(F.col, [*shared_by(spec)]), row, F.col("example_id"), F.col("time")]
    ranked = cached(with_rank(rows, *order, F.col(spec.item), name="_rank"))
    count = ranked.count()
    if count == 0:
        raise InputError(
            f"{publication.name} of {publication.day}: no rows are left to publish: all are broken"
            " (data set quarantine), left out by split.skip_first, or by build.sample_rate"
        )
    by_size = -(-count // config.rows_per_file)
    files = min(count, config.shards * -(-max(by_size, LEAST_FILES) // config.shards))
    placed = ranked.withColumn("_file", F.expr(f"cast(_rank * {files} div {count} as int)"))
    return _Placed(placed, count, files)


def _publish(
    store: Store, publication: Publication, placed: _Placed, examples: DataFrame, prepare: Prepare
) -> Manifest:
    name, day = publication.name, publication.day

    def check(manifest: Manifest) -> None:
        sizes: Sequence[int] = [f.rows for f in manifest.files]
        equal = sizes and max(sizes) - min(sizes) <= 1
        if sum(sizes) != placed.total or len(sizes) != placed.files or not equal:
            raise InputError(
                f"{name} of {day}: expected {placed.total} rows in {placed.files} equal files, but"
                f" {sizes} were written: run the job again"
            )
        if any(f.row_groups != 1 for f in manifest.files):
            raise InputError(
                f"{name} of {day}: a file has more than one row group: lower build.rows_per_file"
            )
        if publication.check:
            publication.check(manifest)

    examples = exactly_by(examples, "_file", placed.files).sortWithinPartitions("_rank")
    return store.publish(
        name, day, examples.drop("_rank", "_file"), publication.facts, check, prepare,
        publication.replaces,
    )  # fmt: skip


def _numeric(rows: DataFrame, spec: FeatureSpec) -> DataFrame:
    """Return the columns of an example: numeric, never null, lists padded and with lengths."""
    optional = [c for c in ("weight", "reference") if c in rows.columns]
    columns = [F.col("example_id"), F.col("time"), F.col("cutoff")]
    columns += [F.col(c).cast("float").alias(c) for c in ("label", *optional)]
    for f in spec.features:
        kind = "float" if f.is_value else "int"
        columns += padded(f) if f.is_list else [F.col(f.name).cast(kind).alias(f.name)]
    return rows.select(*columns)
