"""A registered version as MLflow loads it."""

import json
import sys
from pathlib import Path
from unittest.mock import Mock
from urllib.request import Request, urlopen

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store._unity_catalog.registry.rest_store import UcModelRegistryStore
from pyspark.sql import functions as F

from din_model.registry.artifact import load
from din_model.registry.predict import probabilities
from tests.din_model.conftest import free_port, small_spec, some_columns
from tests.jobs.tracking_server import serving
from tests.nights import environment


def test_the_pyfunc_gives_the_published_probabilities(name, tmp_path):
    columns = some_columns(9)
    rows = pd.DataFrame({n: list(v) if v.ndim == 2 else v for n, v in columns.items()})
    found = mlflow.pyfunc.load_model(f"models:/{name}/1").predict(rows)
    assert found.tolist() == probabilities(*load(tmp_path / "model"), rows).tolist()
    assert found.std() > 0


def test_columns_may_come_in_any_order_and_a_missing_one_is_named(name):
    columns = some_columns(9)
    rows = pd.DataFrame({n: list(v) if v.ndim == 2 else v for n, v in columns.items()})
    model = mlflow.pyfunc.load_model(f"models:/{name}/1")
    expected = model.predict(rows).tolist()
    assert model.predict(rows[rows.columns[::-1]]).tolist() == expected
    with pytest.raises(MlflowException, match="clicks__length"):
        model.predict(rows.drop(columns="clicks__length"))


def test_the_signature_satisfies_unity_catalog(name, tmp_path):
    folder = mlflow.artifacts.download_artifacts(f"models:/{name}/1")
    UcModelRegistryStore._validate_model_signature(Mock(), folder)
    model = Model.load(folder)
    (item,) = [i for i in model.signature.inputs if i.name == "clicks__item"]
    assert (item.shape, item.type) == ((-1, small_spec().histories[0].length), np.int64)
    assert model.signature.outputs.inputs[0].type == np.float64
    example = model.load_input_example(folder)
    assert 0 < mlflow.pyfunc.load_model(folder).predict(example)[0] < 1


def test_mlflows_spark_udf_gives_the_same(spark, name, tmp_path):
    columns = {n: list(v) if v.ndim == 2 else v for n, v in some_columns(9).items()}
    rows = pa.table(columns)
    pq.write_table(rows.append_column("n", pa.array(range(9))), tmp_path / "rows.parquet")
    udf = mlflow.pyfunc.spark_udf(spark, f"models:/{name}/1", "double", env_manager="local")
    examples = spark.read.parquet(str(tmp_path / "rows.parquet"))
    found = examples.select("n", udf(F.struct("*")).alias("score")).orderBy("n").collect()
    expected = probabilities(*load(tmp_path / "model"), rows.to_pandas())
    np.testing.assert_allclose([row["score"] for row in found], expected, atol=1e-6)


@pytest.mark.slow
def test_mlflow_serves_a_version(name, tmp_path):
    columns, port = some_columns(9), free_port()
    command = ["mlflow", "models", "serve", "-m", f"models:/{name}/1", "--port", str(port)]
    command = [sys.executable, "-m", *command, "--env-manager", "local"]
    env = environment() | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"  # for uvicorn
    lists = {n: v.tolist() for n, v in reversed(columns.items())}
    model = mlflow.pyfunc.load_model(f"models:/{name}/1")
    expected = model.predict(pd.DataFrame(lists)).tolist()
    url = f"http://127.0.0.1:{port}"
    with serving(command, env, url, tmp_path / "served.log"):
        rows = [list(row) for row in zip(*lists.values(), strict=True)]
        frame = {"columns": list(lists), "data": rows}
        for body in ({"dataframe_split": frame}, {"inputs": lists}):
            kind = {"Content-Type": "application/json"}
            request = Request(f"{url}/invocations", json.dumps(body).encode(), kind)
            with urlopen(request) as answer:
                served = json.load(answer)["predictions"]
            assert served == pytest.approx(expected, abs=1e-6)
