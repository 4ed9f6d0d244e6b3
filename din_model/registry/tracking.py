"""Runs in MLflow: where they go, and what is logged with them.

Only this package talks to MLflow.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import mlflow.store.db.utils
from alembic.util.exc import CommandError
from mlflow import MlflowClient
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.spark_dataset_source import SparkDatasetSource
from mlflow.exceptions import MlflowException
from requests import RequestException
from sqlalchemy.exc import SQLAlchemyError

from din_model import termination
from din_model.config import Section, expand
from din_model.errors import InputError
from din_model.masking import holds_secret, masked, masked_values, remember_passwords

TrackingError = (MlflowException, RequestException, SQLAlchemyError, CommandError)
"""Errors of MLflow and its parts if a server or database is down, damaged, locked or refuses."""


KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Without this tag, MLflow's UI shows the experiment as one of prompts and agents."""

VARIABLE = "MLFLOW_TRACKING_URI"

UNNAMABLE = re.compile(r"[^\w.\- :]")
"""What MLflow refuses in the name of a parameter, such as the € of a column."""


@dataclass(frozen=True)
class TrackingConfig(Section):
    """Where runs and models go.

    Attributes:
        model: registered name of the versions.
        experiment: MLflow experiment of all runs.
        uri: MLflow server; the environment variable MLFLOW_TRACKING_URI wins. Without either, an
            SQLite file in the store.
    """

    model: str = "din"
    experiment: str = "din"
    uri: str | None = None

    def __post_init__(self) -> None:
        if self.uri and holds_secret(self.uri):
            raise InputError("tracking.uri contains a password: remove it, or write ${NAME}")


def connect(config: TrackingConfig, store_url: str, address: str | None = None) -> str:
    """Point MLflow at its server or file; return a line that says how to view the runs.

    Args:
        config: the server.
        store_url: where an SQLite file lies if there is no server.
        address: of the server that another process has connected to.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # for DIN_LOG=json
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    # Database errors are raised too; without this they are also logged with a trace.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # A database that is down is asked for two seconds instead of two minutes without a word.
    mlflow.store.db.utils.MAX_RETRY_COUNT = 4
    uri = address or os.environ.get(VARIABLE)
    uri = uri or (expand(config.uri) if config.uri else None)
    if uri is None:
        if not store_url.startswith("file://"):
            raise InputError("tracking.uri: set a server; SQLite needs a store on local disk")
        folder = store_url.removeprefix("file://")
        Path(folder).mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{_quoted(folder)}/mlflow.db"
    remember_passwords(VARIABLE, uri)
    _set_address(uri)
    client = MlflowClient()
    if client.get_experiment_by_name(config.experiment) is None:
        # With SQLite the artifacts lie beside it; a server has its own location.
        place = f"{_quoted(store_url)}/mlartifacts" if uri.startswith("sqlite") else None
        client.create_experiment(config.experiment, artifact_location=place, tags=KIND)
    mlflow.set_experiment(config.experiment)
    if uri.startswith("sqlite"):
        return f"mlflow ui --backend-store-uri {uri}"
    return masked(uri)


def _set_address(uri: str) -> None:
    """Point MLflow at an address, without its password in the environment of other processes.

    MLflow sets the variable, which would also win over the configuration of the next connection.
    """
    before = os.environ.get(VARIABLE)
    mlflow.set_tracking_uri(uri)
    os.environ.pop(VARIABLE, None)
    if before is not None:
        os.environ[VARIABLE] = before


def _quoted(path: str) -> str:
    """Quote what would end the path of an address: ``?``, ``#`` and ``%``."""
    return re.sub("[?#%]", lambda match: f"%{ord(match[0]):02X}", path)


def address() -> str:
    """Return the tracking URI, once connected."""
    return mlflow.get_tracking_uri()


@contextmanager
def run(name: str, tags: dict[str, str], settings: dict[str, Any]) -> Iterator[None]:
    """Open an MLflow run (nested inside an active one) and log the resolved configuration."""
    nested = mlflow.active_run() is not None
    with mlflow.start_run(run_name=name, tags=tags, nested=nested), _killed_if_ended():
        settings = masked_values(settings)
        mlflow.log_dict(settings, "settings.json")
        flat = {
            UNNAMABLE.sub("_", k): str(v)[:500] for k, v in _flat(settings).items() if v is not None
        }
        mlflow.log_params(flat)
        yield


@contextmanager
def _killed_if_ended() -> Iterator[None]:
    """Close the active run as KILLED if the job is told to end."""
    try:
        yield
    except BaseException as error:
        if termination.received() or not isinstance(error, Exception):
            mlflow.end_run("KILLED")
        raise


def active() -> str | None:
    """Return the id of the active run, for another process to join."""
    run = mlflow.active_run()
    return run.info.run_id if run else None


@contextmanager
def rejoined(run_id: str) -> Iterator[None]:
    """Continue a run that another process holds open."""
    with mlflow.start_run(run_id=run_id):
        yield


def log_metrics(metrics: dict[str, float], step: int | None = None) -> None:
    """Log metrics; nan values are omitted."""
    numbers = {k: float(v) for k, v in metrics.items() if v == v}
    mlflow.log_metrics(numbers, step=step)


def log_params(params: dict[str, Any]) -> None:
    """Log parameters."""
    mlflow.log_params(masked_values(params))


def log_figure(figure: Any, name: str) -> None:
    """Log a figure as plots/NAME.png."""
    mlflow.log_figure(figure, f"plots/{name}.png")


def log_examples(date: str, url: str, digest: str, use: str) -> None:
    """Log a published date as an input of the active run; ``use`` is training or judging."""
    source = SparkDatasetSource(path=masked(url))
    dataset = MetaDataset(source, name=f"examples of {date}", digest=digest[-36:])  # type: ignore[abstract]
    mlflow.log_input(dataset, context=use)


def runs_of_inputs(run_ids: Iterable[str]) -> set[str]:
    """Return the runs of examples (see ``log_examples``) that these runs of MLflow read."""
    client = MlflowClient()
    inputs = [client.get_run(run_id).inputs for run_id in run_ids]
    return {each.dataset.digest for found in inputs if found for each in found.dataset_inputs}


def open_runs(config: TrackingConfig) -> list[str]:
    """Return the ids of the experiment's runs that have not ended."""
    experiment = MlflowClient().get_experiment_by_name(config.experiment)
    assert experiment is not None, "connect creates it"
    found = mlflow.search_runs(
        [experiment.experiment_id], "attributes.status = 'RUNNING'", output_format="list"
    )
    return [run.info.run_id for run in found]


def log_dict(data: dict[str, Any], name: str) -> None:
    """Log a mapping as NAME.json."""
    mlflow.log_dict(masked_values(data), f"{name}.json")


def log_file(path: Path) -> None:
    """Log a file under its own name."""
    mlflow.log_artifact(str(path))


def log_text(text: str, name: str) -> None:
    """Log a text as a file."""
    mlflow.log_text(masked(text), name)


def describe_run(text: str) -> None:
    """Set the Markdown description of the active run."""
    mlflow.set_tag("mlflow.note.content", masked(text))


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
