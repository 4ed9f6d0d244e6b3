"""How often each id occurs in a day's examples; summed over a window they are the n_j of training.

``examples`` counts the examples that hold the id as candidate or in a history, once each: the n_j
of mini-batch aware regularisation (arXiv 1706.06978, section 5.1), and what ``min_count`` looks at.
``shown`` and ``clicked`` count it as candidate alone: the popularity-only baseline.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.features import PADDING, FeatureSpec


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
        for batch in batches:
            if batch.num_rows == 0:
                continue
            label = batch.column("label").to_numpy()
            for vocabulary, (singles, lists) in columns.items():
                shown = np.concatenate([_matrix(batch, c) for c in singles], axis=1)
                held = np.concatenate([shown, *[_matrix(batch, c) for c in lists]], axis=1)
                ids, examples = np.unique(_once_a_row(held), return_counts=True)
                seen = _once_a_row(shown)
                counts = {i: np.zeros(len(ids), np.int64) for i in range(2)}
                np.add.at(counts[0], np.searchsorted(ids, seen), 1)
                clicked = _once_a_row(shown[label > 0])
                np.add.at(counts[1], np.searchsorted(ids, clicked), 1)
                names = pa.array([vocabulary] * len(ids))
                yield pa.RecordBatch.from_arrays(
                    [names, *map(pa.array, (ids, examples, counts[0], counts[1]))],
                    ["vocabulary", "id", "examples", "shown", "clicked"],
                )

    wanted = [c for pair in columns.values() for names in pair for c in names]
    partial = examples.select("label", *dict.fromkeys(wanted)).mapInArrow(
        count, "vocabulary string, id int, examples long, shown long, clicked long"
    )
    sums = [F.sum(c).alias(c) for c in ("examples", "shown", "clicked")]
    return partial.groupBy("vocabulary", "id").agg(*sums)


def content(examples: DataFrame) -> str:
    """Return a hash of the rows that does not depend on their order and files."""
    row = F.xxhash64(*examples.columns)
    # A sum modulo 2^64: an exclusive or would not see two equal rows.
    combined = examples.agg(F.sum(row), F.count(F.lit(1))).first()
    assert combined is not None
    return f"{(combined[0] or 0) % 2**64:x}-{combined[1]}"


def _matrix(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    """Return a column as [rows, width]: lists have one length, single values have width 1."""
    column = batch.column(name)
    values = column.flatten() if pa.types.is_list(column.type) else column
    return values.to_numpy().reshape(batch.num_rows, -1)


def _once_a_row(ids: NDArray[Any]) -> NDArray[Any]:
    """Return the ids of a matrix without padding and without repeats within a row."""
    ids = np.sort(ids, axis=1)
    first = np.ones(ids.shape, bool)
    first[:, 1:] = ids[:, 1:] != ids[:, :-1]
    return ids[first & (ids != PADDING)]
