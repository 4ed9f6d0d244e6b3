"""A whole night by stage: seconds, memory and bytes, on generated logs of several sizes.

    python -m benchmarks.night [--rows 100000 1000000 10000000] [--ids 100000000]

A night builds two dates, trains on the first, judges on the second and scores the date after them:
20 impressions a user and date, and 40 candidates for each of N / 100 users. Each size runs in
processes of its own. Training reads each row once, so its steps grow with the rows. With ``--ids``,
the impressions of the first date bring that many keys of a feature of their own, and two ranks
train. Beside each size without ``--ids`` stands the same night in one process
(``benchmarks.night_peer``), which a user would write first.

The last line is JSON, by size: the seconds of each stage; the peak memory of the driver (Python and
JVM), of the largest Spark worker and of the largest rank, in MB; and the bytes of an impression in
the published examples.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.demo import demo_settings
from benchmarks.memory import PROCESSES, peak_mb
from din_model.console import Stage, recorded
from din_model.registry import tracking
from jobs.cli import Settings
from pipelines.ingest.synthetic import generate
from pipelines.scoring.score_date import ModelVersion, score_day
from pipelines.session import spark_session
from pipelines.store.data_sets import EXAMPLES
from pipelines.store.store import Store
from pipelines.training.gate import NightSections, decide

DAYS = (date(2026, 11, 19), date(2026, 11, 20))
STAGES = ("build", "train", "evaluate", "judge", "score")
KINDS = {"rank": b"multiprocessing.spawn", "worker": b"pyspark.daemon", "jvm": b"java"}


def settings_of(folder: Path, rows: int, ids: int = 0) -> Settings:
    """Return the demo's settings with logs of that many impressions a date.

    Args:
        folder: of the logs and the store.
        rows: impressions of a date.
        ids: keys of the feature ``tags``, all on the first date; 0 for no such feature.
    """
    users = max(20, rows // 20)
    generated = {
        "days": 2, "users": users, "items": max(50, rows // 100), "impressions": rows,
        "candidates_users": max(10, users // 5), "candidates_items": 40,
    }  # fmt: skip
    return demo_settings(
        folder,
        [
            *[f"generate.{name}={value}" for name, value in generated.items()],
            f"date={DAYS[1]}", "train.window=1", "train.epochs=1", "train.min_steps=0",
            "train.patience=0", "train.baselines=[]", "nightly.beat_popularity=false",
            "nightly.min_gain=-1", "score.guards={}", *(tags(rows, ids) if ids else []),
        ],
    )  # fmt: skip


def tags(rows: int, ids: int) -> list[str]:
    """Return overrides for a feature whose keys are new in each impression of the first date.

    An example holds 8 of them, so few have a row in the table: memory is that of ids alone.
    """
    keys = f"transform(sequence(1, {ids // rows}), i -> concat(impression_id, '-', i))"
    first = f"if('{{date}}' = '{DAYS[0]}', {keys}, array())"
    return [
        f'sources.impressions.query="select *, {first} as tags from raw"',  # noqa: S608 (our own)
        'sources.candidates.query="select *, array() as tags from raw"',
        "features.columns.tags={side: user, max_length: 8, dimension: 4}",
        "train.min_count=1", "launch.launcher=torchrun", "launch.ranks=2",
    ]  # fmt: skip


class Peaks(threading.Thread):
    """Watches the largest resident memory of the processes of this session, by kind, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[str, float] = {}
        self._over = threading.Event()

    def run(self) -> None:
        """Look at all processes once a second, until ``end``."""
        while not self._over.wait(1.0):
            for process in PROCESSES.glob("[0-9]*"):
                self._look(process)

    def end(self) -> dict[str, float]:
        """Stop, and return the peaks."""
        self._over.set()
        self.join()
        return {kind: round(peak) for kind, peak in self.peaks.items()}

    def _look(self, process: Path) -> None:
        try:
            own = os.getsid(int(process.name)) == os.getsid(0)
            command = (process / "cmdline").read_bytes()
        except OSError:
            return  # it has ended
        peak = peak_mb(process)
        if not own or not peak:
            return
        kind = next((kind for kind, word in KINDS.items() if word in command), "other")
        kind = "driver" if process.name == str(os.getpid()) else kind
        self.peaks[kind] = max(peak, self.peaks.get(kind, 0))


def night(folder: Path, rows: int, ids: int) -> dict[str, float]:
    """Run one night; return its seconds by stage, memory and bytes."""
    settings = settings_of(folder, rows, ids)
    assert settings.generate is not None
    generate(spark_session("night", settings.spec.time_zone), settings.generate)
    logs, store = settings.open("night", DAYS[1])
    peaks, start = Peaks(), time.perf_counter()
    peaks.start()
    with recorded() as stages:
        tracking.connect(settings.tracking, store.url)
        settings.build_missing(store, DAYS)
        sections = NightSections(
            settings.nightly, settings.train, settings.split, settings.launch, settings.tracking
        )
        decision = decide(logs.spark, store, sections, [DAYS[0]], DAYS[1])
        version = ModelVersion(settings.tracking.model, decision.version)
        score_day(logs, store, version, settings.score, date(2026, 11, 21))
    seconds = time.perf_counter() - start
    logs.spark.stop()
    auc = decision.metrics[settings.train.model.encoder]["auc"]
    return {
        "seconds": round(seconds, 1), **by_stage(stages), **peaks.end(), **sizes(store),
        "auc": round(auc, 4),
    }  # fmt: skip


def by_stage(stages: list[Stage]) -> dict[str, float]:
    """Return the seconds of the stages, those of the builds together."""
    named = dict.fromkeys(STAGES, 0.0)
    for stage in stages:
        word = stage.name.split()[0]
        kind = word if word in named else "score" if stage.name.endswith(" score") else "build"
        named[kind] += stage.seconds
    return {name: round(value, 1) for name, value in named.items()}


def sizes(store: Store) -> dict[str, float]:
    """Return the bytes of an impression in the examples."""
    files = [file for m in store.manifests(EXAMPLES) for file in m.files]
    return {
        "bytes_per_impression": round(sum(f.bytes for f in files) / sum(f.rows for f in files), 1)
    }


def run(words: list[str]) -> dict[str, Any]:
    """Run a module in a session of its own; return the JSON of its last line."""
    command = [sys.executable, "-m", *words]
    done = subprocess.run(  # noqa: S603 (its own command)
        command, stdout=subprocess.PIPE, text=True, check=True, start_new_session=True
    )
    print(done.stdout, end="", flush=True)
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--ids", type=int, default=0)
    parser.add_argument("--one", type=Path, help="run one size in this process and folder")
    words = parser.parse_args()
    if words.one:
        print(json.dumps(night(words.one, words.rows[0], words.ids)))
        return
    results = {}
    for rows in words.rows:
        with tempfile.TemporaryDirectory(prefix="night-") as folder:
            one = ["--one", folder, "--rows", str(rows), "--ids", str(words.ids)]
            ours = run(["benchmarks.night", *one])
            results[f"{rows:.0e}".replace("e+0", "e")] = ours
            if not words.ids:
                ours["one process"] = run(["benchmarks.night_peer", f"{folder}/logs"])
    print(json.dumps(results))


if __name__ == "__main__":
    main()
