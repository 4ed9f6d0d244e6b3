"""Exports a registered model for online serving: torch.export, and ONNX if it converts.

The program is the model's own forward pass: padded columns, as examples store them, become segments
inside the graph. It needs torch or onnxruntime, and nothing of this package.
"""

import json
import logging
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from din_model.config import Section
from din_model.data.batch import Batch, Histories, Jagged, from_columns, input_columns
from din_model.errors import InputError
from din_model.features import AGE, AGE_BUCKETS, FeatureSpec
from din_model.modules.din import DIN
from din_model.registry.artifact import ModelMetadata
from din_model.registry.vectors import write_vectors

PROGRAM, ONNX, INPUTS, VECTORS = "model.pt2", "model.onnx", "inputs.json", "vectors"
OUTPUT = "probability"

TOLERANCE = 1e-5
"""Maximum difference of a probability from the model's own."""


@dataclass(frozen=True)
class ExportConfig(Section):
    """What jobs.export writes, and where.

    Attributes:
        path: folder to write, on local disk; an earlier export there is replaced.
        model: null for the champion; else a version, ``@alias`` or ``models:/NAME/7``.
        vectors: write the trained vectors of items and users too, with their keys in the store.
    """

    path: str
    model: str | None = None
    vectors: bool = False


class Published(nn.Module):
    """Columns of examples to the published probability."""

    def __init__(self, model: DIN, metadata: ModelMetadata) -> None:
        super().__init__()
        self.model, self.metadata = model, metadata

    def forward(self, columns: dict[str, Tensor]) -> Tensor:
        """Columns of ``input_axes`` ([B] or [B, L]) -> [B] float64.

        A length beyond the padded list means the whole list.
        """
        spec = self.model.spec
        features: dict[str, Tensor | Jagged] = {}
        for f in spec.features:
            if f.is_list and f.dimension:
                lists, offsets = _segments([columns[f.name]], columns[f"{f.name}__length"])
                features[f.name] = Jagged(lists[0], offsets)
            elif f.dimension:
                features[f.name] = columns[f.name]
        histories = {}
        for history in spec.histories:
            padded = [columns[history.column(name)] for name in history.lists]
            fields, offsets = _segments(padded, columns[history.column("length")])
            histories[history.kind] = Histories(
                dict(zip(history.lists, fields, strict=True)), offsets
            )
        rows, nothing = next(iter(columns.values())).shape[0], torch.zeros(0)
        numbers = torch.zeros(rows, 0)
        if spec.numeric_columns:
            numbers = torch.stack([columns[name] for name in spec.numeric_columns], 1)
        batch = Batch(rows, features, histories, label=nothing, weight=nothing, numbers=numbers)
        return self.metadata.probability(self.model(batch))


def input_axes(spec: FeatureSpec) -> dict[str, tuple[str, ...]]:
    """Return input -> axes in the program's order; a list's axis has the name of its lengths."""
    axes = {f.name: (f"{f.name}__length",) for f in spec.features if f.is_list}
    axes |= {h.column(name): (h.column("length"),) for h in spec.histories for name in h.lists}
    return {name: ("batch", *axes.get(name, ())) for name in input_columns(spec)}


def random_columns(model: DIN, rows: int, seed: int = 0) -> dict[str, Tensor]:
    """Draw inputs with empty, full and partial lists, and with known, unknown and new ids.

    Lists are padded to at least two places, because torch treats an axis of one as a constant.
    """
    drawn, spec = torch.Generator().manual_seed(seed), model.spec

    def below(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=drawn)

    def ids(feature: str, *shape: int) -> Tensor:
        vocabulary = spec[feature].vocabulary
        given = model.given_vectors[vocabulary].values if spec[feature].is_vector else None
        known = model.tables.id_to_row(vocabulary) if given is None else given
        return below(2 * len(known), *shape)

    columns = {}
    for f in spec.features:
        if f.dimension:
            columns[f.name] = ids(f.name, rows, *[max(f.max_length, 2)] * f.is_list)
            columns[f"{f.name}__length"] = below(f.max_length + 1, rows)
    for history in spec.histories:
        columns[history.column("length")] = below(history.length + 1, rows)
        for name in history.lists:
            shape = rows, max(history.length, 2)
            columns[history.column(name)] = (
                below(AGE_BUCKETS, *shape) if name == AGE else ids(history.fields[name], *shape)
            )
    for name in spec.numeric_columns:
        columns[name] = below(1000, rows).float() - 1
    return {name: columns[name] for name in input_axes(spec)}


def exported(model: DIN, metadata: ModelMetadata) -> ExportedProgram:
    """Export a model in evaluation mode, for any batch size and any padding."""
    axes = input_axes(model.spec)
    places = dict.fromkeys(axis for names in axes.values() for axis in names)
    dims = {axis: Dim(f"axis_{n}") for n, axis in enumerate(places)}
    shapes = {name: {n: dims[axis] for n, axis in enumerate(names)} for name, names in axes.items()}
    with torch.no_grad():
        program = torch.export.export(
            Published(model, metadata).eval(),
            (random_columns(model, rows=3),),
            dynamic_shapes=(shapes,),
        )
    program.example_inputs = None  # they would be pickled with the program
    return program


def export(
    model: DIN, metadata: ModelMetadata, name: str, version: int, folder: Path,
    keys: Iterable[pa.RecordBatch] | None = None,
) -> str | None:  # fmt: skip
    """Write ``model.pt2``, ``inputs.json`` and, if it converts, ``model.onnx`` into a folder.

    Args:
        model: the model.
        metadata: its metadata.
        name: registered name.
        version: its version.
        folder: appears in one step; an earlier export is replaced completely.
        keys: the vocabulary, to write the trained vectors too; see write_vectors.

    Returns:
        Why there is no ``model.onnx``, or None.

    Raises:
        InputError: the folder holds something else.
        RuntimeError: the program differs from the model.
    """
    if not _replaceable(folder):
        raise InputError(
            f"{folder}: holds other files than an earlier export: empty it, or set another"
            " export.path"
        )
    columns = random_columns(model, rows=64, seed=1)
    stored = {name: values.numpy() for name, values in columns.items()}
    expected = metadata.probability(model(from_columns(stored, model.spec))).detach()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new = Path(scratch, "new")
        new.mkdir()
        torch.export.save(exported(model, metadata), new / PROGRAM)
        program = torch.export.load(new / PROGRAM)
        if (error := _difference(program.module()(columns), expected)) > TOLERANCE:
            raise RuntimeError(f"{PROGRAM} differs from the model by {error:.1e}")
        missing = _write_onnx(program, model.spec, new / ONNX, columns, expected)
        if keys is not None:
            write_vectors(model, keys, new / VECTORS)
        description = _description(model.spec, metadata, name, version)
        (new / INPUTS).write_text(json.dumps(description, indent=1))
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        new.rename(folder)
    return missing


def _write_onnx(
    program: ExportedProgram,
    spec: FeatureSpec,
    path: Path,
    columns: dict[str, Tensor],
    wanted: Tensor,
) -> str | None:
    """Convert, and compare with ``wanted``; on failure leave no file and return the reason."""
    try:
        import onnxruntime

        from din_model.registry.onnx_ops import TRANSLATIONS  # needs onnxscript
    except ImportError as error:
        return f"{error.name} is not installed: pip install 'din-pipeline[onnx]'"
    axes = input_axes(spec)
    shapes = {name: dict(enumerate(names)) for name, names in axes.items()}
    for noisy in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = torch.onnx.export(
                program,
                dynamo=True,
                input_names=list(axes),
                output_names=[OUTPUT],
                dynamic_shapes=(shapes,),
                custom_translation_table=TRANSLATIONS,
                verbose=False,
            )
        assert converted is not None
        converted.save(path)
        session = onnxruntime.InferenceSession(path)
        outputs = session.run([OUTPUT], {name: columns[name].numpy() for name in axes})[0]
        difference = _difference(torch.from_numpy(outputs), wanted)
        missing = (
            f"it differs from the model by {difference:.1e}" if difference > TOLERANCE else None
        )
    except Exception as error:  # torch and onnxruntime raise unrelated classes
        missing = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    if missing:
        for file in path.parent.glob(f"{path.name}*"):  # weights above 2 GB are separate files
            file.unlink()
    return missing


def _description(
    spec: FeatureSpec, metadata: ModelMetadata, name: str, version: int
) -> dict[str, Any]:
    """Describe the inputs for a caller; ``longest``: maximum list lengths in training, by axis."""
    longest = {
        f"{f.name}__length": f.max_length for f in spec.features if f.is_list and f.dimension
    }
    longest |= {history.column("length"): history.length for history in spec.histories}
    inputs = [
        {"name": column, "dtype": _dtype(column, spec), "shape": list(axes)}
        for column, axes in input_axes(spec).items()
    ]
    return {
        "model": name,
        "version": version,
        "trained_through": metadata.trained_through,
        "inputs": inputs,
        "longest": longest,
        "output": {"name": OUTPUT, "dtype": "float64", "shape": ["batch"]},
    }


def _dtype(column: str, spec: FeatureSpec) -> str:
    return "float32" if column in spec.numeric_columns else "int64"


def _segments(padded: list[Tensor], lengths: Tensor) -> tuple[list[Tensor], Tensor]:
    """Padded lists, each [B, L], with common lengths [B] -> their values [N], and offsets."""
    inside = torch.arange(padded[0].shape[1], device=lengths.device) < lengths[:, None]
    places = inside.flatten().nonzero()[:, 0]
    values = [ids.flatten().index_select(0, places) for ids in padded]
    return values, F.pad(inside.sum(1).cumsum(0), (1, 0))


def _difference(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max())


def _replaceable(folder: Path) -> bool:
    """Return whether there is nothing, or nothing but what an earlier export wrote."""
    if not folder.is_dir():
        return not folder.exists()
    names = {path.name for path in folder.iterdir()}
    own = (INPUTS, VECTORS)
    if any(not name.startswith((PROGRAM, ONNX)) and name not in own for name in names):
        return False
    return not names or (PROGRAM in names and _is_description(folder / INPUTS))


def _is_description(path: Path) -> bool:
    try:
        description = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(description, dict) and {"model", "version", "output"} <= set(description)
