"""Evaluates registered versions on the executors, as many rows at once as the cluster has cores.

Each task scores the rows of one file, with all versions and simple scores. Then users are brought
together (a shuffle of scores, not of histories), and each task tallies its users. Tallies add up,
so the driver receives sums by bins of the score and cells of users, however many rows there are.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from din_model.console import stage
from din_model.data.batch import from_rows
from din_model.data.loader import Loader
from din_model.data.rows import Columns
from din_model.evaluation import drift
from din_model.evaluation.metrics import BINS, CELLS, Meter, Sums, Tally
from din_model.evaluation.slices import BINS as SLICE_BINS
from din_model.evaluation.slices import Slices, names_of_slices, slices_from, slices_of
from din_model.registry import versions
from pipelines.shipping import loaded, ship
from pipelines.store.store import Store
from pipelines.training.evaluate import (
    EvalResult,
    Score,
    auc_in_words,
    popularity_of,
    simple_scores,
)
from pipelines.training.training_set import TrainingSet

Batches = Iterable[pa.RecordBatch]

TALLY_SCHEMA = "name string, part string, place int, first double, second double, third double"
"""A number of a tally: model, which part of the tally, bin or cell, and up to three values."""

HISTOGRAM, LOSS, BY_USER, SLICE, DRIFT = "histogram", "loss", "by user ", "slice ", "drift"


@dataclass(frozen=True)
class _Judging:
    """What the tasks need.

    Attributes:
        loaders: reads the rows of each file.
        shipped: name of a version -> its name on the executors.
        simple: further scores by name.
        thirds: see evaluation.slices.popularity_thirds.
        logit_shift: see registry.artifact.ModelMetadata.
    """

    loaders: list[Loader]
    shipped: dict[str, str]
    simple: dict[str, Score]
    thirds: NDArray[Any]
    logit_shift: float

    @property
    def names(self) -> list[str]:
        """All that is evaluated, versions first."""
        return [*self.shipped, *self.simple]

    @property
    def in_slices(self) -> list[str]:
        """Names of the slices."""
        return names_of_slices(self.loaders[0].spec)


def evaluate_versions(
    spark: SparkSession, store: Store, training_set: TrainingSet, model_name: str,
    by_name: dict[str, int],
) -> EvalResult:  # fmt: skip
    """Evaluate registered versions and simple scores on the same rows, read once.

    Args:
        spark: the session.
        store: where the rows are published.
        training_set: names the evaluation rows.
        model_name: registered name.
        by_name: name in the result -> version; the first one's scores make the histogram.
    """
    # The given vectors of a version's own time lack newer items.
    shipped = {
        name: ship(spark, versions.download(model_name, version), training_set.vectors)
        for name, version in by_name.items()
    }
    judging = _Judging(
        training_set.evaluation_loaders(store), shipped, simple_scores(store, training_set),
        popularity_of(store, training_set), training_set.logit_shift,
    )  # fmt: skip
    with stage(f"judge {', '.join(by_name)}") as report:
        result = _result(_tallies(spark, judging), judging)
        own = result.tallies[next(iter(by_name))].metrics()
        report.rows, report.note = int(own["rows"]), auc_in_words(own["auc"])
    return result


def _tallies(spark: SparkSession, judging: _Judging) -> pd.DataFrame:
    """Return the numbers of all tallies, added up over all tasks."""
    files = len(judging.loaders)
    columns = [f"score_{i} double" for i in range(len(judging.names))]
    schema = ", ".join(["user long", "clicked boolean", "slices long", *columns])

    def score(batches: Batches) -> Iterator[pa.RecordBatch]:
        for number in (each for batch in batches for each in batch.column(0).to_pylist()):
            yield from _scored(judging, judging.loaders[number])

    # Tasks that tally need no loaders, nor the arrays of simple scores.
    names, sliced, in_slices = judging.names, list(judging.shipped), judging.in_slices
    logit_shift = judging.logit_shift

    def tally(batches: Batches) -> Iterator[pa.RecordBatch]:
        yield from _tallied(batches, names, sliced, in_slices, logit_shift)

    scored = spark.range(0, files, 1, files).mapInArrow(score, schema).repartition("user")
    values = [F.sum(name).alias(name) for name in ("first", "second", "third")]
    tallies = scored.mapInArrow(tally, TALLY_SCHEMA).groupBy("name", "part", "place").agg(*values)
    return tallies.toPandas()


@torch.no_grad()
def _scored(judging: _Judging, loader: Loader) -> Iterator[pa.RecordBatch]:
    """Yield user, click, slices and scores of each row.

    The slices are a bit mask: bit i is set if the row belongs to slice i.
    """
    models = {name: loaded(shipped)[0] for name, shipped in judging.shipped.items()}
    for rows in loader.parts():
        batch, columns = from_rows(rows, loader.spec), rows.expanded()
        scores = {name: torch.sigmoid(model(batch)).numpy() for name, model in models.items()}
        first = next(iter(scores.values()))
        scores |= {name: score(columns, first) for name, score in judging.simple.items()}
        arrays = {
            "user": columns[loader.spec.user].astype(np.int64),
            "clicked": columns["label"] > 0,
            "slices": _bits(columns, loader, judging.thirds),
        } | {f"score_{i}": s.astype(np.float64) for i, s in enumerate(scores.values())}
        yield pa.RecordBatch.from_pydict({name: pa.array(a) for name, a in arrays.items()})


def _bits(columns: Columns, loader: Loader, thirds: NDArray[Any]) -> NDArray[Any]:
    bits = np.zeros(len(columns["label"]), np.int64)
    for number, (_, mask) in enumerate(slices_of(columns, loader.spec, thirds)):
        bits |= mask.astype(np.int64) << number
    return bits


def _tallied(
    batches: Batches, names: list[str], sliced: list[str], in_slices: list[str], logit_shift: float
) -> Iterator[pa.RecordBatch]:
    """Yield the numbers of the tallies of a task's users, in ``TALLY_SCHEMA``.

    Args:
        batches: what ``_scored`` yields.
        names: of the scores, in order.
        sliced: those that are reported by slice.
        in_slices: names of the slices, by bit.
        logit_shift: see ``_Judging``.
    """
    slices, published = Slices(), np.zeros(drift.BINS, np.int64)
    meters = {name: Meter() for name in names}
    for batch in batches:
        user, clicked, bits, *scores = (column.to_numpy(False) for column in batch.columns)
        by_name = dict(zip(names, scores, strict=True))
        for name, meter in meters.items():
            meter.add(clicked, by_name[name], user)
        masks = [(part, bits >> i & 1 > 0) for i, part in enumerate(in_slices)]
        slices.add(clicked, {name: by_name[name] for name in sliced}, masks)
        published += drift.histogram(scores[0], logit_shift)
    for name, meter in meters.items():
        with meter:
            tally = meter.tally()
        yield _numbers(name, HISTOGRAM, tally.histogram)
        yield _numbers(name, LOSS, np.array([[tally.loss]]))
        for metric, sums in tally.by_user.items():
            yield _numbers(name, BY_USER + metric, np.stack(sums))
    for (name, part), tally in slices.tallies().items():
        yield _numbers(name, SLICE + part, tally.histogram)
    yield _numbers("", DRIFT, published[None].astype(float))


def _numbers(name: str, part: str, values: NDArray[Any]) -> pa.RecordBatch:
    """Return the places of ``values`` [1 to 3, places] that are not zero, in ``TALLY_SCHEMA``."""
    places = np.flatnonzero(values.any(0)).astype(np.int32)
    three = np.zeros((3, len(places)))
    three[: len(values)] = values[:, places]
    columns = [pa.array([text] * len(places), pa.string()) for text in (name, part)]
    arrays = [*columns, pa.array(places), *map(pa.array, three)]
    return pa.RecordBatch.from_arrays(arrays, ["name", "part", "place", "first", "second", "third"])


def _result(numbers: pd.DataFrame, judging: _Judging) -> EvalResult:
    parts = dict(list(numbers.groupby(["name", "part"])))

    def values(name: str, part: str, places: int) -> NDArray[Any]:
        found, all_ = parts.get((name, part)), np.zeros((3, places))
        if found is not None:
            all_[:, found["place"]] = found[["first", "second", "third"]].to_numpy().T
        return all_

    def tally(name: str) -> Tally:
        by_user = {m: Sums(*values(name, BY_USER + m, CELLS)[:2]) for m in ("gauc", "log_loss")}
        loss = float(values(name, LOSS, 1)[0, 0])
        return Tally(values(name, HISTOGRAM, BINS), loss, by_user)

    slices = {
        (name, part): Tally(values(name, SLICE + part, SLICE_BINS), 0.0, {})
        for part in judging.in_slices
        for name in judging.shipped
    }
    published = values("", DRIFT, drift.BINS)[0].astype(np.int64)
    return EvalResult({n: tally(n) for n in judging.names}, published, slices_from(slices))
