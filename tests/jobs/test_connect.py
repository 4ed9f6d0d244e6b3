"""Jobs on a real Spark Connect server: what they publish is what jobs on a classic session do."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from pipelines.store.data_sets import DATA_SETS
from pipelines.store.store import Store
from tests.jobs.connect_server import connect_server
from tests.nights import NIGHTS, SMALL, demo, environment

pytest.importorskip("grpc", reason="the extra connect is not installed")

NO_JAVA = {"JAVA_HOME": "/nowhere", "PATH": "/nowhere"}
WORDS = [*SMALL, "train.threads=1", "history.kinds.clicks.age=true"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with connect_server(tmp_path_factory.mktemp("connect")) as address:
        yield address


def ran(
    folder: Path, job: str, words: Sequence[str], variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a job in a folder, whose configuration is the demo's."""
    command = [sys.executable, "-m", f"jobs.{job}", "--config", demo(folder), *WORDS, *words]
    return subprocess.run(
        command, cwd=folder, env=environment() | variables, text=True, capture_output=True
    )


@pytest.mark.slow
def test_a_night_on_connect_publishes_what_a_classic_one_does(spark, server, tmp_path):
    on_connect = NO_JAVA | {"SPARK_REMOTE": server}
    done = [ran(tmp_path, "generate_logs", [], on_connect)]
    for name, variables in (("connect", on_connect), ("classic", {})):
        words = ["--date", str(NIGHTS[0]), f"store.path={tmp_path}/{name}"]
        done.append(ran(tmp_path, "nightly", words, variables))
    assert [each.returncode for each in done] == [0, 0, 0], [each.stderr for each in done]
    stores = Store(f"{tmp_path}/connect"), Store(f"{tmp_path}/classic")
    published, expected = ([(n, d) for n in DATA_SETS for d in s.dates(n)] for s in stores)
    assert published == expected != []
    for name, day in published:
        if name == "nights":  # a record without rows
            continue
        frames = [store.read(spark, [store.manifest(name, day)]) for store in stores]
        assert frames[0].schema == frames[1].schema
        keys = [n for n, t in frames[0].dtypes if t in ("string", "int", "bigint")]
        rows = [frame.orderBy(keys).toPandas() for frame in frames]
        assert_frame_equal(*rows, rtol=0, atol=1e-6, obj=f"{name} of {day}")


def test_ranks_on_executors_are_refused_before_anything_is_built(server, tmp_path):
    words = ["--date", str(NIGHTS[0]), f"store.path={tmp_path}/store", "launch.launcher=spark"]
    done = ran(tmp_path, "build_sequences", words, NO_JAVA | {"SPARK_REMOTE": server})
    assert done.returncode == 2
    assert "error: launch.launcher: spark needs the JVM of a driver" in done.stderr
    assert not (tmp_path / "store" / "vocabulary").exists()
