"""The section ``observe``, and what surrounds a night and a job that are watched."""

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from din_model.config import Section, expand
from din_model.errors import InputError
from din_model.masking import VARIABLE
from pipelines.observe import webhook
from pipelines.observe.harmless import harmless
from pipelines.observe.night import NightRecord
from pipelines.store.publishing import publications


@dataclass(frozen=True)
class ObserveConfig(Section):
    """What other systems learn of a night and a job; all of it is off by default.

    An error of writing or calling is one warning, and never changes how a job ends.

    Attributes:
        metrics_file: file for Prometheus with the numbers of the newest night, written when a
            night ends, also if it is held back or fails. Its name ends in ``.prom``;
            ``${VARIABLE}`` is replaced.
        webhook: ``${VARIABLE}`` that holds the URL to call when a night is held back or fails, with
            JSON as Slack takes it. The URL is a secret, so it is not written here.
        lineage_file: file that OpenLineage events of every job are appended to, one JSON a line;
            ``${VARIABLE}`` is replaced.
    """

    metrics_file: str | None = None
    webhook: str | None = None
    lineage_file: str | None = None

    def __post_init__(self) -> None:
        if self.webhook and not VARIABLE.fullmatch(self.webhook):
            raise InputError(
                "observe.webhook is a secret: write ${NAME}, and set NAME in the environment"
            )


@contextmanager
def watched_night(config: ObserveConfig, model: str, day: date) -> Iterator[NightRecord]:
    """Give a night a record to fill in; when it ends, write the metrics and call the webhook.

    Raises:
        InputError: a library is missing, or a variable is not set. Then the night does not begin.
    """
    write, url = _metrics_writer(config), None
    if config.webhook:
        url = webhook.address(config.webhook)
    night, error = NightRecord(model, day), None
    try:
        with publications() as night.published:
            yield night
    except BaseException as raised:
        error = raised
        raise
    finally:
        night.end(error)
        with harmless("observe.metrics_file"):
            write(night)
        if url is not None and error is not None:
            with harmless("observe.webhook"):
                webhook.post(url, webhook.message(night, error))


def watched_job(
    config: ObserveConfig, model: str, job: Callable[..., Any], day: date | None
) -> AbstractContextManager[None]:
    """Return the context that writes a job's lineage, if it is on.

    Args:
        config: the section.
        model: registered name of the model, the namespace of its jobs.
        job: the ``run`` of a module, whose name is that of the job.
        day: the date.

    Raises:
        InputError: the library is missing, or a variable is not set.
    """
    # All ranks of torchrun run the job; the first one speaks for it.
    if config.lineage_file is None or os.environ.get("RANK", "0") != "0":
        return nullcontext()
    path = expand(config.lineage_file)
    try:
        from pipelines.observe.lineage import JobName, recorded_run
    except ImportError:
        raise InputError(
            "observe.lineage_file needs openlineage-python: pip install 'din-pipeline[lineage]'"
        ) from None
    return recorded_run(path, JobName(model, Path(inspect.getfile(job)).stem), day)


def _metrics_writer(config: ObserveConfig) -> Callable[[NightRecord], None]:
    if config.metrics_file is None:
        return lambda _: None
    path = expand(config.metrics_file)
    try:
        from pipelines.observe.metrics_file import write
    except ImportError:
        raise InputError(
            "observe.metrics_file needs prometheus-client: pip install 'din-pipeline[prometheus]'"
        ) from None
    return lambda night: write(path, night)
