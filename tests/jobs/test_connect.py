"""Jobs on a real Spark Connect server: what they publish is what jobs on a classic session do."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from pipelines.store.data_sets import DATA_SETS
from pipelines.store.store import Store
from tests.jobs.connect_server import connect_server
from tests.nights import NIGHTS, SMALL, environment

pytest.importorskip("grpc", reason="the extra connect is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with connect_server(tmp_path_factory.mktemp("connect")) as address:
        yield address


def on_connect(server: str, folder: Path, job: str, *words: str) -> subprocess.CompletedProcess:
    """Run a job in a folder of its own, on a machine without Java."""
    env = environment() | {"SPARK_REMOTE": server, "JAVA_HOME": "/nowhere", "PATH": "/nowhere"}
    command = [sys.executable, "-m", f"jobs.{job}", *words]
    return subprocess.run(command, cwd=folder, env=env, text=True, capture_output=True)


@pytest.mark.slow
def test_a_night_on_connect_publishes_what_a_classic_one_does(spark, nights, server, tmp_path):
    _, store, _ = nights
    config, night = str(Path(store.base).parents[2] / "demo.yaml"), NIGHTS[0]
    words = [*SMALL, "history.kinds.clicks.age=true", f"store.path={tmp_path}/store"]
    done = on_connect(server, tmp_path, "nightly", "--config", config, "--date", str(night), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    other = Store(f"{tmp_path}/store")
    published = [(name, day) for name in DATA_SETS for day in other.dates(name)]
    until = night + timedelta(days=1)
    expected = [
        (name, day)
        for name in DATA_SETS
        for day in store.dates(name)
        if day < until or (day == until and name == "scores")
    ]
    assert published == expected
    for name, day in published:
        frames = [s.read(spark, [s.manifest(name, day)]) for s in (store, other)]
        assert frames[0].schema == frames[1].schema
        keys = [n for n, t in frames[0].dtypes if t in ("string", "int", "bigint")]
        rows = [frame.orderBy(keys).toPandas() for frame in frames]
        if name == "gate":
            continue
        assert_frame_equal(*rows, rtol=0, atol=1e-6, obj=f"{name} of {day}")
