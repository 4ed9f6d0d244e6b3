"""Registered models in MLflow: versions, the alias ``champion``, fingerprints.

Only the nightly gate and rollback move the alias. A name like ``models:/din@champion`` is resolved
to a version once, and the version is used and recorded.
"""

from itertools import pairwise
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from din_model.errors import InputError
from din_model.features import FeatureSpec
from din_model.modules.din import DIN
from din_model.registry import artifact
from din_model.registry.predict import inputs_of, unknown_rows
from din_model.registry.tracking import address

CHAMPION = "champion"


FINGERPRINT = "fingerprint"


BEFORE = "champion_before"


LONGEST = 4900
"""Characters of a description; the database of a tracking server allows 5000."""


ABOUT = """Click probability by the Deep Interest Network: din-pipeline trains a version a night.

The alias `champion` is the version that scores; only the nightly gate and rollback move it.
Each version's description is its model card: data, metrics, limits, how to score."""


ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def losses(model: str, version: int) -> list[tuple[int, float]]:
    """Return step and training loss of the training that made a version, in order.

    A run may hold several trainings; this one is the last that starts before the version was
    registered. Empty if there is none.
    """
    client = MlflowClient()
    registered = client.get_model_version(model, str(version))
    if not registered.run_id:
        return []
    points = client.get_metric_history(registered.run_id, "loss")
    points = [m for m in points if m.timestamp <= registered.creation_timestamp]
    points = sorted(points, key=lambda m: (m.timestamp, m.step))
    starts = [i for i, (a, b) in enumerate(pairwise(points), 1) if b.step <= a.step]
    return [(m.step, m.value) for m in points[max(starts, default=0) :]]


def find(model: str, fingerprint: str) -> int | None:
    """Return the version with this fingerprint, if there is one."""
    registered = MlflowClient().search_model_versions(f"name = '{model}'")
    equal = [int(v.version) for v in registered if v.tags.get(FINGERPRINT) == fingerprint]
    return min(equal, default=None)


def runs(model: str) -> list[str]:
    """Return the ids of the MLflow runs that the registered versions were trained in."""
    registered = MlflowClient().search_model_versions(f"name = '{model}'")
    return [v.run_id for v in registered if v.run_id]


def signature_of(spec: FeatureSpec) -> ModelSignature:
    """Return what a version reads and returns: named arrays, lists padded to their length."""
    inputs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(each.type), (-1,) if each.length is None else (-1, each.length), name)
        for name, each in inputs_of(spec).items()
    ]
    return ModelSignature(Schema(inputs), Schema([TensorSpec(np.dtype(np.float64), (-1,))]))


def register(model: str, folder: Path, fingerprint: str, tags: dict[str, str]) -> int:
    """Log a model folder in the active run and register it; return its version."""
    client, spec = MlflowClient(), artifact.read_spec(folder)
    info = mlflow.pyfunc.log_model(
        name="model",
        python_model=str(Path(__file__).with_name("pyfunc.py")),
        artifacts={"model": str(folder)},
        pip_requirements=["din-pipeline"],
        signature=signature_of(spec),
        input_example=unknown_rows(spec),
    )
    try:
        client.create_registered_model(model, description=ABOUT)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    active = mlflow.active_run()
    version = client.create_model_version(
        model,
        source=info.model_uri,
        run_id=active.info.run_id if active else None,
        tags=tags | {FINGERPRINT: fingerprint},
        model_id=info.model_id,
    )
    return int(version.version)


def describe(model: str, version: int, card: str) -> None:
    """Set a model card as the version's description, and log it with the active run."""
    mlflow.log_text(card, "model_card.md")
    if len(card) > LONGEST:
        card = f"{card[:LONGEST].rsplit(chr(10), 1)[0]}\n\n… see model_card.md of the run"
    MlflowClient().update_model_version(model, str(version), description=card)


def champion(model: str) -> int | None:
    """Return the version of the alias; None if there is no such model or alias."""
    try:
        return int(MlflowClient().get_model_version_by_alias(model, CHAMPION).version)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise  # a server that does not respond is not a registry without a champion


def resolve(model: str, wanted: str | None) -> int:
    """Resolve None (the champion), ``7``, ``@alias`` or ``models:/NAME/7`` to a version.

    Raises:
        InputError: no such model, version or alias.
    """
    text = (wanted or f"@{CHAMPION}").removeprefix(f"models:/{model}").removeprefix("/")
    try:
        if text.startswith("@"):
            return int(MlflowClient().get_model_version_by_alias(model, text[1:]).version)
        return int(MlflowClient().get_model_version(model, text).version)
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        raise InputError(
            f"no model {model!r} with {'alias ' if text[0] == '@' else 'version '}{text.strip('@')}"
            f" at {address()}: train and gate one with jobs.nightly, or set"
            " tracking.model"
        ) from None


def download(model: str, version: int) -> Path:
    """Fetch a version; return the folder that registry.artifact reads.

    Raises:
        InputError: its files are gone.
    """
    try:
        path = mlflow.artifacts.download_artifacts(f"models:/{model}/{version}")
        return next(Path(path).rglob("model.json")).parent
    except (OSError, StopIteration):
        raise InputError(
            f"{model} version {version}: its files are missing in MLflow: restore them, train"
            " again, or roll back"
        ) from None


def load(model: str, version: int) -> tuple[DIN, artifact.ModelMetadata]:
    """Return a version's model, in evaluation mode, and its metadata."""
    return artifact.load(download(model, version))


def promote(model: str, version: int) -> None:
    """Make a version the champion, and remember the previous one."""
    client, before = MlflowClient(), champion(model)
    if before == version:
        return
    client.set_model_version_tag(model, str(version), BEFORE, str(before or ""))
    client.set_registered_model_alias(model, CHAMPION, str(version))


def rollback(model: str) -> tuple[int, int]:
    """Move the alias back to the previous champion; return (from, to).

    Raises:
        InputError: there is no champion, or no previous one.
    """
    current = resolve(model, None)
    before = MlflowClient().get_model_version(model, str(current)).tags.get(BEFORE)
    if not before:
        raise InputError(f"{model!r} version {current} has no previous champion to roll back to")
    MlflowClient().set_registered_model_alias(model, CHAMPION, before)
    return current, int(before)
