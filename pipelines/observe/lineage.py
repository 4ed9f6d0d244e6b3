"""OpenLineage events of a job, and of each data set that it publishes.

A run of the job ``JOB`` is the parent of one run of ``JOB.DATA_SET`` for each publication, so that
every data set has its own inputs: the runs that its facts pin.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from importlib.metadata import version
from typing import NamedTuple

from openlineage.client import OpenLineageClient, event_v2
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    DatasetFacet,
    RunFacet,
    dataset_version_dataset,
    error_message_run,
    nominal_time_run,
    output_statistics_output_dataset,
    parent_run,
)
from openlineage.client.transport.file import FileConfig, FileTransport
from openlineage.client.uuid import generate_new_uuid

from din_model.console import console
from din_model.masking import masked
from pipelines.observe.harmless import harmless
from pipelines.observe.night import reason
from pipelines.store.data_sets import PINS
from pipelines.store.publishing import Publication, publications

PRODUCER = f"urn:din-pipeline:{version('din-pipeline')}"

KEY = "observe.lineage_file"


class JobName(NamedTuple):
    """A job as OpenLineage names it."""

    namespace: str
    name: str


@contextmanager
def recorded_run(path: str, job: JobName, day: date | None) -> Iterator[None]:
    """Append the events of a job's run to a file: START, then COMPLETE, FAIL or ABORT.

    Args:
        path: the file; an error of writing it is one line on the console.
        job: the job.
        day: the date that it works on, if it has one.
    """
    event_v2.set_producer(PRODUCER)
    run_id, error = str(generate_new_uuid()), None
    console.print(f"  lineage: run {run_id} in {path}")
    _append(path, [_event(RunState.START, job, run_id, datetime.now(UTC), _nominal(day))])
    try:
        with publications() as published:
            yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        _append(path, _ended(job, run_id, published, error))


def _append(path: str, events: Iterable[RunEvent]) -> None:
    with harmless(KEY):
        client = OpenLineageClient(transport=FileTransport(FileConfig(path, append=True)))
        for event in events:
            client.emit(event)


def _ended(
    job: JobName, run_id: str, published: Sequence[Publication], error: BaseException | None
) -> Iterator[RunEvent]:
    """Yield the events of all publications, then the last one of the job."""
    parent = parent_run.ParentRunFacet(parent_run.Run(run_id), parent_run.Job(*job))
    for each in published:
        yield from _published(each, job, parent)
    done = [each for each in published if each.error is None]
    own = {each.manifest.id for each in done}
    inputs = {i.name: i for each in done for i in _inputs(each, without=own)}
    outputs = {o.name: o for o in map(_output, done)}
    end = _event(_last_state(error), job, run_id, datetime.now(UTC), _failure(error))
    end.inputs, end.outputs = list(inputs.values()), list(outputs.values())
    yield end


def _published(
    each: Publication, job: JobName, parent: parent_run.ParentRunFacet
) -> Iterator[RunEvent]:
    """Yield the two events of a publication; one that failed has no output."""
    name = JobName(job.namespace, f"{job.name}.{each.manifest.name}")
    run_id = str(generate_new_uuid(each.began))
    start = _event(RunState.START, name, run_id, each.began, {"parent": parent})
    facets = {"parent": parent} | _failure(each.error)
    end = _event(_last_state(each.error), name, run_id, each.ended, facets)
    start.inputs = end.inputs = _inputs(each)
    end.outputs = [] if each.error else [_output(each)]
    yield from (start, end)


def _event(
    state: RunState, job: JobName, run_id: str, moment: datetime, facets: dict[str, RunFacet]
) -> RunEvent:
    return RunEvent(
        eventType=state, eventTime=moment.isoformat(), run=Run(run_id, facets), job=Job(*job)
    )


def _last_state(error: BaseException | None) -> RunState:
    if error is None:
        return RunState.COMPLETE
    return RunState.FAIL if isinstance(error, Exception) else RunState.ABORT


def _failure(error: BaseException | None) -> dict[str, RunFacet]:
    if error is None:
        return {}
    message = masked(reason(error))
    return {"errorMessage": error_message_run.ErrorMessageRunFacet(message, "PYTHON")}


def _nominal(day: date | None) -> dict[str, RunFacet]:
    if day is None:
        return {}
    midnight = datetime.combine(day, time(), UTC).isoformat()
    return {"nominalTime": nominal_time_run.NominalTimeRunFacet(midnight)}


def _inputs(each: Publication, without: Collection[str] = ()) -> list[InputDataset]:
    """Return the data sets that a run is made of, each with the newest of the runs pinned."""
    found = []
    for name, ids in each.manifest.facts.get(PINS, {}).items():
        if read := [id_ for id_ in ids if id_ not in without]:
            facets = _version(max(read))
            found.append(InputDataset(*_named(each.store_url, name), facets=facets))
    return found


def _output(each: Publication) -> OutputDataset:
    manifest = each.manifest
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        manifest.rows, sum(file.bytes for file in manifest.files), len(manifest.files)
    )
    return OutputDataset(
        *_named(each.store_url, manifest.name), facets=_version(manifest.id),
        outputFacets={"outputStatistics": statistics},
    )  # fmt: skip


def _version(run_of_data_set: str) -> dict[str, DatasetFacet]:
    """Return the facet for a manifest's id, ``NAME/DATE/RUN``, whose version is ``DATE/RUN``."""
    _, _, text = run_of_data_set.partition("/")
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(text)}


def _named(store_url: str, name: str) -> tuple[str, str]:
    """Return namespace and name of a data set by OpenLineage's naming conventions.

    ``file`` and a path, ``hdfs://host:port`` and a path, ``s3://bucket`` and a key.
    """
    scheme, _, rest = masked(store_url).partition("://")
    host, _, path = rest.partition("/")
    if scheme == "file":
        return "file", f"/{path}/{name}"
    return f"{scheme}://{host}", f"{'/' if scheme == 'hdfs' else ''}{path}/{name}"
