"""A registered version as MLflow loads it."""

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import functions as F

from din_model.registry.artifact import load
from din_model.registry.predict import probabilities
from tests.din_model.conftest import some_columns


def test_the_pyfunc_gives_the_published_probabilities(name, tmp_path):
    columns = some_columns(9)
    rows = pd.DataFrame({n: list(v) if v.ndim == 2 else v for n, v in columns.items()})
    found = mlflow.pyfunc.load_model(f"models:/{name}/1").predict(rows)
    assert found.tolist() == probabilities(*load(tmp_path / "model"), rows).tolist()
    assert found.std() > 0


def test_mlflows_spark_udf_gives_the_same(spark, name, tmp_path):
    columns = {n: list(v) if v.ndim == 2 else v for n, v in some_columns(9).items()}
    rows = pa.table(columns)
    pq.write_table(rows.append_column("n", pa.array(range(9))), tmp_path / "rows.parquet")
    udf = mlflow.pyfunc.spark_udf(spark, f"models:/{name}/1", "double", env_manager="local")
    examples = spark.read.parquet(str(tmp_path / "rows.parquet"))
    found = examples.select("n", udf(F.struct("*")).alias("score")).orderBy("n").collect()
    expected = probabilities(*load(tmp_path / "model"), rows.to_pandas())
    np.testing.assert_allclose([row["score"] for row in found], expected, atol=1e-6)
