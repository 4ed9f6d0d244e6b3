"""An MLflow server and PostgreSQL that can be killed and started again.

PostgreSQL holds the runs and models of the server, and the table that scores are delivered to. Last
night runs once; each round gets a copy of the database after it.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import psycopg

from pipelines.store.store import Store
from tests.chaos.job import ORDINARY, Setting
from tests.chaos.stage import LAST_NIGHT, Stage
from tests.jobs.tracking_server import tracking_server
from tests.postgres import Server, serving

ROUND, YESTERDAY = "round", "yesterday"
"""The database of the current round, and the one that it is copied from."""

SENDING = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'din-pipeline'"


@dataclass
class Services:
    """Both services, started at first use; ``open`` stops them after the campaign."""

    stage: Stage
    open: ExitStack
    tracking: ExitStack = field(default_factory=ExitStack)
    uri: str = ""

    @cached_property
    def postgres(self) -> Server:
        return self.open.enter_context(serving())

    @property
    def folder(self) -> Path:
        return self.stage.folder / "services"

    @property
    def secrets(self) -> dict[str, str]:
        return {"PGUSER": self.postgres.user, "PGPASSWORD": self.postgres.password}

    @property
    def delivery(self) -> Setting:
        """A night with scores to PostgreSQL, and runs to SQLite in the store."""
        words = [f"score.postgres.url={self.postgres.url(ROUND)}"]
        return replace(ORDINARY, words=words, env=self.secrets)

    @property
    def setting(self) -> Setting:
        """A night with scores to PostgreSQL, and runs to the MLflow server."""
        return replace(self.delivery, env=self.secrets | {"MLFLOW_TRACKING_URI": self.uri})

    def start_tracking(self) -> None:
        backend = self.postgres.url(ROUND).replace("postgresql:", "postgresql+psycopg:", 1)
        self.uri = self.tracking.enter_context(tracking_server(self.folder, backend, self.secrets))

    def kill_tracking(self) -> None:
        """Send SIGKILL, as the tests do at the end."""
        self.tracking.close()

    @contextmanager
    def begun(self) -> Iterator["Services"]:
        """Start both with the data of yesterday, for one round."""
        self.made_ready  # noqa: B018
        self.postgres.start()  # a failed round may have killed it
        self.postgres.create(ROUND, like=YESTERDAY)
        artifacts = self.folder / "artifacts"
        shutil.rmtree(artifacts, ignore_errors=True)
        shutil.copytree(self.folder / YESTERDAY, artifacts)
        with self.tracking:
            self.start_tracking()
            yield self

    @cached_property
    def made_ready(self) -> None:
        """Run last night once for the database; its store is discarded."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.postgres.create(ROUND)
        shutil.rmtree(self.stage.store)
        with self.tracking:
            self.start_tracking()
            with self.stage.night(self.setting, LAST_NIGHT) as job:
                job.must_end()
        self.postgres.create(YESTERDAY, like=ROUND)
        shutil.copytree(self.folder / "artifacts", self.folder / YESTERDAY)
        self.stage.restore()

    def rows(self, query: str) -> list[tuple[object, ...]]:
        who = {"user": self.postgres.user, "password": self.postgres.password}
        with psycopg.connect(self.postgres.url(ROUND), **who) as connection:
            return connection.execute(query).fetchall()

    def delivering(self) -> bool:
        """Whether a job is connected to deliver scores."""
        return bool(self.rows(SENDING))

    def require_delivered(self) -> None:
        """Require the scores of last night and of tonight in the table, each once."""
        found = self.rows("SELECT date::text, count(*) FROM scores GROUP BY date ORDER BY date")
        wanted = [(m.date, m.rows) for m in Store(str(self.stage.undisturbed)).manifests("scores")]
        assert found == wanted, f"PostgreSQL has {found}, not {wanted}"
