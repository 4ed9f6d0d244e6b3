"""The report of a comparison: a self-contained HTML file, and Markdown."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from matplotlib.figure import Figure

from din_model.evaluation import comparison_plots as plots
from din_model.evaluation.metrics import relative_improvement
from din_model.evaluation.slices import interest_column
from din_model.features import FIRST_ID
from din_model.modules.din import DIN
from pipelines.reports.html import render, svg
from pipelines.store.data_sets import VOCABULARY
from pipelines.store.store import Store
from pipelines.training.grid import (
    CompareConfig,
    Sample,
    Trial,
    crossed,
    matching_dimension,
    mean_of_seeds,
)

REPORTS = PAGE, TEXT = "report.html", "report.md"
OFFERED = 3
LONGEST = 24
"""Behaviours that fit into a picture."""


# Seven parameters: each is a part of the report's content.
def write_report(
    folder: Path, store: Store, title: str, grid: CompareConfig, cells: list[Trial],
    models: dict[str, DIN], sample: Sample,
) -> dict[str, Figure]:  # fmt: skip
    """Write the ``REPORTS`` into ``folder``; return the figures by name."""
    figures = {
        "dimensions": _against_dimension(cells, {"auc": "AUC", "gauc": "GAUC"}),
        "popularity": _against_dimension(
            cells, {"coverage": "share of items shown", "popularity": "percentile of popularity"}
        ),
        "slices": plots.slices(_slices(cells, grid.match), grid.match),
    }
    if "din" in models and (picture := _activation(models["din"], sample, store)):
        figures["activation"] = picture
    lines = findings(cells, grid)
    folder.mkdir(parents=True, exist_ok=True)
    table = _table(cells)
    markdown = [f"# {title}", "", *[f"- {line}" for line in lines], "", *_markdown(table), ""]
    (folder / TEXT).write_text("\n".join(markdown))
    pictures = {name: svg(figure, name) for name, figure in figures.items()}
    page = render("comparison.html.j2", title=title, findings=lines, table=table, pictures=pictures)
    (folder / PAGE).write_text(page)
    return figures


def findings(cells: list[Trial], grid: CompareConfig) -> list[str]:
    """Return the findings in sentences."""
    means, sentences = mean_of_seeds(cells, "auc"), []
    both = {"din", "mean"} <= set(grid.encoders)
    for dimension in grid.dimensions if both else ():
        (din, _), (mean, _) = of_din, of_mean = means["din", dimension], means["mean", dimension]
        if din != din:
            return ["The evaluation rows have the same label, so there is no AUC to compare by."]
        gain = relative_improvement(din, mean)
        improvement = f"{100 * gain:+.1f}%".replace("-0.0%", "+0.0%")
        sentences.append(
            f"At dimension {dimension} din has AUC {_with_spread(*of_din)}, mean"
            f" {_with_spread(*of_mean)}"
            + (f": {improvement} relative improvement." if gain == gain else ".")
        )
    if both and grid.match in grid.dimensions:
        size, goal = matching_dimension(cells, grid.match), f"din at dimension {grid.match}"
        sentences.append(
            f"mean matches {goal} from dimension {size} on."
            if size
            else f"mean matches {goal} at no dimension up to {max(grid.dimensions)}."
        )
    return sentences


def _against_dimension(cells: list[Trial], labels: dict[str, str]) -> Figure:
    return plots.dimensions({label: mean_of_seeds(cells, m) for m, label in labels.items()})


def _slices(cells: list[Trial], dimension: int) -> dict[str, dict[str, float]]:
    """Encoder -> slice -> AUC, the mean over seeds, at one dimension."""
    found: dict[str, dict[str, list[float]]] = {}
    for cell in cells:
        if cell.dimension == dimension:
            for name, value in cell.slices.items():
                if value == value:  # a slice of one label, or of no rows, has no AUC
                    found.setdefault(cell.encoder, {}).setdefault(name, []).append(value)
    return {e: {n: float(np.mean(v)) for n, v in each.items()} for e, each in found.items()}


def _activation(model: DIN, sample: Sample, store: Store) -> Figure | None:
    """One user of many interests, and three items of different ones."""
    spec, column = model.spec, interest_column(model.spec)
    if column is None:
        return None
    history = next(h for h in spec.histories if column.startswith(f"{h.kind}__"))
    feature = history.fields[column.removeprefix(f"{history.kind}__")]
    lengths = sample.users[history.column("length")]
    values = [set(row[:n]) for row, n in zip(sample.users[column], lengths, strict=True)]
    breadth = np.array([len(v) for v in values]) * (lengths <= LONGEST)
    user = int(breadth.argmax())
    past = sample.users[column][user][: lengths[user]]
    groups, counts = np.unique(past[past >= FIRST_ID], return_counts=True)
    items: list[int] = []
    for group in groups[np.argsort(-counts, kind="stable")]:
        if len(fitting := np.flatnonzero(sample.items[feature] == group)):
            items.append(int(fitting[0]))
    items = items[:OFFERED]
    if not items:
        return None
    user_columns = {n: v[[user]] for n, v in sample.users.items()}
    offered = {n: v[items] for n, v in sample.items.items()}
    with torch.inference_mode():
        _, weights = model.explain(crossed(spec, user_columns, offered))
    each = weights[history.kind].view(len(items), -1).numpy()
    names = _keys(store, spec[feature].vocabulary, {*past, *offered[feature]})
    shown = {f"{names[g]}": w for g, w in zip(offered[feature].tolist(), each, strict=True)}
    title = f"One user, {len(items)} candidates: which of {len(past)} behaviours light up"
    return plots.activation([names[int(g)] for g in past], shown, title)


def _keys(store: Store, name: str, ids: set[int]) -> dict[int, str]:
    """Return the keys of some ids of a vocabulary."""
    found = {int(i): f"#{i}" for i in ids}
    for manifest in store.manifests(VOCABULARY):
        for url in store.urls(manifest):
            with store.fs.open(url, "rb") as file:
                table = pq.read_table(file)
            wanted = pc.is_in(table["id"], pa.array(list(found), pa.int32()))
            matches = table.filter(pc.and_(pc.equal(table["vocabulary"], name), wanted))
            found |= dict(zip(matches["id"].to_pylist(), matches["key"].to_pylist(), strict=True))
    return found


def _table(cells: list[Trial]) -> list[list[str]]:
    rows = [["encoder", "dimension", "AUC", "GAUC", "log loss", "NE", "coverage", "popularity"]]
    names = ("auc", "gauc", "log_loss", "normalised_entropy", "coverage", "popularity")
    spreads = [mean_of_seeds(cells, name) for name in names]
    for key in spreads[0]:
        rows.append([*map(str, key), *(_with_spread(*s[key]) for s in spreads)])
    return rows


def _with_spread(mean: float, spread: float) -> str:
    if mean != mean:
        return "-"
    return f"{mean:.4f} ± {spread:.4f}" if spread == spread else f"{mean:.4f}"  # of one seed


def _markdown(table: list[list[str]]) -> list[str]:
    head, *rows = (f"| {' | '.join(row)} |" for row in table)
    return [head, "|" + "---|" * len(table[0]), *rows]
