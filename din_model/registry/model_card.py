"""The model card of a registered version."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from din_model.modules.din import DIN
from din_model.registry.artifact import ModelMetadata

TABLE = ("auc", "gauc", "log_loss", "calibration")


def model_card(
    name: str, version: int | str, model: DIN, metadata: ModelMetadata, judged_on: str
) -> str:
    """Return the card in Markdown: the model, its data, metrics, limits, and how to score with it.

    Args:
        name: registered name.
        version: its version.
        model: the model.
        metadata: its metadata.
        judged_on: evaluation date, which it was not trained on; empty if not evaluated.
    """
    here = FileSystemLoader(Path(__file__).parent)
    template = Environment(  # noqa: S701 (Markdown; the template escapes table cells)
        loader=here, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    weights = sum(p.numel() for p in model.parameters())
    weights += sum(b.numel() for b in model.buffers() if b.is_floating_point())
    return template.get_template("model_card.md.j2").render(
        name=name, version=version, spec=model.spec, config=model.config, metadata=metadata,
        judged_on=judged_on, weights=weights, columns=TABLE,
    )  # fmt: skip
