"""A history once: published examples hold it in the first of neighbouring rows that share it.

Impressions of a user with the same cutoff have the same history, and a file holds them one after
another. The first has the lists ``KIND__FIELD``, the others null (the idea of RecD, arXiv
2211.05239). Every row has ``KIND__length``.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from din_model.errors import InputError
from din_model.features import FeatureSpec
from pipelines.examples.point_in_time_join import RunStarts, at_starts, pad, replaced
from pipelines.store.data_sets import EXAMPLES

Batches = Iterable[pa.RecordBatch]


def shared_by(spec: FeatureSpec) -> list[str]:
    """Return the columns of an example whose equal values mean the same history."""
    return [spec.user] if spec.cutoff == "day" else [spec.user, "time"]


class Runs(NamedTuple):
    """A batch of examples, its distinct histories, and which of them each row has."""

    batch: pa.RecordBatch
    histories: dict[str, pa.ListArray]  # each [runs]
    run: NDArray[np.int64]  # [rows]


def runs(batches: Batches, spec: FeatureSpec) -> Iterator[Runs]:
    """Find the histories of batches of published examples, which must be in the order of the files.

    Raises:
        InputError: a row without a history does not follow the one that has it.
    """
    names, starts = list(spec.history_lengths), RunStarts(shared_by(spec))
    last: dict[str, pa.ListArray] = {}
    for batch in batches:
        if not batch.num_rows:
            continue
        lists = {name: batch.column(name).drop_null() for name in names}
        begins = batch.column(names[0]).is_valid().to_numpy(zero_copy_only=False)
        if (starts(batch) & ~begins).any():
            raise InputError(f"{EXAMPLES}: a row has no history: build the date again")
        run = np.cumsum(begins) - 1
        if not begins[0]:
            lists = {name: pa.concat_arrays([last[name], lists[name]]) for name in names}
            run += 1
        last = {name: values.slice(len(values) - 1) for name, values in lists.items()}
        yield Runs(batch, lists, run)


def with_histories(examples: DataFrame, spec: FeatureSpec) -> DataFrame:
    """Give every row its history, padded with zeros to length L, as the model reads it.

    The rows must be in the order in which they were read; a filter of users may have passed.
    """

    def own(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch, histories, run in runs(batches, spec):
            every = pa.array(run)
            yield replaced(batch, {name: lists.take(every) for name, lists in histories.items()})

    return examples.mapInArrow(lambda batches: pad(own(batches), spec), examples.schema)


def once(spec: FeatureSpec) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    """Return a function that leaves histories to the first of neighbouring rows that share them."""

    def run(batches: Batches) -> Iterator[pa.RecordBatch]:
        starts = RunStarts(shared_by(spec))
        for batch in batches:
            if not batch.num_rows:
                continue
            begins = starts(batch)
            own = {n: batch.column(n).filter(pa.array(begins)) for n in spec.history_lengths}
            yield replaced(batch, {name: at_starts(lists, begins) for name, lists in own.items()})

    return run
