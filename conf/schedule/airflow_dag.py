"""The night by Airflow 2.10: the DAG ``din_nightly``, one task a day. Copy it into the DAGs folder.

No sensor: the job waits for late logs itself (``nightly.wait``). No second night runs at once, and
no missed ones are made up for: an old date is ``airflow dags trigger din_nightly --exec-date D``.

What it reads from the environment of the scheduler and the workers:

- ``DIN_COMMAND``: what runs a job, as a JSON list, such as
  ``["/opt/din/bin/spark-submit", "--master", "yarn", "/opt/din/jobs/nightly.py"]``;
- ``DIN_CONFIG``: the configuration, a path; ``DIN_HOME``: the folder it is read from;
- ``DIN_TIME_ZONE``: where a day begins, as in features.time_zone (UTC unless set).

Secrets that the job reads belong into the environment of the workers, or of the command.
"""

import json
import os
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from airflow import DAG
from airflow.exceptions import AirflowException
from airflow.hooks.subprocess import SubprocessHook
from airflow.models import BaseOperator
from airflow.timetables.interval import CronDataIntervalTimetable

HOME = os.environ.get("DIN_HOME", "/opt/din-pipeline")
CONFIG = os.environ.get("DIN_CONFIG", f"{HOME}/conf/my.yaml")
ZONE = os.environ.get("DIN_TIME_ZONE", "UTC")
COMMAND = json.loads(os.environ.get("DIN_COMMAND", "null"))
COMMAND = COMMAND or [f"{HOME}/.venv/bin/python", "-m", "jobs.nightly"]
# The logical date is the start of the interval, hence the day that has just ended.
DATE = f"{{{{ logical_date.in_timezone('{ZONE}').to_date_string() }}}}"


class Command(BaseOperator):
    """Run a command, each word as it is: no shell reads it. A status other than 0 is a failure."""

    template_fields = ("words",)

    def __init__(self, *, words: list[str], folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words, self.folder = words, folder

    @cached_property
    def hook(self) -> SubprocessHook:
        """What starts the job and kills it."""
        return SubprocessHook()

    def execute(self, context: Any) -> None:  # noqa: ARG002 (the signature of BaseOperator)
        """Run the job; a non-zero exit status fails the task."""
        result = self.hook.run_command(self.words, cwd=self.folder)
        if result.exit_code:
            raise AirflowException(f"exit status {result.exit_code}: {result.output}")

    def on_kill(self) -> None:
        """End the job when its task is stopped."""
        self.hook.send_sigterm()


with DAG(
    "din_nightly",
    description="Build, train, gate and score one date",
    schedule=CronDataIntervalTimetable("30 2 * * *", timezone=ZONE),
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo(ZONE)),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=15)},
) as dag:
    Command(
        task_id="night",
        words=[*COMMAND, "--config", CONFIG, "--date", DATE, "nightly.wait=6h", "nightly.poll=5m"],
        folder=HOME,
    )
