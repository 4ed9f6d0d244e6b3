"""Checks for training-serving skew: attaches a day's counters and histories as scoring does."""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.console import stage
from din_model.errors import InputError
from din_model.features import FeatureSpec
from pipelines.examples.counters import attach
from pipelines.examples.histories import with_histories
from pipelines.examples.point_in_time_join import attach_history, unpacked
from pipelines.examples.publish import unsampled_examples
from pipelines.examples.state import as_behaviours
from pipelines.examples.vocabulary import open_vocabulary
from pipelines.ingest.logs import DAY, Logs, with_serving_defaults
from pipelines.ingest.sources import start_of
from pipelines.scoring.scorer import encode_candidates
from pipelines.store.data_sets import COUNTERS, STATE
from pipelines.store.store import Store


def replay(logs: Logs, store: Store, day: date) -> int:
    """Compare what scoring attaches to ``day``'s impressions with counters and histories there.

    Returns the number of rows compared.

    Raises:
        InputError: rows differ, or history.cutoff is not day.
    """
    examples = unsampled_examples(store, day)
    spec = FeatureSpec.from_json(examples.facts["spec"])
    if spec.cutoff != "day":
        raise InputError(
            "score.replay: needs history.cutoff: day, because scoring reads whole days"
        )
    state = store.require(STATE, day - DAY, "run jobs.build_sequences for it")
    vocabulary, _ = open_vocabulary(logs.spark, store)
    impressions = logs.impressions(day, day).where("reason is null").drop("reason", "raw")
    impressions = encode_candidates(with_serving_defaults(impressions, spec), spec, vocabulary)
    if spec.counters:
        sums = store.require(COUNTERS, day - DAY, "run jobs.build_sequences for it")
        start = start_of(day, spec.time_zone)
        impressions = attach(impressions, store.read(logs.spark, [sums]), spec, start)
    behaviours = store.read(logs.spark, [state])
    with stage(f"{day} replay") as report:
        written = with_histories(store.read(logs.spark, [examples]), spec)
        rows, differ = _differences(impressions, written, behaviours, spec, day)
        report.rows = rows
    if differ or rows != examples.rows:
        raise InputError(
            f"replay of {day}: {differ} of {rows} rows have other counters or histories than the"
            " examples: build the date again"
        )
    return rows


def _differences(
    shown: DataFrame, examples: DataFrame, state: DataFrame, spec: FeatureSpec, day: date
) -> tuple[int, int]:
    """Attach histories to impressions as scoring does; return (rows, rows that differ).

    Args:
        shown: good impressions of ``day``, encode_candidates, with example_id and counters.
        examples: the published examples of the day.
        state: at the end of the day before.
        spec: the histories.
        day: the date.
    """
    targets = shown.withColumn("cutoff", F.lit(start_of(day, spec.time_zone)))
    again = unpacked(attach_history(targets, as_behaviours(state, spec), spec), spec)
    columns = [c for counter in spec.counters for c in counter.columns]
    columns += [h.column(c) for h in spec.histories for c in ("length", *h.lists)]
    key = ["example_id", spec.user, spec.item]
    fingerprint = F.xxhash64(*key, *columns)
    first = examples.select(fingerprint.alias("hash")).groupBy("hash").count()
    second = again.select(fingerprint.alias("hash")).groupBy("hash").count()
    paired = first.join(second.withColumnRenamed("count", "replayed"), "hash", "full")
    gap = F.abs(F.coalesce("count", F.lit(0)) - F.coalesce("replayed", F.lit(0)))
    total = paired.agg(F.sum(F.coalesce("count", F.lit(0))), F.sum(gap)).first()
    assert total is not None
    return int(total[0] or 0), int(total[1] or 0)
