"""What conf/schedule sends to managed Spark is the night, in the terms of each platform's client.

Nothing is submitted: the clients know every key that their services accept.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import botocore.session
import pytest
from botocore.validate import ParamValidator
from databricks.sdk.service.jobs import JobSettings
from google.cloud.dataproc_v1.types import Batch
from google.protobuf import json_format

from din_model.config import load
from jobs.cli import Settings
from tests.nights import demo

SCHEDULE = Path(__file__).parents[2] / "conf" / "schedule"
START = timedelta(hours=2, minutes=30)
"""Of day, when the schedules of docs/running.md start the night."""

REFERENCES = "{{secrets/", "EMR.secret@"
"""How platforms name a secret of their store."""


class Recipe(NamedTuple):
    """A recipe in the terms that all platforms share; ``limit``: of the night with its retries."""

    script: str
    words: list[str]
    limit: timedelta
    settings: dict[str, str]


def parsed(name: str) -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads((SCHEDULE / name).read_text())
    return recipe


def databricks() -> Recipe:
    job = parsed("databricks.json")
    [task], [cluster] = job["tasks"], job["job_clusters"]
    assert task["job_cluster_key"] == cluster["job_cluster_key"]
    command, limit = task["spark_python_task"], timedelta(seconds=job["timeout_seconds"])
    variables = cluster["new_cluster"]["spark_env_vars"]
    return Recipe(command["python_file"], command["parameters"], limit, variables)


def emr() -> Recipe:
    job = parsed("emr_serverless.json")
    [configuration] = job["configurationOverrides"]["applicationConfiguration"]
    assert configuration["classification"] == "spark-defaults"
    command = job["jobDriver"]["sparkSubmit"]
    attempt = timedelta(minutes=job["executionTimeoutMinutes"])
    limit = attempt * job["retryPolicy"]["maxAttempts"]
    properties = configuration["properties"]
    return Recipe(command["entryPoint"], command["entryPointArguments"], limit, properties)


def dataproc() -> Recipe:
    job = parsed("dataproc.json")
    command, execution = job["pysparkBatch"], job["environmentConfig"]["executionConfig"]
    limit = timedelta(seconds=int(execution["ttl"].removesuffix("s")))
    properties = job["runtimeConfig"]["properties"] | {
        "spark.files": ",".join(command["fileUris"]),
        "spark.archives": ",".join(command["archiveUris"]),
    }
    return Recipe(command["mainPythonFileUri"], command["args"], limit, properties)


EACH = pytest.mark.parametrize("recipe", [databricks, emr, dataproc])
SERVERLESS = pytest.mark.parametrize(
    ("recipe", "driver"), [(emr, "spark.emr-serverless"), (dataproc, "spark.dataproc")]
)


def test_databricks_accepts_every_key_of_its_job():
    job = parsed("databricks.json")
    # The client drops a key that it does not know in silence.
    assert JobSettings.from_dict(job).as_dict() == job


def test_emr_accepts_every_key_of_its_job_run():
    model = botocore.session.get_session().get_service_model("emr-serverless")
    shape = model.operation_model("StartJobRun").input_shape
    # The command line adds the token.
    job = parsed("emr_serverless.json") | {"clientToken": "2026-11-22"}
    assert ParamValidator().validate(job, shape).generate_report() == ""


def test_dataproc_accepts_every_key_of_its_batch():
    json_format.ParseDict(parsed("dataproc.json"), Batch.pb(Batch()))


@EACH
def test_the_job_is_the_night_of_yesterday(recipe: Callable[[], Recipe], tmp_path):
    """Without --date the job takes yesterday, so a retry after midnight would take another date."""
    job = recipe()
    assert Path(job.script).name == "nightly.py"
    option, config, *words = job.words
    assert (option, Path(config).name) == ("--config", "my.yaml")
    nightly = load(Settings, [demo(tmp_path)], words).nightly
    assert (nightly.wait, nightly.poll) == ("6h", "5m")
    assert timedelta(hours=6) < job.limit
    assert START + job.limit < timedelta(days=1), "the night ends before the next one starts"


@EACH
def test_no_secret_is_written_out(recipe: Callable[[], Recipe]):
    named = ("TOKEN", "PASSWORD", "SECRET", "ACCESS_KEY")
    for name, value in recipe().settings.items():
        if any(word in name.upper() for word in named):
            assert value.startswith(REFERENCES), name
        assert "@" not in value or value.startswith(REFERENCES), f"{name} holds a password"


@EACH
def test_the_tracking_server_is_named(recipe: Callable[[], Recipe]):
    """A store off local disk needs one."""
    named = [v for k, v in recipe().settings.items() if k.endswith("MLFLOW_TRACKING_URI")]
    assert len(named) == 1
    assert named[0].startswith("https://")


@SERVERLESS
def test_driver_and_executors_run_the_packed_environment(recipe, driver):
    settings = recipe().settings
    address, _, folder = settings["spark.archives"].partition("#")
    assert address.endswith("/environment.tar.gz"), "as make package calls it"
    for name in (
        f"{driver}.driverEnv.PYSPARK_DRIVER_PYTHON",
        f"{driver}.driverEnv.PYSPARK_PYTHON",
        "spark.executorEnv.PYSPARK_PYTHON",
    ):
        assert settings[name] == f"./{folder}/bin/python"
    assert settings["spark.files"].endswith("/my.yaml")


@SERVERLESS
def test_the_driver_has_memory_to_train_in(recipe, driver):
    """Training and evaluation are Python, which is outside the heap of Java."""
    settings = recipe().settings
    assert settings["spark.driver.memoryOverhead"] == "8g"


def test_databricks_runs_one_night_at_a_time_on_a_larger_driver():
    job = parsed("databricks.json")
    cluster = job["job_clusters"][0]["new_cluster"]
    assert job["max_concurrent_runs"] == 1
    assert job["tasks"][0]["max_retries"] > 0
    assert job["schedule"]["quartz_cron_expression"] == "0 30 2 * * ?"
    assert cluster["driver_node_type_id"] != cluster["node_type_id"]


def test_the_script_of_databricks_unpacks_the_environment_that_its_job_runs(tmp_path):
    script, python = SCHEDULE / "databricks_init.sh", databricks().settings["PYSPARK_PYTHON"]
    [init] = parsed("databricks.json")["job_clusters"][0]["new_cluster"]["init_scripts"]
    assert init["workspace"]["destination"].endswith(f"/{script.name}")
    (tmp_path / "environment" / "bin").mkdir(parents=True)
    (tmp_path / "environment" / "bin" / "python").touch()
    shutil.make_archive(str(tmp_path / "environment"), "gztar", tmp_path / "environment")
    moved = script.read_text().replace("/Volumes/main/din/release", str(tmp_path))
    moved = moved.replace("/opt", f"{tmp_path}/opt")
    subprocess.run(["sh", "-c", moved], check=True)
    assert Path(f"{tmp_path}{python}").exists()
