"""Every section of the configuration, and the command line that all jobs share."""

import argparse
import datetime
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from pyspark.sql import SparkSession

from din_model import termination
from din_model.config import Section, load, to_dict
from din_model.console import console, printable
from din_model.errors import InputError
from din_model.features import FeatureSpec
from din_model.masking import remember_environment
from din_model.ranges import Date
from din_model.registry.export import ExportConfig
from din_model.registry.tracking import TrackingConfig
from din_model.training.config import TrainConfig
from pipelines.erasure import EraseConfig
from pipelines.examples.binning import with_measures
from pipelines.examples.origin import is_built
from pipelines.examples.publish import BuildConfig
from pipelines.examples.split import SplitConfig
from pipelines.examples.tracked_build import tracked_build
from pipelines.failures import one_line
from pipelines.ingest.logs import Logs
from pipelines.ingest.simulation import GenerateConfig
from pipelines.ingest.source_checks import check_sources
from pipelines.ingest.sources import SourcesConfig
from pipelines.observe.watch import ObserveConfig, watched_job
from pipelines.scoring.candidates import CandidatesConfig
from pipelines.scoring.score_date import ScoreConfig
from pipelines.session import spark_session
from pipelines.spec import FeaturesConfig, HistoryConfig, feature_spec
from pipelines.store.store import Store, StoreConfig
from pipelines.training.gate import NightlyConfig
from pipelines.training.grid import CompareConfig
from pipelines.training.launch import LaunchConfig, require_launcher


@dataclass(frozen=True)
class Settings(Section):
    """The configuration: one section for each part.

    Attributes:
        store: where the pipeline writes.
        sources: where the raw logs are.
        features: what the columns of the logs mean.
        history: which past behaviours an example contains.
        date: the default of --date.
        generate: the logs that jobs.generate_logs writes.
        split: training rows and evaluation rows.
        build: how examples are built.
        train: how a model is trained.
        launch: the processes that train.
        candidates: how candidates are generated if ``sources.candidates`` is not set.
        score: how candidates are scored, and where the scores are delivered.
        nightly: the wait for the logs, and the gate.
        tracking: where runs and models are logged.
        observe: what other systems learn of a night and a job.
        compare: the grid of jobs.compare.
        erase: the users that jobs.erase removes.
        export: what jobs.export writes.
    """

    store: StoreConfig
    sources: SourcesConfig
    features: FeaturesConfig
    history: HistoryConfig
    date: Date | None = None
    generate: GenerateConfig | None = None
    split: SplitConfig = field(default_factory=SplitConfig)
    build: BuildConfig = field(default_factory=BuildConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    candidates: CandidatesConfig | None = None
    score: ScoreConfig = field(default_factory=ScoreConfig)
    nightly: NightlyConfig = field(default_factory=NightlyConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    observe: ObserveConfig = field(default_factory=ObserveConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    erase: EraseConfig = field(default_factory=EraseConfig)
    export: ExportConfig | None = None

    @property
    def spec(self) -> FeatureSpec:
        """The contract that ``features`` and ``history`` declare, before the build measures it."""
        return feature_spec(self.features, self.history, self.sources.click_delay)

    def passing_over(self, lost: Collection[datetime.date]) -> "Settings":
        """Return the settings with further dates in ``sources.lost_dates``."""
        dates = (*self.sources.lost_dates, *lost)
        return replace(self, sources=replace(self.sources, lost_dates=dates))

    def build_missing(self, store: Store, days: Iterable[datetime.date]) -> None:
        """Build the missing dates in order; start Spark only if there are any."""
        for day in days:
            if not is_built(store, day):
                logs, _ = self.open("build", day)
                tracked_build(logs, store, self.build, self.split, day, to_dict(self))

    def open(self, name: str, day: datetime.date) -> tuple[Logs, Store]:
        """Start Spark, and return the logs and the store for a date."""
        spark: SparkSession = spark_session(name, self.spec.time_zone)
        require_launcher(spark, self.launch)
        check_sources(spark, self.sources)
        logs = Logs(spark, self.sources, self.spec, self.history.since)
        store = Store(self.store.path)
        return with_measures(logs, store, day), store


UNCHANGED = "published data is unchanged, and the job may be started again"

Job = Callable[[Settings, Any], None]
"""A job's ``run`` for a date, which is None only if the job needs no date."""


def main(
    job: Job, manual: str | None, dated: bool = True, options: Mapping[str, str] | None = None
) -> None:
    """Read the command line, run the job, and print a known error as one line.

    Args:
        job: the job's ``run``.
        manual: the job's module docstring.
        dated: whether the job needs a date.
        options: the job's own options, with the configuration key that each sets.
    """

    def run() -> None:
        words = command_line(manual, options or {}).parse_intermixed_args()
        settings, day = resolve(words, dated, options or {})
        with watched_job(settings.observe, settings.tracking.model, job, day):
            job(settings, day)

    reported(run)


def reported(run: Callable[[], None]) -> None:
    """Call a job's function, and print a known error as one line."""
    remember_environment(os.environ)
    sys.excepthook = _print_trace
    termination.handle()
    try:
        run()
    except BaseException as error:
        if termination.received():
            _fail(f"ended by SIGTERM; {UNCHANGED}", termination.STATUS)
        if isinstance(error, KeyboardInterrupt):
            _fail(f"ended by Ctrl-C; {UNCHANGED}", 130)
        line = one_line(error) if isinstance(error, Exception) else None
        if line is None:
            raise
        _fail(f"error: {line}", 2)


def _fail(line: str, status: int) -> NoReturn:
    console.file = sys.stderr
    console.print(line, style="bold red")
    sys.exit(status)


def _print_trace(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Print the trace of a bug without secrets."""
    sys.stderr.write(printable("".join(traceback.format_exception(kind, error, trace))))


def command_line(manual: str | None, options: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the parser of a job's arguments; see ``main``."""
    parser = argparse.ArgumentParser(
        description=manual, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", action="append", required=True, help="YAML; later ones win")
    parser.add_argument("--date", help="YYYY-MM-DD; the same as date=…")
    for option, key in options.items():
        parser.add_argument(f"--{option}", help=f"the same as {key}=…")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    return parser


def resolve(
    words: argparse.Namespace, dated: bool, options: Mapping[str, str]
) -> tuple[Settings, datetime.date | None]:
    """Return the configuration and the date that a command line sets; see ``main``.

    Raises:
        InputError: see din_model.config.load; or no date, but the job needs one.
    """
    keys = {"date": "date", **options}
    set_by_option = {key: getattr(words, option) for option, key in keys.items()}
    given = {key: value for key, value in set_by_option.items() if value is not None}
    settings = load(Settings, words.config, words.overrides, given)
    if settings.date is None and dated:
        raise InputError("--date is missing, and the configuration has no date")
    return settings, settings.date
