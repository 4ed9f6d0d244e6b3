"""The model as files: what is registered, moved to executors, and loaded for scoring. No pickle.

``model.json`` holds the FeatureSpec, the model's configuration, where it comes from and how good it
is; ``weights.safetensors`` every weight, statistic and ``row_of``.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from din_model.config import build, to_dict
from din_model.deferred import build_deferred
from din_model.errors import InputError
from din_model.features import FeatureSpec
from din_model.model import DIN, ModelConfig

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Facts:
    """Where a model comes from.

    Attributes:
        trained_through: the last date (ISO) whose examples it has seen.
        fingerprint: of data, configuration and seed; equal ones make equal models.
        manifests: ids of the examples it was trained on.
        rows, rows_read: what the manifests hold, and what the reader gave, all epochs and ranks.
        metrics: on the date that judged it, beside those of the baselines.
        logit_shift: added to logits where scores are published, not where a model is judged: from
            the click rate among drawn negatives to the one that is meant.
    """

    trained_through: str
    fingerprint: str
    manifests: list[str] = field(default_factory=list)
    rows: int = 0
    rows_read: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    logit_shift: float = 0.0

    def probability(self, logits: Tensor) -> Tensor:
        """Published score of each row [B], float64."""
        return torch.sigmoid(logits.double() + self.logit_shift)


def save(folder: Path, model: DIN, facts: Facts) -> None:
    """Write a model into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "format_version": FORMAT_VERSION,
        "spec": json.loads(model.spec.to_json()),
        "model": to_dict(model.config),
        "facts": to_dict(facts),
    }
    (folder / "model.json").write_text(json.dumps(about, indent=1, sort_keys=True))
    weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")


def load(folder: Path) -> tuple[DIN, Facts]:
    """Read a model back, in evaluation mode; its weights are mapped from the file, not copied.

    Raises:
        InputError: not a model's folder, or one of another format version.
    """
    try:
        about = json.loads((folder / "model.json").read_text())
        weights = load_file(folder / "weights.safetensors")
    except (FileNotFoundError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder}: no DIN model ({error})") from None
    if about["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{folder}: format version {about['format_version']}; this release reads"
            f" {FORMAT_VERSION}"
        )
    spec = FeatureSpec.from_json(json.dumps(about["spec"]))
    config = build(ModelConfig, about["model"], str(folder))
    row_of = {name: weights[f"tables.{name}__row_of"] for name in spec.dimensions}
    model = build_deferred(lambda: DIN(spec, config, row_of))
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False), build(Facts, about["facts"], str(folder))


def copy_into(model: DIN, older: DIN) -> None:
    """Start ``model`` from ``older``: what that knew to the bit, new rows as its unknown row.

    Raises:
        InputError: the two do not have the same spec or layers.
    """
    if (model.spec, model.config) != (older.spec, older.config):
        raise InputError(
            "train.start: champion needs the champion's features and train.model; use scratch"
        )
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            before = older.state_dict()[name]
            if name.endswith("__weight"):
                tensor[: len(before)] = before
                tensor[len(before) :] = before[1]
            elif not name.endswith("__row_of"):
                tensor.copy_(before)
