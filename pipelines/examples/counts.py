"""How often each id occurs in a day's examples; summed over a window they are the n_j of training.

``examples`` counts the examples that hold the id as candidate or in a history, once each: the n_j
of mini-batch aware regularisation (arXiv 1706.06978, section 5.1), and what ``min_count`` looks at.
``shown`` and ``clicked`` count it as candidate alone: the popularity-only baseline. An item is the
candidate of its example, not a feature that shares its vocabulary, such as a list of similar items.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.features import PADDING, FeatureSpec
from pipelines.examples.histories import Runs, runs, shared_by

MASK = 2**32 - 1


def count_ids(examples: DataFrame, spec: FeatureSpec) -> DataFrame:
    """Return (vocabulary, id, examples, shown, clicked), one row per id that occurs."""
    columns = {
        vocabulary: (
            [f.name for f in features],
            [history.column(name) for history, name in fields],
        )
        for vocabulary in spec.vocabularies
        for features, fields in [spec.used_by(vocabulary)]
    }

    def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for each in runs(batches, spec):
            for vocabulary, (singles, lists) in columns.items():
                candidates = [spec.item] if spec.item in singles else singles
                ids, *counts = _count(each, singles, lists, candidates)
                names = pa.array([vocabulary] * len(ids), pa.string())
                yield pa.RecordBatch.from_arrays(
                    [names, *map(pa.array, (ids, *counts))],
                    ["vocabulary", "id", "examples", "shown", "clicked"],
                )

    wanted = [*shared_by(spec), *spec.history_lengths]
    wanted += [name for singles, _ in columns.values() for name in singles]
    partial = examples.select("label", *dict.fromkeys(wanted)).mapInArrow(
        count, "vocabulary string, id int, examples long, shown long, clicked long"
    )
    sums = [F.sum(c).alias(c) for c in ("examples", "shown", "clicked")]
    return partial.groupBy("vocabulary", "id").agg(*sums)


def content(examples: DataFrame, spec: FeatureSpec | None = None) -> str:
    """Return a hash of the rows that does not depend on their order and files.

    With a spec, the rows are examples, which share histories: each history counts once, wherever
    files begin.
    """
    lists = list(spec.history_lengths) if spec else []
    row = F.xxhash64(*[name for name in examples.columns if name not in lists])
    # A sum modulo 2^64: an exclusive or would not see two equal rows.
    combined = examples.agg(F.sum(row), F.count(F.lit(1))).first()
    assert combined is not None
    total, rows = combined[0] or 0, combined[1]
    if spec:
        own = examples.where(F.col(lists[0]).isNotNull())
        histories = own.select(F.xxhash64(*shared_by(spec), *lists).alias("hash")).distinct()
        summed = histories.agg(F.sum("hash")).first()
        assert summed is not None
        total += summed[0] or 0
    return f"{total % 2**64:x}-{rows}"


def _count(
    each: Runs, singles: Sequence[str], lists: Sequence[str], candidates: Sequence[str]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return ids, and the rows that hold, show and clicked each, of one vocabulary in a batch.

    A pair of a run (or row) and an id is one number: ``run << 32 | id``.
    """
    rows = np.arange(each.batch.num_rows)
    own = _distinct([each.batch.column(c) for c in singles], rows)
    shown = own
    if candidates != singles:
        shown = _distinct([each.batch.column(c) for c in candidates], rows)
    clicked = shown[each.batch.column("label").to_numpy()[shown >> 32] > 0]
    held = _distinct([each.histories[c] for c in lists], np.arange(each.run[-1] + 1))
    beside = own[~np.isin(each.run[own >> 32] << 32 | own & MASK, held)]
    ids, place = np.unique(np.concatenate([held & MASK, own & MASK]), return_inverse=True)
    sizes = np.bincount(each.run)
    examples = np.bincount(place[: len(held)], sizes[held >> 32], len(ids)).astype(np.int64)
    examples += _tally(ids, beside & MASK)
    return ids.astype(np.int32), examples, _tally(ids, shown & MASK), _tally(ids, clicked & MASK)


def _distinct(columns: Sequence[pa.Array], owners: NDArray[Any]) -> NDArray[Any]:
    """Return the pairs of several columns, each once, without padding."""
    pairs = [np.zeros(0, np.int64), *[_pairs(column, owners) for column in columns]]
    distinct = np.unique(np.concatenate(pairs))
    return distinct[distinct & MASK != PADDING]


def _pairs(column: pa.Array, owners: NDArray[Any]) -> NDArray[Any]:
    """Return ``owner << 32 | id`` of each id of a column of ids, or of lists of ids."""
    if not pa.types.is_list(column.type):
        return owners << 32 | column.to_numpy().astype(np.int64)
    lengths = np.diff(column.offsets.to_numpy())
    return np.repeat(owners, lengths) << 32 | column.flatten().to_numpy().astype(np.int64)


def _tally(ids: NDArray[Any], seen: NDArray[Any]) -> NDArray[Any]:
    return np.bincount(np.searchsorted(ids, seen), minlength=len(ids))
