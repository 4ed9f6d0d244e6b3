"""Rows with their histories -> files of examples, equal in rows and in no user's order.

Called by the build, which decides what becomes an example, and by erasure, which takes some away.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.config import Section
from din_model.errors import InputError
from din_model.features import FeatureSpec
from pipelines.examples.data_quality import QualityConfig
from pipelines.examples.negatives import NegativesConfig
from pipelines.examples.partitioning import exactly_by, with_rank
from pipelines.examples.point_in_time_join import attach_history, unpack
from pipelines.examples.vocabulary import padded
from pipelines.store.store import Manifest, Store

EXAMPLES, HOLDOUT = "examples", "holdout"

Check = Callable[[Manifest], None]


@dataclass(frozen=True)
class BuildConfig(Section):
    """How examples are built and written.

    Attributes:
        first: jobs.build_sequences builds every date from here to --date; null: that one alone.
        shards: the number of files is a multiple of it, so that so many ranks get equal shares.
        rows_per_file: the most rows of a file; each file is one row group.
        seed: of the order of the rows, and of the sample.
        sample_rate: the share of unclicked impressions to train on, in (0, 1]; what judges is never
            sampled.
        max_broken: the share of broken rows (repeats apart) above which nothing is published.
        quality: the gate that a day's numbers must pass.
        negatives: unclicked rows to be drawn, for logs of clicks alone.
    """

    first: date | None = None
    shards: int = 4
    rows_per_file: int = 50_000
    seed: int = 2019
    sample_rate: float = 1.0
    max_broken: float = 0.01
    quality: QualityConfig = field(default_factory=QualityConfig)
    negatives: NegativesConfig | None = None

    def __post_init__(self) -> None:
        if not 0 < self.sample_rate <= 1:
            raise ValueError("sample_rate must lie in (0, 1]")


def unsampled_examples(store: Store, day: date) -> Manifest:
    """All good impressions of a date, where its examples may be a sample of them."""
    examples = store.require(EXAMPLES, day, "run jobs.build_sequences for it")
    if examples.facts["sample_rate"] == 1:
        return examples
    return store.require(HOLDOUT, day, "run jobs.build_sequences for it")


def sample(rows: DataFrame, config: BuildConfig) -> DataFrame:
    """All clicked rows, and the configured share of the others, drawn by a seeded hash."""
    drawn = F.pmod(F.xxhash64("example_id", F.lit(config.seed), F.lit("sample")), F.lit(2**53))
    return rows.where((F.col("label") > 0) | (drawn < config.sample_rate * 2**53))


def publish_examples(
    store: Store, name: str, day: date, rows: DataFrame, behaviours: DataFrame | None,
    spec: FeatureSpec, config: BuildConfig, facts: dict[str, Any],
    check_more: Check = lambda manifest: None, replaces: Manifest | None = None,
) -> Manifest:  # fmt: skip
    """Order by a seeded hash, attach histories, write files of equal rows.

    Args:
        rows: encoded, with ``cutoff``; where ``behaviours`` is None they are examples already.
        replaces: the published examples that ``rows`` are what is left of; their place is taken.
    """
    shuffled = F.xxhash64("example_id", F.lit(config.seed))
    targets = rows if behaviours is None else _numeric(rows, spec)
    ranked = with_rank(targets, shuffled, "example_id", "time", spec.item, name="_rank").persist()
    count = ranked.count()
    if count == 0:
        raise InputError(f"{name} of {day}: no rows are left")
    shards = config.shards
    files = min(count, shards * -(-count // (shards * config.rows_per_file)))
    placed = ranked.withColumn("_file", F.expr(f"cast(_rank * {files} div {count} as int)"))
    joined = placed if behaviours is None else attach_history(placed, behaviours, spec)
    prepare = iter if behaviours is None else unpack(spec)
    examples = exactly_by(joined, "_file", files).sortWithinPartitions("_rank")

    def check(manifest: Manifest) -> None:
        sizes: Sequence[int] = [f.rows for f in manifest.files]
        if sum(sizes) != count or len(sizes) != files or max(sizes) - min(sizes) > 1:
            raise InputError(f"{name} of {day}: {count} rows in {files} files meant, got {sizes}")
        if any(f.row_groups != 1 for f in manifest.files):
            raise InputError(
                f"{name} of {day}: a file has more than one row group: lower rows_per_file"
            )
        check_more(manifest)

    examples = examples.drop("_rank", "_file")
    manifest = store.publish(name, day, examples, facts, check, prepare, replaces)
    ranked.unpersist()
    return manifest


def _numeric(rows: DataFrame, spec: FeatureSpec) -> DataFrame:
    """Exactly the columns of an example, numeric and never null; lists padded, with lengths."""
    optional = [c for c in ("weight", "reference") if c in rows.columns]
    columns = [F.col("example_id"), F.col("time"), F.col("cutoff")]
    columns += [F.col(c).cast("float").alias(c) for c in ("label", *optional)]
    for f in spec.features:
        columns += padded(f) if f.is_list else [F.col(f.name).cast("int").alias(f.name)]
    return rows.select(*columns)
