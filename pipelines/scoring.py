"""The frame around the UDF: candidates of a date in, a published table of scores out."""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model import artefact, plots, registry
from din_model.errors import InputError
from din_model.features import FeatureSpec
from din_model.progress import stage
from pipelines.dataset import Manifest, Store
from pipelines.examples import whole
from pipelines.logs import DAY, Logs, with_serving_defaults
from pipelines.score import ScoreConfig, encoded, finished, replay_differences, score, ship
from pipelines.sources import fingerprint
from pipelines.state import STATE
from pipelines.vocabulary import open_vocabulary

SCORES, REFUSED = "scores", "refused"
BUILD_IT = "run jobs.build_sequences for it"


def score_day(
    logs: Logs, store: Store, model_name: str, version: int, config: ScoreConfig, day: date
) -> Manifest:
    """Score every candidate of ``day`` with a version and the state of the day before.

    Raises:
        InputError: no state, no candidates, or scores and refusals that do not add up to them.
    """
    spark = logs.spark
    folder = registry.download(model_name, version)
    model, facts = artefact.load(folder)
    spec = model.spec
    if spec.hash != logs.spec.hash:
        raise InputError(
            f"{model_name} version {version} was trained with another spec than features and"
            " history now say: train again, or put them back"
        )
    state = store.require(STATE, day - DAY, BUILD_IT)
    vocabulary, _ = open_vocabulary(spark, store)
    with stage(f"{day} score") as report:
        marked = logs.candidates(day)
        inputs = fingerprint(spark, [marked])
        marked.persist()
        counted = marked.groupBy(F.col("reason").isNull().alias("good")).count().collect()
        sizes = {row["good"]: row["count"] for row in counted}
        good, refused = sizes.get(True, 0), sizes.get(False, 0)
        if good == 0:
            raise InputError(
                f"sources.candidates: no candidate for {day} can be scored ({refused} refused)"
            )
        pins = {
            "state": state.id,
            "model": model_name,
            "version": version,
            "because": config.because,
            "candidates": good + refused,
            "refused": refused,
            "inputs": inputs,
            "fingerprint": facts.fingerprint,
        }
        before = store.manifest(SCORES, day)
        if before and before.facts == pins:
            marked.unpersist()
            report.rows, report.note = before.rows, "published already, from the same inputs"
            return before
        bad = marked.where("reason is not null").select("reason", "raw").coalesce(1)
        store.publish(REFUSED, day, bad, {"candidates": good + refused})
        candidates = encoded(marked.where("reason is null").drop("reason", "raw"), spec, vocabulary)
        name = f"{model_name}-{version}"
        rows = score(
            candidates,
            store.read(spark, [state]),
            spec,
            ship(spark, folder, name),
            day,
            config.because,
        )
        rows = finished(rows, spec, vocabulary, config.because).withColumns(
            {"model": F.lit(model_name), "model_version": F.lit(version), "date": F.lit(str(day))}
        )

        def check(manifest: Manifest) -> None:
            if manifest.rows != good:
                raise InputError(
                    f"{day}: {good + refused} candidates, but {manifest.rows} scores and {refused}"
                    " refused: nothing may be lost"
                )

        manifest = store.publish(SCORES, day, rows, pins, check)
        report.rows, report.note = manifest.rows, f"{refused:,} refused"
    marked.unpersist()
    _log(store.read(spark, [manifest]), manifest, refused)
    return manifest


def replay(logs: Logs, store: Store, day: date) -> int:
    """Compare the histories that the night gives to ``day``'s impressions with the examples'.

    Returns the number of rows compared.

    Raises:
        InputError: rows differ, or history.cutoff is not day.
    """
    examples = whole(store, day)
    spec = FeatureSpec.from_json(examples.facts["spec"])
    if spec.cutoff != "day":
        raise InputError("score.replay: nights see whole days, so history.cutoff must be day")
    state = store.require(STATE, day - DAY, BUILD_IT)
    vocabulary, _ = open_vocabulary(logs.spark, store)
    shown = logs.impressions(day, day).where("reason is null").drop("reason", "raw")
    shown = encoded(with_serving_defaults(shown, spec), spec, vocabulary)
    past = store.read(logs.spark, [state])
    with stage(f"{day} replay") as report:
        written = store.read(logs.spark, [examples])
        rows, differ = replay_differences(shown, written, past, spec, day)
        report.rows = rows
    if differ or rows != examples.rows:
        raise InputError(
            f"replay of {day}: {differ} of {rows} rows have other histories than the examples"
        )
    return rows


def _log(scores: DataFrame, manifest: Manifest, refused: int) -> None:
    numbers = scores.agg(
        F.avg("score").alias("mean_score"),
        F.avg((F.col("history_length") == 0).cast("int")).alias("share_without_history"),
        F.avg(F.col("unknown_item").cast("int")).alias("share_unknown_items"),
    ).first()
    assert numbers is not None
    registry.log_metrics(numbers.asDict() | {"scores": manifest.rows, "refused": refused})
    sample = scores.select("score").sample(min(1.0, 1e5 / manifest.rows), seed=0).toPandas()
    registry.log_figure(plots.score_histogram(sample["score"].to_numpy()), "scores")
