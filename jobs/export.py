"""Export a registered model for online serving, without this package.

    python -m jobs.export --config conf/demo.yaml export.path=out/export [export.model=7]

Writes model.pt2 (torch.export), inputs.json and, if the extra ``onnx`` is installed, model.onnx.
Each program takes encoded examples and returns the same probabilities as scoring.
"""

from datetime import date
from pathlib import Path

from din_model.config import expand
from din_model.console import console
from din_model.errors import InputError
from din_model.registry import tracking, versions
from din_model.registry.export import export
from jobs.cli import Settings, main
from pipelines.store.store import Store


def run(settings: Settings, day: date | None) -> None:
    if settings.export is None:
        raise InputError("export.path is missing: name the folder to write the model into")
    tracking.connect(settings.tracking, Store(settings.store.path).url)
    name, folder = settings.tracking.model, Path(expand(settings.export.path))
    version = versions.resolve(name, settings.export.model)
    missing = export(*versions.load(name, version), name, version, folder)
    console.print(f"  {folder}: {name}, version {version}")
    if missing:
        console.print(f"  no model.onnx: {missing}")


if __name__ == "__main__":
    main(run, __doc__, dated=False)
