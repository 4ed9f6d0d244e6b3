"""A night's numbers as a text file for Prometheus, read by node_exporter's textfile collector.

The file describes the newest night only. All names begin with ``din_``, and every sample has the
label ``model``, so that the files of several models may lie in one folder.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, time
from math import isnan, nan
from pathlib import Path
from re import compile as pattern
from typing import NamedTuple, get_args

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families

from pipelines.observe.night import NightRecord, State
from pipelines.reports.nightly import NightSummary

LAST_SUCCESS = "din_night_last_success_timestamp_seconds"

DATED = pattern(r"^\d{4}-\d\d-\d\d ")
"""The date in the name of a stage. As a label, it would begin a new series each night."""

METRICS = {
    "auc": ("din_evaluation_auc", "Area under the ROC curve on the evaluation date"),
    "gauc": ("din_evaluation_gauc", "Mean AUC of the users on the evaluation date"),
    "log_loss": ("din_evaluation_log_loss", "Log loss on the evaluation date"),
    "calibration": ("din_evaluation_calibration_ratio", "Predicted clicks over actual clicks"),
}


class Metric(NamedTuple):
    """A gauge; ``values`` by the value of ``label``, which is empty if there is one value only."""

    name: str
    help: str
    values: Mapping[str, float]
    label: str = ""


def write(path: str, night: NightRecord) -> None:
    """Write the file of a night in one step; the time of the last success is kept from before.

    Raises:
        OSError: the folder is missing, or must not be written.
    """
    registry = CollectorRegistry()
    for metric in _metrics(night, _last_success(path, night)):
        labels = ("model", metric.label) if metric.label else ("model",)
        gauge = Gauge(metric.name, metric.help, labels, registry=registry)
        for key, value in metric.values.items():
            gauge.labels(*(night.model, key)[: len(labels)]).set(value)
    write_to_textfile(path, registry)


def _last_success(path: str, night: NightRecord) -> dict[str, float]:
    """Return when the last night succeeded: this one, or what the file says of the model."""
    assert night.ended is not None
    if night.state == "published":
        return {"": night.ended.timestamp()}
    with suppress(Exception):  # there is no file yet, or it is damaged: it is written anew
        for family in text_string_to_metric_families(Path(path).read_text(encoding="utf-8")):
            for sample in family.samples:
                if sample.name == LAST_SUCCESS and sample.labels.get("model") == night.model:
                    return {"": sample.value}
    return {}


def _metrics(night: NightRecord, last_success: dict[str, float]) -> Iterator[Metric]:
    """Yield what is known of a night; a number that is not known has no sample."""
    assert night.ended is not None
    states = {state: float(state == night.state) for state in get_args(State)}
    midnight = datetime.combine(night.day, time(), UTC).timestamp()
    ended, took = night.ended.timestamp(), (night.ended - night.began).total_seconds()
    yield Metric("din_night_state", "1 for the way the night ended", states, "state")
    yield Metric("din_night_date_timestamp_seconds", "Date of the night", {"": midnight})
    yield Metric("din_night_end_timestamp_seconds", "When the night ended", {"": ended})
    yield Metric(LAST_SUCCESS, "When a night last published its scores", last_success)
    yield Metric("din_night_duration_seconds", "Time that the night took", {"": took})
    seconds, stage_rows, set_rows = (defaultdict[str, float](float) for _ in range(3))
    for stage in night.stages:
        name = DATED.sub("", stage.name)
        seconds[name] += stage.seconds
        stage_rows[name] += stage.rows or 0
    for each in night.published:
        set_rows[each.manifest.name] += 0 if each.error else each.manifest.rows
    yield Metric("din_stage_duration_seconds", "Time by stage", seconds, "stage")
    yield Metric("din_stage_rows", "Rows by stage", stage_rows, "stage")
    yield Metric("din_published_rows", "Rows that the night published", set_rows, "data_set")
    if night.summary:
        yield from _results(night.summary)


def _results(summary: NightSummary) -> Iterator[Metric]:
    """Yield the numbers of the gate and of the guards."""
    decision, guards, facts = summary.decision, summary.guards, summary.facts
    promoted = float(decision.why.startswith("promoted"))
    yield Metric("din_gate_promoted", "1 if the challenger was promoted", {"": promoted})
    yield Metric("din_gate_version", "Version that scores", {"": decision.version})
    gain = dict(zip(("point", "low", "high"), decision.gain, strict=False))
    yield Metric("din_gate_gain", "Gain of the challenger, with its interval", gain, "bound")
    for key, (name, text) in METRICS.items():
        values = {
            "challenger" if who == summary.encoder else who: numbers[key]
            for who, numbers in decision.metrics.items()
            if not isnan(numbers.get(key, nan))
        }
        yield Metric(name, text, values, "scorer")
    limits = {name: limit for name, _, limit in guards.of_numbers()}
    limits["calibration"] = guards.max_calibration
    numbers = {name: facts.get(name) for name in limits}
    numbers["calibration"] = facts["expected"] / facts["clicks"] if facts.get("clicks") else None
    known = {name: value for name, value in numbers.items() if value is not None}
    yield Metric("din_guard_value", "Number that a guard limits", known, "guard")
    set_limits = {name: limit for name, limit in limits.items() if limit is not None}
    yield Metric("din_guard_limit", "Limit of a guard", set_limits, "guard")
    breached = {name: float(name in summary.breached) for name in known if name in set_limits}
    yield Metric("din_guard_breached", "1 if a guard holds the scores back", breached, "guard")
