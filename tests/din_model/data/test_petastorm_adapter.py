"""What importing the reader leaves of pyarrow, numpy and Petastorm for all other code."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

from din_model.data.petastorm_reader import row_groups

UNCHANGED = """
import sys, numpy, pyarrow, pyarrow.parquet
libraries = (numpy, pyarrow, pyarrow.parquet)
before, modules = [dict(vars(library)) for library in libraries], set(sys.modules)
import din_model.data.petastorm_reader
for library, names in zip(libraries, before):
    assert all(vars(library)[name] is value for name, value in names.items()), library
    assert not vars(library).keys() & {"filesystem", "hdfs", "unicode_", "string_"} - names.keys()
unwanted = {"pyarrow.filesystem", "pyarrow.hdfs", "distutils", "diskcache", "future",
            "petastorm.utils", "petastorm.hdfs.namenode", "petastorm.local_disk_cache"}
assert not (sys.modules.keys() - modules) & unwanted, sys.modules.keys() & unwanted
"""


def test_importing_the_reader_changes_no_library_and_warns_of_nothing():
    subprocess.run([sys.executable, "-W", "error", "-c", UNCHANGED], check=True)


def test_columns_of_any_type_may_stand_beside_those_that_are_read(tmp_path):
    rows = {"id": [1, 2], "key": ["a", "b"], "raw": [b"a", b"b"], "pairs": [[{"x": 1}], []]}
    pq.write_table(pa.table(rows), tmp_path / "x.parquet")
    (group,) = row_groups(f"file://{tmp_path}/x.parquet", ["id"])
    assert group["id"].tolist() == [1, 2]
