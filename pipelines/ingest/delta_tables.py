"""Delta tables of other systems as sources, read without Delta's jars.

The log says which files a version has; Spark reads those as Parquet.
"""

import json

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from fsspec.core import url_to_fs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from din_model.errors import InputError
from pipelines.access.files import escaped, reason
from pipelines.store.delta import storage_options

KIND = "delta"
"""Name of the format in ``sources.*.format``."""

VERSION = "versionasof"
"""The one option, in lower case: a version of the table, for a read of the past."""

DELETED = "deletionVectors"

READABLE = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
"""Features of a table that change nothing about how its files are read."""


def table_rows(spark: SparkSession, path: str, options: dict[str, str]) -> DataFrame:
    """Return the rows of a table, or of one of its versions.

    Args:
        spark: the session.
        path: folder or address of the table.
        options: ``VERSION``, if any.

    Raises:
        InputError: no such table or version, or one that takes more than its files to read.
    """
    unknown = sorted(set(options) - {VERSION})
    if unknown:
        raise InputError(f"{path}: a Delta table has no option {unknown[0]!r}: write versionAsOf")
    fs, plain = url_to_fs(path)
    address = plain if "file" in fs.protocol else path
    try:
        version = int(options[VERSION]) if VERSION in options else None
        table = DeltaTable(address, version=version, storage_options=storage_options(fs))
    except (DeltaError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a Delta table that can be read ({reason(error)})") from None
    _require_plain_files(table, path)
    schema = T.StructType.fromJson(json.loads(table.schema().to_json()))
    files = table.get_add_actions(flatten=True).column("path").to_pylist()
    if not files:
        return spark.createDataFrame([], schema)
    urls = [file if "://" in file else f"{path.rstrip('/')}/{file}" for file in files]
    reader = spark.read.schema(schema).option("basePath", path)
    return reader.parquet(*[escaped(url) for url in urls])


def _require_plain_files(table: DeltaTable, path: str) -> None:
    """Refuse a table whose files have other columns or more rows than the table."""
    needed = set(table.protocol().reader_features or ()) - READABLE
    mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    for feature, used in (("columnMapping", mapping != "none"), (DELETED, _has_deleted(table))):
        needed = needed | {feature} if used else needed - {feature}
    if needed:
        raise InputError(
            f"{path}: the table has {', '.join(sorted(needed))}, which its files alone do not show:"
            " write it without (REORG TABLE … APPLY (PURGE) for deleted rows)"
        )


def _has_deleted(table: DeltaTable) -> bool:
    try:
        return bool(table.deletion_vectors().read_all().num_rows)
    except DeltaError:
        return True
