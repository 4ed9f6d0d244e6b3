"""The model as files: registered, sent to executors, loaded for scoring. Nothing is pickled.

``model.json`` holds the FeatureSpec, the model's configuration, its origin and its metrics.
``weights.safetensors`` holds every weight, statistic and ``row_of``. ``vectors.safetensors`` holds
given vectors, if the spec has any; a night replaces them by its own.
"""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import Tensor

from din_model.config import build, to_dict
from din_model.distributed.collectives import rank
from din_model.errors import InputError
from din_model.features import FeatureSpec
from din_model.modules.deferred_init import build_deferred
from din_model.modules.din import DIN, ModelConfig

FORMAT_VERSION = 2

VECTORS_FILE = "vectors.safetensors"

DTYPES = {torch.float32: "F32", torch.int32: "I32"}
"""Names of a model's data types in safetensors."""


@dataclass(frozen=True)
class ModelMetadata:
    """Where a model comes from.

    Attributes:
        trained_through: last date (ISO) whose examples it was trained on.
        fingerprint: of data, configuration and seed; equal ones make equal models.
        manifests: ids of the examples it was trained on.
        rows, rows_read: rows by the manifests, and rows read, over all complete epochs and ranks.
        metrics: on the evaluation date, beside those of the baselines.
        logit_shift: added to logits of published scores, but not in evaluation: from the click rate
            among sampled negatives to the intended one.
        scores: histogram (evaluation.drift) of published scores on the evaluation date; empty if
            not evaluated.
    """

    trained_through: str
    fingerprint: str
    manifests: list[str] = field(default_factory=list)
    rows: int = 0
    rows_read: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    logit_shift: float = 0.0
    scores: list[int] = field(default_factory=list)

    def probability(self, logits: Tensor) -> Tensor:
        """Return the published score of each row [B], float64."""
        return torch.sigmoid(logits.double() + self.logit_shift)


def save(folder: Path, model: DIN, metadata: ModelMetadata) -> None:
    """Write a model into a folder, on rank 0; all ranks take part if tables are sharded."""
    first = rank() == 0
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "weights.safetensors").open("wb") if first else nullcontext() as file:
        _write_weights(model, file)
    if not first:
        return
    write_vectors(
        folder, {name: table.values.cpu().numpy() for name, table in model.given_vectors.items()}
    )
    description = {
        "format_version": FORMAT_VERSION,
        "spec": json.loads(model.spec.to_json()),
        "model": to_dict(model.config),
        "facts": to_dict(metadata),
    }
    (folder / "model.json").write_text(json.dumps(description, indent=1, sort_keys=True))


def read_spec(folder: Path) -> FeatureSpec:
    """Return the FeatureSpec of a model folder."""
    return _spec_of(json.loads((folder / "model.json").read_text()))


def _spec_of(description: dict[str, Any]) -> FeatureSpec:
    return FeatureSpec.from_json(json.dumps(description["spec"]))


def write_vectors(folder: Path, vectors: Mapping[str, NDArray[Any]]) -> None:
    """Write given vectors (vocabulary -> [ids, size]) into a model's folder, for ``load``."""
    if vectors:
        save_file(dict(vectors), folder / VECTORS_FILE)


def _write_weights(model: DIN, file: IO[bytes] | None) -> None:
    """Write the file that safetensors.torch.save_file would write, table by table, in pieces.

    No rank ever holds a whole table. The format: the length of a JSON text in eight bytes, the text
    (name -> dtype, shape, offsets), and the tensors in that order.
    """
    tables = {f"tables.{table}__weight": table for table in model.tables.sizes}
    tensors = {name: t for name, t in model.state_dict().items() if name not in tables}
    shapes = {name: t.shape for name, t in tensors.items()}
    shapes |= {name: torch.Size(model.tables.sizes[table]) for name, table in tables.items()}
    entries, end = dict[str, Any](), 0
    for name, shape in shapes.items():
        dtype = tensors[name].dtype if name in tensors else torch.float32
        start, end = end, end + shape.numel() * dtype.itemsize
        entries[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    if file:
        header = json.dumps(entries).encode()
        header += b" " * (-len(header) % 8)
        file.write(len(header).to_bytes(8, "little") + header)
        for tensor in tensors.values():
            file.write(tensor.contiguous().cpu().numpy().tobytes())
    for table in tables.values():
        for piece in model.tables.pieces(table, wanted=file is not None):
            if file:
                file.write(piece.contiguous().cpu().numpy().tobytes())


def load(folder: Path) -> tuple[DIN, ModelMetadata]:
    """Read a model back, in evaluation mode; its tables are memory-mapped.

    Raises:
        InputError: not a model folder, or another format version.
    """
    try:
        return _load(folder)
    except (LookupError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        # torch lists every weight that is missing or unknown, each on a line of its own
        reason = " ".join([f"{type(error).__name__}:", *str(error).split()[:40]])
        raise InputError(f"{folder}: not a DIN model ({reason})") from None


def _load(folder: Path) -> tuple[DIN, ModelMetadata]:
    description = json.loads((folder / "model.json").read_text())
    weights = load_file(folder / "weights.safetensors")
    if description["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{folder}: format version {description['format_version']}; this release reads"
            f" {FORMAT_VERSION}"
        )
    spec = _spec_of(description)
    config = build(ModelConfig, description["model"], str(folder))
    id_to_row = {name: weights[f"tables.{name}__row_of"] for name in spec.dimensions}
    model = build_deferred(lambda: DIN(spec, config, id_to_row))
    # Copy the dense layers: their alignment in memory affects the summation order of products.
    weights = {n: t if n.startswith("tables.") else t.clone() for n, t in weights.items()}
    model.load_state_dict(weights, assign=True)
    model.hold_vectors(load_arrays(folder / VECTORS_FILE) if spec.vectors else {})
    return model.eval().requires_grad_(False), build(
        ModelMetadata, description["facts"], str(folder)
    )
