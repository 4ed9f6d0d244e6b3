"""The model as a function of Spark SQL against the model called directly."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from din_model.registry.artifact import ModelMetadata, load, save
from din_model.registry.predict import probabilities
from pipelines.scoring.sql_function import register
from tests.din_model.conftest import some_columns, some_model


@pytest.mark.parametrize("name", ["din_score", "of_version_7"])
def test_encoded_examples_are_scored_by_sql(spark, tmp_path, name):
    save(tmp_path / "model", some_model(), ModelMetadata("2026-11-21", "f", logit_shift=-0.7))
    columns = {n: list(v) if v.ndim == 2 else v for n, v in some_columns(50).items()}
    rows = pa.table(columns)
    expected = probabilities(*load(tmp_path / "model"), rows.to_pandas())
    numbered = rows.append_column("n", pa.array(range(50)))
    pq.write_table(numbered, tmp_path / "rows.parquet")
    examples = spark.read.parquet(str(tmp_path / "rows.parquet")).repartition(2)
    examples.createOrReplaceTempView("examples")
    register(spark, tmp_path / "model", name)
    found = spark.sql(f"SELECT {name}(struct(*)) AS score FROM examples ORDER BY n").collect()
    np.testing.assert_allclose([row["score"] for row in found], expected, atol=1e-6)
