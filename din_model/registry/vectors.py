"""Writes the trained vectors of items and users, for indices of nearest neighbours.

They are the rows of the embedding tables. A user's interests are not among them: DIN computes these
anew for each candidate, so a user has no single vector of interests.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from din_model.features import UNKNOWN
from din_model.modules.din import DIN
from din_model.modules.embeddings import ITEM_BIAS, EmbeddingTables


def write_vectors(model: DIN, keys: Iterable[pa.RecordBatch], folder: Path) -> None:
    """Write ``item.parquet`` (key, vector, bias) and ``user.parquet`` (key, vector) into a folder.

    An id that the model does not know, too rare in training or newer, has no row. A feature without
    a table has no file. ``bias`` is there only if the model has an item bias.

    Args:
        model: in memory as a whole, not sharded.
        keys: the vocabulary: ``vocabulary``, ``key`` and ``id``. It is read once, batch by batch.
        folder: made by this function.
    """
    spec, tables = model.spec, model.tables
    folder.mkdir()
    with ExitStack() as files:
        writers = {}
        for side, feature in (("item", spec[spec.item]), ("user", spec[spec.user])):
            if feature.dimension:
                biased = side == "item" and ITEM_BIAS in tables.sizes
                schema = _schema(feature.dimension, biased)
                writer = files.enter_context(pq.ParquetWriter(folder / f"{side}.parquet", schema))
                writers[writer] = feature.vocabulary, schema
        for batch in keys:
            for writer, (vocabulary, schema) in writers.items():
                own = batch.filter(pc.equal(batch.column("vocabulary"), vocabulary))
                writer.write_batch(_vectors(tables, vocabulary, own, schema))


def _schema(dimension: int, biased: bool) -> pa.Schema:
    fields = [("key", pa.string()), ("vector", pa.list_(pa.float32(), dimension))]
    return pa.schema([*fields, ("bias", pa.float32())] if biased else fields)


def _vectors(
    tables: EmbeddingTables, table: str, keys: pa.RecordBatch, schema: pa.Schema
) -> pa.RecordBatch:
    ids = torch.tensor(keys.column("id").to_pylist(), dtype=torch.int64)
    rows = tables.rows(table, ids)
    known = rows != UNKNOWN
    values = tables.weight(table)[rows[known]].float()
    columns = [
        keys.column("key").filter(pa.array(known.numpy())),
        pa.FixedSizeListArray.from_arrays(pa.array(values.flatten().numpy()), values.shape[1]),
    ]
    if "bias" in schema.names:
        bias = tables.weight(ITEM_BIAS)[tables.rows(ITEM_BIAS, ids[known])]
        columns.append(pa.array(bias[:, 0].float().numpy()))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
