"""Models and baselines side by side: the rows of a table, and the baseline that wins."""

from din_model.evaluation.metrics import rank_by
from pipelines.training.evaluate import BASELINES, Metrics

METRICS = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log loss", "calibration": "calibration"}


def metric_rows(results: Metrics, by: str) -> list[tuple[str, list[str]]]:
    """Return one row per model or baseline, best first: its name, and ``METRICS`` as text.

    Args:
        results: metrics by name.
        by: the metric to sort by; of ``log_loss`` the least is best. What has no value comes last.
    """
    rows = []
    for name in sorted(results, key=lambda name: (rank_by(results[name], by), name)):
        values = [results[name].get(metric, float("nan")) for metric in METRICS]
        label = "reference (best possible)" if name == "reference" else name
        rows.append((label, [f"{value:.4f}" if value == value else "-" for value in values]))
    return rows


def winning_baseline(results: Metrics, model: str, by: str) -> str:
    """Return a sentence on the best baseline if it beats the model, else an empty string."""
    if model not in results:
        return ""
    ahead = [
        name for name in BASELINES
        if name in results and rank_by(results[name], by) < rank_by(results[model], by)
    ]  # fmt: skip
    if not ahead:
        return ""
    best = min(ahead, key=lambda name: rank_by(results[name], by))
    values = f"{results[best][by]:.4f}, {model} {results[model][by]:.4f}"
    return f"The baseline {best} wins: {METRICS[by]} {values}."
