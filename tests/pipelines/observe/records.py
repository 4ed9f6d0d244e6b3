"""What tests of watching share: a night's record, and a server that records what it is sent."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

from din_model.console import Stage
from pipelines.observe.night import NightRecord
from pipelines.reports.nightly import NightSummary
from pipelines.scoring.guards import GuardsConfig
from pipelines.store.manifest import Manifest
from pipelines.store.parquet import DataFile
from pipelines.store.publishing import Publication
from pipelines.training.gate import Decision, NightlyConfig

DAY = date(2026, 11, 22)
BEGAN = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
HELD = "drift 0.7000 is above score.guards.max_drift 0.5: roll back, or raise the limit"


def published(name: str, rows: int, error: Exception | None = None) -> Publication:
    manifest = Manifest(name, str(DAY), "r", (DataFile("a", rows, 9, 1),))
    return Publication("file:///store", manifest, BEGAN, BEGAN, error)


def summary(**more: Any) -> NightSummary:
    metrics = {
        "din": {"auc": 0.82, "gauc": 0.79, "log_loss": 0.43, "calibration": 1.05},
        "champion": {"auc": 0.81, "gauc": float("nan"), "log_loss": 0.44, "calibration": 0.97},
        "base rate": {"auc": 0.5, "log_loss": 0.6, "calibration": 1.0},
    }
    why = "promoted: gauc gain 0.02 [0.01, 0.03] of version 8 over champion 7"
    decision = Decision(8, why, metrics, 0.05, [0.02, 0.01, 0.03], str(DAY))
    facts = {"coverage": 0.99, "drift": 0.7, "expected": 90.0, "clicks": 60.0}
    scores = Manifest("scores", str(DAY + timedelta(days=1)), "r", (), facts)
    guards = GuardsConfig(max_unknown_items=None)
    return NightSummary("din", decision, scores, [], None, NightlyConfig(), guards, "din", **more)


def night(error: BaseException | None = None, ended: datetime = BEGAN, **more: Any) -> NightRecord:
    """A night of two built days that ends an hour after it began."""
    stages = [
        Stage("2026-11-21 examples", 100, "", 1.5),
        Stage("2026-11-22 examples", 50, "", 1.0),
        Stage("train din", 4321, "", 12.5),
    ]
    record = NightRecord("din", DAY, BEGAN, stages, **more)
    record.end(error)
    record.ended = ended + timedelta(hours=1)
    return record


@contextmanager
def server(status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """A local HTTP server: its URL with a secret path, and the JSON of each POST."""
    posts: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posts.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/services/T0/hunter2", posts
        finally:
            http.shutdown()
