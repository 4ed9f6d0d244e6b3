"""Vectors of items and users: published once each, under ids of a vocabulary of their own.

A vector that changes is a new key: ``KEY HASH``, the key of the item or user and 16 hex digits of
its vector. Examples and behaviours hold the id of the vector that was valid at their time, so a
later one cannot leak into their past. A day's part holds the vectors whose ids it assigned; they
are those of the whole side table, also of items that were never shown.
"""

from datetime import date
from functools import reduce

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.errors import InputError, reading
from din_model.features import FIRST_ID, FeatureSpec
from pipelines.caching import cached
from pipelines.ingest.logs import Logs
from pipelines.store.data_sets import VECTORS
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store


def vectors_of(logs: Logs, day: date) -> DataFrame:
    """Return (vocabulary, key, values) of every vector in the side tables of a date."""
    frames = [
        logs.side_tables.vectors(f, day).withColumn("vocabulary", F.lit(f.vocabulary))
        for f in logs.spec.vectors
    ]
    return reduce(DataFrame.unionByName, frames)


def publish_vectors(
    store: Store, logs: Logs, day: date, part: Manifest, vectors: DataFrame
) -> Manifest:
    """Publish the vectors of the keys in a day's part of the vocabulary.

    Args:
        store: where they are published.
        logs: the session and the spec.
        day: the date.
        part: of the vocabulary.
        vectors: ``vectors_of`` the date.

    Raises:
        InputError: a key has no vector, because the side table changed in the meantime.
    """
    names = [f.vocabulary for f in logs.spec.vectors]
    keys = cached(store.read(logs.spark, [part]).where(F.col("vocabulary").isin(names)))
    rows = keys.join(vectors, ["vocabulary", "key"]).drop("key")
    expected = keys.count()

    def check(manifest: Manifest) -> None:
        if manifest.rows != expected:
            raise InputError(
                f"vectors of {day}: {expected} keys, but {manifest.rows} vectors: the side table"
                " changed during the build: run it again"
            )

    return store.publish(VECTORS, day, rows, {"spec_hash": logs.spec.hash}, check)


def load_vectors(store: Store, spec: FeatureSpec, through: date) -> dict[str, NDArray[np.float32]]:
    """Return vocabulary -> the vectors published until a date, by id [ids, size].

    Raises:
        InputError: the date has none, or a file cannot be read.
    """
    if not spec.vectors:
        return {}
    store.require(VECTORS, through, "run jobs.build_sequences for it")
    parts: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float32]]]] = {}
    manifests = [m for m in store.manifests(VECTORS) if m.date <= str(through)]
    for url in [url for m in manifests for url in store.urls(m)]:
        with reading(url), store.fs.open(url, "rb") as file:
            table = pq.read_table(file)
        for feature in spec.vectors:
            own = table.filter(np.asarray(table.column("vocabulary")) == feature.vocabulary)
            values = own.column("values").combine_chunks().flatten().to_numpy()
            ids = own.column("id").to_numpy().astype(np.int64)
            parts.setdefault(feature.vocabulary, []).append(
                (ids, values.astype(np.float32).reshape(len(ids), feature.size))
            )
    vectors = {}
    for feature in spec.vectors:
        read = parts.get(feature.vocabulary, [])
        size = max([FIRST_ID, *(int(ids.max()) + 1 for ids, _ in read if len(ids))])
        vectors[feature.vocabulary] = np.zeros((size, feature.size), np.float32)
        for ids, values in read:
            vectors[feature.vocabulary][ids] = values
    return vectors
