"""The model card: what a registered version is, for whoever finds it in the registry."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from din_model.modules.din import DIN
from din_model.registry.artifact import ModelMetadata

TABLE = ("auc", "gauc", "log_loss", "calibration")


def model_card(
    name: str, version: int | str, model: DIN, facts: ModelMetadata, judged_on: str
) -> str:
    """Markdown: the model, its data, its metrics, its limits, how to score with it.

    Args:
        judged_on: the date that judged it, which it has not seen; empty where none did.
    """
    here = FileSystemLoader(Path(__file__).parent)
    template = Environment(
        loader=here, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    weights = sum(p.numel() for p in model.parameters())
    weights += sum(b.numel() for b in model.buffers() if b.is_floating_point())
    return template.get_template("model_card.md.j2").render(
        name=name, version=version, spec=model.spec, config=model.config, facts=facts,
        judged_on=judged_on, weights=weights, columns=TABLE,
    )  # fmt: skip
