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


def best_baseline(results: Metrics, by: str) -> str:
    """Return the name of the best baseline, or an empty string if none was evaluated."""
    names = [name for name in BASELINES if name in results]
    return min(names, key=lambda name: rank_by(results[name], by), default="")


def winning_baseline(results: Metrics, model: str, by: str) -> str:
    """Return sentences on the baselines that beat the model by ``by`` and by log loss, if any."""
    if model not in results:
        return ""
    sentences = [_win(results, model, metric) for metric in dict.fromkeys((by, "log_loss"))]
    if results[model]["log_loss"] > results.get("base rate", results[model])["log_loss"]:
        sentences.append(f"As probabilities the scores of {model} mislead: train on more days.")
    return " ".join(filter(None, sentences))


def _win(results: Metrics, model: str, by: str) -> str:
    best = best_baseline(results, by)
    if not best or rank_by(results[best], by) >= rank_by(results[model], by):
        return ""
    values = f"{results[best][by]:.4f}, {model} {results[model][by]:.4f}"
    return f"The baseline {best} wins: {METRICS[by]} {values}."
