"""The jobs as a scheduler starts them: real processes, their exit status, and their output."""

import subprocess
import sys
from pathlib import Path

import pytest

from din_model.registry import tracking, versions
from din_model.registry.tracking import TrackingConfig
from pipelines.store.store import Store
from tests.nights import environment

ROOT = Path(__file__).parents[2]
DEMO = str(ROOT / "conf" / "demo.yaml")
BIN = Path(sys.executable).parent
PYTHON = [sys.executable, "-m"]
# Three files a day: two ranks cannot share them evenly.
TINY = [
    "generate.users=120",
    "generate.items=90",
    "generate.categories=12",
    "generate.impressions=1200",
    "generate.candidates_users=10",
    "generate.candidates_items=6",
    "generate.days=2",
    "train.window=1",
    "train.epochs=2",
    "train.baselines=[]",
    "train.learning_rate=0.005",
    "train.batch_size=128",
    "build.max_broken=0.05",
    "build.shards=3",
]


def start(folder: Path, command: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a job in ``folder``, where the demo's relative paths then lie."""
    command = [*command, "--config", DEMO, *words]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=240
    )


def submit(folder: Path, job: str, *words: str) -> str:
    """Run a job under spark-submit; return what it printed."""
    command = [str(BIN / "spark-submit"), "--master", "local[2]"]
    command += ["--conf", "spark.sql.shuffle.partitions=3", str(ROOT / "jobs" / f"{job}.py")]
    done = start(folder, command, *words, *TINY)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder where every job but rollback ran once under spark-submit, and their output."""
    folder, said = tmp_path_factory.mktemp("submitted"), {}
    for job, day in [
        ("generate_logs", 19),
        ("build_sequences", 20),
        ("train", 20),
        ("nightly", 20),
        ("score", 21),
    ]:
        said[job] = submit(folder, job, "--date", f"2026-11-{day}", "build.first=2026-11-19")
    return folder, said


@pytest.mark.slow
def test_every_job_runs_under_spark_submit(submitted):
    folder, said = submitted
    store = Store(str(folder / "out/demo/store"))
    assert {name: [str(d) for d in store.dates(name)] for name in ("examples", "scores")} == {
        "examples": ["2026-11-19", "2026-11-20"],
        "scores": ["2026-11-21"],
    }
    assert "version 1" in said["train"]
    assert "gate: promoted" in said["nightly"]
    assert "of version 1 over" in said["nightly"]
    for line in (
        "popularity", "reference (best possible)", "(AUC - 0.5) / (best possible AUC - 0.5) =",
        "impressions of 2026-11-20", "manifest rows of version 1", "candidates for 2026-11-21",
        "best candidates, and what weighed most", "mlflow ui --backend-store-uri",
    ):  # fmt: skip
        assert line in said["nightly"]
    assert "published already, from the same inputs" in said["score"]
    rolled = start(folder, [str(BIN / "spark-submit"), str(ROOT / "jobs" / "rollback.py")])
    assert rolled.returncode == 2
    # spark-submit passes both of its driver's streams on as one.
    assert "error: 'din-demo' version 1 has no previous champion" in rolled.stdout


@pytest.mark.slow
def test_two_ranks_read_every_row_of_uneven_files_once(submitted, monkeypatch):
    folder, _ = submitted
    store = Store(str(folder / "out/demo/store"))
    manifest = store.require("examples", store.dates("examples")[0], "")
    assert len(manifest.files) == 3
    torchrun = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", "-m", "jobs.train"]
    done = start(folder, torchrun, "--date", "2026-11-20", *TINY)
    assert done.returncode == 0, done.stderr
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.connect(TrackingConfig("din-demo", "din-demo"), store.url)
    # Other ranks, other batches: not the model of one process, so a version of its own.
    _, facts = versions.load("din-demo", 2)
    assert facts.rows_read == facts.rows == 2 * manifest.rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.epoch=2"], "unknown key 'train.epoch'; did you mean 'epochs'?"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: no such configuration file"),
        (["--date", "2026-12-24"], "no data for 2026-12-24"),
        (["sources.impressions.path=elsewhere/{date}"], "elsewhere/2026-11-20 does not exist"),
        (["features.time=when"], "'when'"),
        (["features.columns.colour.side=item"], "colour"),
    ],
)
def test_bad_input_is_one_line_and_no_success(submitted, words, message):
    folder, _ = submitted
    before = sorted(p for p in (folder / "out").rglob("*manifest.json"))
    job = [*PYTHON, "jobs.build_sequences"]
    done = start(folder, job, "--date", "2026-11-20", "store.path=out/other", *TINY, *words)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: "), lines
    assert message in lines[0], lines
    assert sorted(p for p in (folder / "out").rglob("*manifest.json")) == before
