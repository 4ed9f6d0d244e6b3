"""Jobs on a real cluster, with the code from a wheel: what they publish is what local ones do."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from pandas.testing import assert_frame_equal
from pyspark.sql import DataFrame, SparkSession

from din_model.registry import versions
from pipelines.store.store import Store
from tests.jobs.cluster import SPARK, cluster
from tests.jobs.packaging import PACKAGES, ROOT, installed, packed, wheel
from tests.jobs.tracking_server import tracking_server
from tests.nights import NIGHTS, SMALL, demo, environment

pytest_plugins = "tests.postgres"

WORDS = [*SMALL, "history.kinds.clicks.age=true", "train.threads=1"]
RANKS = "launch.ranks=2"
SCORED = ("scores", "refused")


@dataclass(frozen=True)
class Place:
    """A cluster, and the project's wheel: installed for drivers, and packed for executors."""

    master: str
    folder: Path
    packages: Path
    archive: Path

    def submit(self, job: str, words: Sequence[str], driver: dict[str, str]) -> str:
        """Run a job by spark-submit, away from the checkout; return what it said.

        ``driver``: variables of the driver's environment, which executors do not see.
        """
        settings = {
            "spark.archives": f"{self.archive}#environment",
            "spark.executor.cores": "1",
            "spark.executor.memory": "700m",
            "spark.sql.shuffle.partitions": "4",
            "spark.ui.enabled": "false",
            "spark.executorEnv.PYTHONPATH": "",  # or the workers', which names the checkout
            "spark.executorEnv.PYTHONDONTWRITEBYTECODE": "",  # see ``imported``
        }
        command = [str(SPARK / "bin" / "spark-submit"), "--master", self.master]
        for name, value in settings.items():
            command += ["--conf", f"{name}={value}"]
        env = environment() | driver
        del env["PYTHONPATH"]
        env["PYSPARK_DRIVER_PYTHON"] = str(self.packages.parents[2] / "bin" / "python")
        env["PYSPARK_PYTHON"] = "./environment/bin/python"
        env["SPARK_LOCAL_IP"] = "127.0.0.1"
        return ran([*command, str(self.packages / "jobs" / f"{job}.py"), *words], env, self.folder)

    def imported(self, package: str) -> list[Path]:
        """The modules of a package that executors have loaded from the archive: compiled there."""
        unpacked = f"work-*/app-*/*/environment/lib/*/site-packages/{package}"
        return list(self.folder.glob(f"{unpacked}/__pycache__/*.pyc"))


def ran(command: Sequence[str], env: dict[str, str], folder: Path) -> str:
    """What a command said that ended well."""
    done = subprocess.run(
        command, env=env, cwd=folder, timeout=600, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def place(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    packages = installed(built, folder / "environment")
    archive = packed(folder / "environment")
    with cluster(folder) as master:
        yield Place(master, folder, packages, archive)


def same(spark: SparkSession, one: Store, other: Store, names: Sequence[str]) -> None:
    """Both stores have published the same rows of these data sets, whose dates ``other`` has.

    Scores hang in their last digit on which others were scored with them, so on the partitions.
    """
    for name in names:
        days = other.dates(name)
        assert days, name
        assert set(days) <= set(one.dates(name)), name
        for day in days:
            frames = [store.read(spark, [store.manifest(name, day)]) for store in (one, other)]
            assert frames[0].schema == frames[1].schema
            assert_frame_equal(*map(in_order, frames), rtol=0, atol=1e-6, obj=f"{name} of {day}")


def in_order(rows: DataFrame) -> pd.DataFrame:
    return rows.orderBy([n for n, t in rows.dtypes if t in ("string", "int", "bigint")]).toPandas()


def test_the_wheel_holds_every_file_of_the_packages(built):
    files = (p for name in PACKAGES for p in (ROOT / name).rglob("*") if p.is_file())
    wanted = {str(p.relative_to(ROOT)) for p in files if p.parent.name != "__pycache__"}
    assert {n for n in zipfile.ZipFile(built).namelist() if ".dist-info" not in n} == wanted


@pytest.mark.slow
def test_a_cluster_gives_the_scores_of_a_local_run(spark, nights, place, tmp_path):
    _, store, champions = nights
    shutil.copytree(store.base, tmp_path / "store", ignore=shutil.ignore_patterns("ml*", *SCORED))
    config, day = Path(store.base).parents[2] / "demo.yaml", NIGHTS[-1] + timedelta(days=1)
    words = ["--config", str(config), "--date", str(day), "--model", str(champions[-1]), *WORDS]
    words += [f"store.path={tmp_path}/store", f"tracking.uri=sqlite:///{store.base}/mlflow.db"]
    place.submit("score", words, {})
    same(spark, store, Store(f"{tmp_path}/store"), SCORED)
    assert place.imported("pipelines")


def champion(uri: str) -> tuple[int, dict[str, torch.Tensor]]:
    """The version that a tracking server or file calls so, and its weights, as it gives them."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        version = versions.champion("din-demo")
        assert version is not None
        return version, versions.load("din-demo", version)[0].state_dict()
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.slow
def test_nights_on_a_cluster_publish_the_tables_of_local_nights(spark, place, postgres, tmp_path):
    here, there = Store(f"{tmp_path}/here"), Store(f"{tmp_path}/there")
    config, python = demo(tmp_path), [sys.executable, "-m"]
    ran([*python, "jobs.generate_logs", "--config", config, *WORDS], environment(), tmp_path)
    backend = postgres.create("mlflow").replace("postgresql:", "postgresql+psycopg:", 1)
    secrets = {"PGUSER": postgres.user, "PGPASSWORD": postgres.password}
    with tracking_server(tmp_path, backend, secrets) as uri:
        for night in NIGHTS[:2]:
            dated = ["--config", config, "--date", str(night), *WORDS]
            local = [*dated, f"store.path={here.base}", "launch.launcher=torchrun", RANKS]
            ran([*python, "jobs.nightly", *local], environment(), tmp_path)
            far = [*dated, f"store.path={there.base}", "launch.launcher=spark", RANKS]
            said = place.submit("nightly", far, {"MLFLOW_TRACKING_URI": uri})
            assert f"Runs and models: {uri}" in said
        version, weights = champion(uri)
        server = MlflowClient(uri)
        experiment = server.get_experiment_by_name("din-demo")
        runs = server.search_runs([experiment.experiment_id])
        logged = {run.info.run_name: run for run in runs}
    same(spark, here, there, ("vocabulary", "examples", "state", "counts", *SCORED))
    for night in NIGHTS[:2]:
        assert there.manifest("nights", night).facts == here.manifest("nights", night).facts
        run = logged[f"night {night}"]
        assert run.info.status == "FINISHED"
        assert run.info.artifact_uri.startswith("mlflow-artifacts:"), "the server's, not a path"
        assert run.data.params["scored"]
        assert "coverage" in run.data.metrics
    held, theirs = champion(f"sqlite:///{here.base}/mlflow.db")
    assert version == held == there.manifest("nights", NIGHTS[1]).facts["version"]
    assert weights.keys() == theirs.keys()
    for name, value in weights.items():
        assert torch.equal(value, theirs[name]), name
    assert list(tmp_path.glob("artifacts/**/weights.safetensors"))
    assert not list(Path(there.base).glob("ml*")), "nothing is tracked beside the server"
    assert place.imported("din_model")
