"""What conf/schedule starts is the night: by cron's shell, by Airflow, by the Spark operator."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml

from din_model.config import load, to_dict
from jobs.cli import Settings
from pipelines.ingest.synthetic import generate
from pipelines.store.store import Store
from tests.jobs.test_command_line import TINY
from tests.nights import demo, environment

ROOT = Path(__file__).parents[2]
SCHEDULE = ROOT / "conf" / "schedule"
AIRFLOW = "apache-airflow==2.10.*"
DAY = date(2026, 11, 20)
NEEDS_FLOCK = pytest.mark.skipif(not shutil.which("flock"), reason="needs flock of util-linux")


def cron() -> tuple[dict[str, str], list[str], str]:
    """The variables of the table, the five fields of its one line, and the command."""
    lines = (SCHEDULE / "nightly.cron").read_text().splitlines()
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    variables = dict(line.split("=", 1) for line in lines[:-1])
    *fields, command = lines[-1].split(None, 5)
    assert not re.search(r"(?<!\\)%", command), "cron ends a command at a bare %"
    return variables, fields, command.replace(r"\%", "%")


def by_cron(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as cron does, with the paths of the table in ``folder``."""
    variables, _, command = cron()
    home = folder / "home"
    home.mkdir(exist_ok=True)
    if not (home / ".venv").exists():
        (home / ".venv").symlink_to(Path(sys.executable).parents[1])
    env = environment() | {"DIN_HOME": str(home), "DIN_CONFIG": demo(folder)}
    env |= {"DIN_LOG": str(folder / "night.log")}
    assert set(env) >= set(variables) - {"SHELL"}
    command = command.replace("nightly.wait=6h", "nightly.wait=0s")
    return subprocess.run(
        [variables["SHELL"], "-c", command], env=env, capture_output=True, text=True
    )


def test_the_crontab_starts_the_nightly_job_once_a_night():
    variables, fields, command = cron()
    minute, hour, *every = fields
    assert int(minute) in range(60)
    assert int(hour) in range(24)
    assert every == ["*"] * 3
    words = shlex.split(command)
    job = words[words.index("-m") + 1]
    assert importlib.util.find_spec(job)
    assert job == "jobs.nightly"
    assert {"DIN_HOME", "DIN_CONFIG", "DIN_LOG"} <= set(variables)


@NEEDS_FLOCK
def test_cron_starts_the_night_of_yesterday_and_its_error_is_in_the_log(tmp_path):
    yesterday = date.today() - timedelta(days=1)
    done = by_cron(tmp_path)
    days = {yesterday, date.today() - timedelta(days=1)}
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
    last = (tmp_path / "night.log").read_text().splitlines()[-1]
    assert any(last.startswith(f"error: sources.impressions: no data for {d}:") for d in days), last


@NEEDS_FLOCK
def test_cron_starts_no_second_night_on_the_machine(tmp_path):
    lock = tmp_path / "night.log.lock"
    with subprocess.Popen(["flock", str(lock), "cat"], stdin=subprocess.PIPE) as other:
        # Once the other one holds the lock, nobody else gets it.
        while subprocess.run(["flock", "--nonblock", str(lock), "true"]).returncode == 0:
            pass
        done = by_cron(tmp_path)
        other.communicate()
    assert done.returncode == 75
    assert (tmp_path / "night.log").read_text() == ""


def test_the_operator_runs_one_night_at_a_time_with_secrets_from_a_secret():
    resource = yaml.safe_load((SCHEDULE / "kubernetes.yaml").read_text())
    assert resource["apiVersion"] == "sparkoperator.k8s.io/v1beta2"
    assert resource["kind"] == "ScheduledSparkApplication"
    spec, application = resource["spec"], resource["spec"]["template"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert len(spec["schedule"].split()) == 5
    assert (application["type"], application["mode"]) == ("Python", "cluster")
    script = application["mainApplicationFile"].removeprefix("local:///opt/din-pipeline/")
    assert (ROOT / script).is_file()
    assert script == "jobs/nightly.py"
    spark = re.search(r"^pyspark==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert spark
    assert application["sparkVersion"] == spark[1]
    version = re.search(r'version="([\d.]+?)(?:\.dev\d+)?"', (ROOT / "setup.py").read_text())
    assert version
    assert application["image"].endswith(f"/din-pipeline:{version[1]}")
    assert application["restartPolicy"]["type"] == "OnFailure"
    for pod in ("driver", "executor"):
        assert application[pod]["envFrom"] == [{"secretRef": {"name": "din-env"}}]
        assert not {"env", "envVars"} & set(application[pod]), "no value stands in the file"


def test_the_operators_arguments_parse_as_a_night(tmp_path):
    template = yaml.safe_load((SCHEDULE / "kubernetes.yaml").read_text())["spec"]["template"]
    option, config, *words = template["arguments"]
    mounted = template["driver"]["configMaps"][0]["path"]
    assert option == "--config"
    assert Path(config).parent == Path(mounted)
    nightly = load(Settings, [demo(tmp_path)], words).nightly
    assert (nightly.wait, nightly.poll) == ("6h", "5m")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The airflow command of an environment of its own, and what it is started with."""
    folder = tmp_path_factory.mktemp("airflow")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    install = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet", AIRFLOW]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install {AIRFLOW}: {done.stderr.strip().splitlines()[-1]}")
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(to_dict(load(Settings, [demo(folder)], TINY))))
    env = environment() | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(SCHEDULE),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "DIN_HOME": str(folder),
        "DIN_CONFIG": str(config),
        "DIN_COMMAND": json.dumps([sys.executable, "-m", "jobs.nightly"]),
    }
    subprocess.run([folder / "venv/bin/airflow", "db", "migrate"], env=env, check=True)
    return folder, env


def run_airflow(airflow: tuple[Path, dict[str, str]], *words: str) -> str:
    folder, env = airflow
    done = subprocess.run(
        [folder / "venv/bin/airflow", *words], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_airflow_parses_the_dag_and_its_task_publishes_a_night(spark, airflow):
    folder, env = airflow
    errors = run_airflow(airflow, "dags", "list-import-errors", "-o", "json")
    assert json.loads(errors.splitlines()[-1]) == []
    show = (
        "import json; from airflow.models import DagBag; d = DagBag().dags['din_nightly']; t ="
        " d.get_task('night'); print(json.dumps([d.max_active_runs, d.catchup, t.retries,"
        " t.retry_delay.total_seconds(), t.words]))"
    )
    shown = subprocess.run(
        [folder / "venv/bin/python", "-c", show], env=env, capture_output=True, text=True
    )
    at_once, catchup, retries, delay, words = json.loads(shown.stdout.splitlines()[-1])
    assert (at_once, catchup) == (1, False)
    assert retries > 0
    assert delay > 0
    assert words[words.index("--config") + 1] == env["DIN_CONFIG"]
    assert "--date" in words

    settings = load(Settings, [env["DIN_CONFIG"]])
    assert settings.generate is not None
    generate(spark, settings.generate)
    said = run_airflow(airflow, "dags", "test", "din_nightly", str(DAY))
    store = Store(settings.store.path)
    assert store.dates("nights") == [DAY], said
    assert store.dates("scores") == [DAY + timedelta(days=1)]
    assert f"Night of {DAY}" in said, "its lines are in the task's log"
    assert "gate: promoted" in said, "its lines are in the task's log"


@pytest.mark.slow
def test_a_failed_night_fails_its_task_with_the_error_line(airflow):
    folder, env = airflow
    other = DAY + timedelta(days=1)  # a date that no night has been run for
    done = subprocess.run(
        [folder / "venv/bin/airflow", "tasks", "test", "din_nightly", "night", str(other)],
        env=env | {"DIN_CONFIG": "nowhere.yaml"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    why = "exit status 2: error: nowhere.yaml: no such configuration file"
    assert why in done.stdout + done.stderr
