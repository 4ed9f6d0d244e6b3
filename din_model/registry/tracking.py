"""Runs, models and versions in MLflow; the only place that talks to it.

Stages are gone from MLflow: ``champion`` is an alias, moved by the nightly gate and by rollback,
and by nothing else. A name like ``models:/din@champion`` is resolved to a version once, and the
version is what is used and recorded.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.spark_dataset_source import SparkDatasetSource
from mlflow.exceptions import MlflowException
from requests import RequestException

from din_model.config import Section, expand
from din_model.errors import InputError

TrackingError = (MlflowException, RequestException)
"""What MLflow raises: a server that does not answer, or refuses; files go by plain requests."""


KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Or MLflow's pages take the experiment for one of prompts and agents."""

PASSWORD = re.compile(r"(://[^/@:]*):([^/@]*)@")


@dataclass(frozen=True)
class TrackingConfig(Section):
    """Where runs and models go.

    Attributes:
        model: the name that versions are registered under.
        experiment: MLflow's experiment of all runs.
        uri: MLflow's server; the environment's MLFLOW_TRACKING_URI wins. Without either it is an
            SQLite file in the store.
    """

    model: str = "din"
    experiment: str = "din"
    uri: str | None = None

    def __post_init__(self) -> None:
        if self.uri and (found := PASSWORD.search(self.uri)) and "${" not in found[2]:
            raise InputError("tracking.uri holds a password: take it out, or write ${NAME} there")


def connect(config: TrackingConfig, store_url: str) -> str:
    """Point MLflow at its server or file; return a line that says how to look at it."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # of DIN_LOG=json
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    # What a database refuses is raised too: without this it is told twice, once as a trace.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or (expand(config.uri) if config.uri else None)
    if uri is None:
        if not store_url.startswith("file://"):
            raise InputError("tracking.uri: name a server; SQLite needs a store on local disk")
        Path(store_url.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{store_url.removeprefix('file://')}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    if client.get_experiment_by_name(config.experiment) is None:
        # With SQLite the artifacts lie beside it; a server knows its own place.
        place = f"{store_url}/mlartifacts" if uri.startswith("sqlite") else None
        client.create_experiment(config.experiment, artifact_location=place, tags=KIND)
    mlflow.set_experiment(config.experiment)
    if uri.startswith("sqlite"):
        return f"mlflow ui --backend-store-uri {uri}"
    return without_password(uri)


def address() -> str:
    """Where runs and models go, once connected."""
    return mlflow.get_tracking_uri()


@contextmanager
def run(name: str, tags: dict[str, str], settings: dict[str, Any]) -> Iterator[None]:
    """One MLflow run (nested, inside another), with the resolved configuration."""
    nested = mlflow.active_run() is not None
    with mlflow.start_run(run_name=name, tags=tags, nested=nested):
        mlflow.log_dict(settings, "settings.json")
        mlflow.log_params({k: str(v)[:500] for k, v in _flat(settings).items() if v is not None})
        yield


def active() -> str | None:
    """The run that logging goes to, for another process to join."""
    run = mlflow.active_run()
    return run.info.run_id if run else None


@contextmanager
def rejoined(run_id: str) -> Iterator[None]:
    """Go on with a run that another process holds open."""
    with mlflow.start_run(run_id=run_id):
        yield


def log_metrics(metrics: dict[str, float], step: int | None = None) -> None:
    """Log what is a number; nan says nothing and is left out."""
    numbers = {k: float(v) for k, v in metrics.items() if v == v}
    mlflow.log_metrics(numbers, step=step)


def log_params(params: dict[str, Any]) -> None:
    mlflow.log_params(params)


def log_figure(figure: Any, name: str) -> None:
    mlflow.log_figure(figure, f"plots/{name}.png")


def log_examples(date: str, url: str, digest: str, use: str) -> None:
    """Name a published date as an input of the active run, whose ``use`` is training or judging."""
    source = SparkDatasetSource(path=url)
    dataset = MetaDataset(source, name=f"examples of {date}", digest=digest[-36:])  # type: ignore[abstract]
    mlflow.log_input(dataset, context=use)


def log_dict(data: dict[str, Any], name: str) -> None:
    mlflow.log_dict(data, f"{name}.json")


def log_file(path: Path) -> None:
    """Log a file with the active run, under its own name."""
    mlflow.log_artifact(str(path))


def log_text(text: str, name: str) -> None:
    mlflow.log_text(text, name)


def describe_run(text: str) -> None:
    """Show Markdown as the description of the active run."""
    mlflow.set_tag("mlflow.note.content", text)


def without_password(uri: str) -> str:
    return PASSWORD.sub(r"\1:***@", uri)


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
