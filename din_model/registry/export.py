"""A registered model as programs for those who serve online: torch.export, and ONNX where it goes.

What is exported is the model's own forward pass: padded columns, as examples store them, become
runs inside the graph. A program needs torch or onnxruntime, and nothing of this package.
"""

import json
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from din_model.config import Section
from din_model.data.batch import Batch, Histories, Jagged, example_columns, from_columns
from din_model.errors import InputError
from din_model.features import AGE, AGE_BUCKETS, FeatureSpec
from din_model.modules.din import DIN
from din_model.registry.artifact import ModelMetadata

PROGRAM, ONNX, INPUTS = "model.pt2", "model.onnx", "inputs.json"
OUTPUT = "probability"

TOLERANCE = 1e-5
"""How far a probability may be from that of the model itself."""


@dataclass(frozen=True)
class ExportConfig(Section):
    """What jobs.export writes, and where.

    Attributes:
        path: the folder to write, on local disk; an earlier export there is replaced.
        model: null is the champion; else a version, ``@alias`` or ``models:/NAME/7``.
    """

    path: str
    model: str | None = None


class Published(nn.Module):
    """Columns of examples -> the probability that is published."""

    def __init__(self, model: DIN, facts: ModelMetadata) -> None:
        super().__init__()
        self.model, self.facts = model, facts

    def forward(self, columns: dict[str, Tensor]) -> Tensor:
        """The columns of ``input_axes`` (int64, [B] or [B, L]) -> [B] float64.

        A length beyond its padded list counts as the whole list.
        """
        spec = self.model.spec
        features: dict[str, Tensor | Jagged] = {}
        for f in spec.features:
            if f.is_list and f.dimension:
                lists, offsets = _runs([columns[f.name]], columns[f"{f.name}__length"])
                features[f.name] = Jagged(lists[0], offsets)
            elif f.dimension:
                features[f.name] = columns[f.name]
        histories = {}
        for history in spec.histories:
            padded = [columns[history.column(name)] for name in history.lists]
            fields, offsets = _runs(padded, columns[history.column("length")])
            histories[history.kind] = Histories(
                dict(zip(history.lists, fields, strict=True)), offsets
            )
        rows, nothing = columns[spec.item].shape[0], torch.zeros(0)
        return self.facts.probability(
            self.model(Batch(rows, features, histories, label=nothing, weight=nothing))
        )


def input_axes(spec: FeatureSpec) -> dict[str, tuple[str, ...]]:
    """Input -> its axes, in the order of the program; a list's axis is called as its lengths."""
    axes = {f.name: (f"{f.name}__length",) for f in spec.features if f.is_list}
    axes |= {h.column(name): (h.column("length"),) for h in spec.histories for name in h.lists}
    names = [name for name in example_columns(spec) if name not in ("label", "weight")]
    return {name: ("batch", *axes.get(name, ())) for name in names}


def random_columns(model: DIN, rows: int, seed: int = 0) -> dict[str, Tensor]:
    """Inputs for a model: lists empty, full and between; ids known, unknown and beyond its tables.

    Lists are padded to two places at least: torch takes an axis of one for a constant.
    """
    drawn, spec = torch.Generator().manual_seed(seed), model.spec

    def below(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=drawn)

    def ids(feature: str, *shape: int) -> Tensor:
        return below(2 * len(model.tables.row_of(spec[feature].vocabulary)), *shape)

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
    return {name: columns[name] for name in input_axes(spec)}


def exported(model: DIN, facts: ModelMetadata) -> ExportedProgram:
    """The program of a model in evaluation mode; any batch size, lists padded to any length."""
    axes = input_axes(model.spec)
    places = dict.fromkeys(axis for names in axes.values() for axis in names)
    dims = {axis: Dim(f"axis_{n}") for n, axis in enumerate(places)}
    shapes = {name: {n: dims[axis] for n, axis in enumerate(names)} for name, names in axes.items()}
    with torch.no_grad():
        program = torch.export.export(
            Published(model, facts).eval(),
            (random_columns(model, rows=3),),
            dynamic_shapes=(shapes,),
        )
    program.example_inputs = None  # would be pickled with it
    return program


def export(model: DIN, facts: ModelMetadata, name: str, version: int, folder: Path) -> str | None:
    """Write ``model.pt2``, ``inputs.json`` and, where it converts, ``model.onnx`` into a folder.

    Args:
        folder: appears whole, in one step; an earlier export is replaced, with all that it held.

    Returns:
        why there is no ``model.onnx``; None where there is.

    Raises:
        InputError: the folder holds something else.
        RuntimeError: the program does not say what the model says.
    """
    if not _replaceable(folder):
        raise InputError(
            f"{folder}: is no earlier export (it has no {INPUTS}), so it is not replaced; empty it,"
            " or set another export.path"
        )
    columns = random_columns(model, rows=64, seed=1)
    stored = {name: values.numpy() for name, values in columns.items()}
    wanted = facts.probability(model(from_columns(stored, model.spec))).detach()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new = Path(scratch, "new")
        new.mkdir()
        torch.export.save(exported(model, facts), new / PROGRAM)
        program = torch.export.load(new / PROGRAM)
        if (far := _difference(program.module()(columns), wanted)) > TOLERANCE:
            raise RuntimeError(f"{PROGRAM} is {far:.1e} away from the model")
        missing = _write_onnx(program, model.spec, new / ONNX, columns, wanted)
        about = _about(model.spec, facts, name, version)
        (new / INPUTS).write_text(json.dumps(about, indent=1))
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
    """Convert, and compare with ``wanted``; where either fails leave no file, and say why."""
    try:
        import onnxruntime

        from din_model.registry.onnx_ops import TRANSLATIONS  # onnxscript, which not everybody has
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
        found = session.run([OUTPUT], {name: columns[name].numpy() for name in axes})[0]
        far = _difference(torch.from_numpy(found), wanted)
        missing = f"it is {far:.1e} away from the model" if far > TOLERANCE else None
    except Exception as error:  # torch's and onnxruntime's errors have no class in common
        missing = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    if missing:
        for file in path.parent.glob(f"{path.name}*"):  # weights beyond 2 GB lie beside it
            file.unlink()
    return missing


def _about(spec: FeatureSpec, facts: ModelMetadata, name: str, version: int) -> dict[str, Any]:
    """What a caller has to know; ``longest``: what lists were cut to in training, axis by axis."""
    longest = {
        f"{f.name}__length": f.max_length for f in spec.features if f.is_list and f.dimension
    }
    longest |= {history.column("length"): history.length for history in spec.histories}
    inputs = [
        {"name": column, "dtype": "int64", "shape": list(axes)}
        for column, axes in input_axes(spec).items()
    ]
    return {
        "model": name,
        "version": version,
        "trained_through": facts.trained_through,
        "inputs": inputs,
        "longest": longest,
        "output": {"name": OUTPUT, "dtype": "float64", "shape": ["batch"]},
    }


def _runs(padded: list[Tensor], lengths: Tensor) -> tuple[list[Tensor], Tensor]:
    """Padded lists, each [B, L], of the same lengths [B] -> their values [N], and offsets."""
    inside = torch.arange(padded[0].shape[1], device=lengths.device) < lengths[:, None]
    places = inside.flatten().nonzero()[:, 0]
    values = [ids.flatten().index_select(0, places) for ids in padded]
    return values, F.pad(inside.sum(1).cumsum(0), (1, 0))


def _difference(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max())


def _replaceable(folder: Path) -> bool:
    earlier = (folder / INPUTS).is_file()
    return not folder.exists() or earlier or (folder.is_dir() and not any(folder.iterdir()))
