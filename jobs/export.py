"""Export a registered model for online serving, without this package.

    python -m jobs.export --config conf/demo.yaml export.path=out/export [export.model=7]
    python -m jobs.export --config conf/demo.yaml export.path=out/export export.vectors=true

Writes model.pt2 (torch.export), inputs.json and, if the extra ``onnx`` is installed, model.onnx.
Each program takes encoded examples and returns the same probabilities as scoring.
The second form also writes vectors/item.parquet and vectors/user.parquet, the rows of the trained
tables with their keys, for indices of nearest neighbours.
"""

from datetime import date
from pathlib import Path

from din_model.config import expand
from din_model.console import console
from din_model.errors import InputError
from din_model.registry import tracking, versions
from din_model.registry.export import export
from jobs.cli import Settings, main
from pipelines.examples.vocabulary import key_batches
from pipelines.store.store import Store


def run(settings: Settings, day: date | None) -> None:
    if settings.export is None:
        raise InputError("export.path is missing: name the folder to write the model into")
    store = Store(settings.store.path)
    tracking.connect(settings.tracking, store.url)
    name, folder = settings.tracking.model, Path(expand(settings.export.path))
    version = versions.resolve(name, settings.export.model)
    model, metadata = versions.load(name, version)
    keys = key_batches(store, model.spec) if settings.export.vectors else None
    missing = export(model, metadata, name, version, folder, keys)
    console.print(f"  {folder}: {name}, version {version}")
    if missing:
        console.print(f"  no model.onnx: {missing}")


if __name__ == "__main__":
    main(run, __doc__, dated=False)
