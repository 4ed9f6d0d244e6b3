"""Run the night by Airflow 2.10: the DAG ``din_nightly``, one task per day.

Copy the file into the DAGs folder. The DAG has no sensor, because the job waits for late logs
itself (``nightly.wait``). One night runs at a time. Missed nights are not caught up; run an old
date with ``airflow dags trigger din_nightly --exec-date D``.

Environment variables of the scheduler and the workers:

- ``DIN_COMMAND``: the command of the job, as a JSON list, such as
  ``["/opt/din/bin/spark-submit", "--master", "yarn", "/opt/din/jobs/nightly.py"]``;
- ``DIN_CONFIG``: path of the configuration; ``DIN_HOME``: working directory of the job;
- ``DIN_TIME_ZONE``: as in features.time_zone (UTC unless set).

Set the secrets that the job reads in the environment of the workers, or of the command.
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
# The logical date is the start of the interval: the day that has just ended.
DATE = f"{{{{ logical_date.in_timezone('{ZONE}').to_date_string() }}}}"


class Command(BaseOperator):
    """Run a command without a shell. A non-zero exit status fails the task."""

    template_fields = ("words",)

    def __init__(self, *, words: list[str], folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words, self.folder = words, folder

    @cached_property
    def hook(self) -> SubprocessHook:
        """Starts the job and kills it."""
        return SubprocessHook()

    def execute(self, context: Any) -> None:  # noqa: ARG002 (the signature of BaseOperator)
        """Run the job; a non-zero exit status fails the task."""
        result = self.hook.run_command(self.words, cwd=self.folder)
        if result.exit_code:
            raise AirflowException(f"exit status {result.exit_code}: {result.output}")

    def on_kill(self) -> None:
        """Terminate the job when its task is stopped."""
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
