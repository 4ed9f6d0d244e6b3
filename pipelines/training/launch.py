"""Starts the ranks of a training: in this process, by torchrun's agent, or on Spark's executors."""

import logging
import multiprocessing
import os
import signal
import threading
import uuid
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar, cast

import fsspec
import torch
from py4j.protocol import Py4JJavaError
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig as Elastic
from torch.distributed.launcher.api import elastic_launch

from din_model.config import Section
from din_model.console import console
from din_model.distributed import collectives
from din_model.errors import InputError
from din_model.ranges import Count, Size
from din_model.registry import tracking
from din_model.registry.tracking import TrackingConfig
from din_model.training.config import TrainConfig
from pipelines.access.choice import is_connect
from pipelines.failures import LOST, one_line
from pipelines.session import spark_session
from pipelines.store.store import Store
from pipelines.training.challenger import Challenge, train_challenger
from pipelines.training.evaluate import Metrics
from pipelines.training.training_set import TrainingSet

R = TypeVar("R")

AGENT = "torch.distributed.elastic"
AGENTS_SIGNALS = (signal.SIGHUP, signal.SIGQUIT)
"""Signals for which torchrun's agent sets its own handlers, and leaves them set.

Not SIGTERM: the agent's handler would also raise while a rank is being started.
"""


@dataclass(frozen=True)
class LaunchConfig(Section):
    """How the ranks of a training are started.

    Attributes:
        launcher: ``local``: this process, the only rank unless torchrun started it; ``torchrun``:
            processes on this machine, by torchrun's agent; ``spark``: tasks of a barrier stage
            (TorchDistributor), which needs all slots at once; with a local master, processes on
            this machine.
        ranks: number of ranks.
        restarts: how often torchrun's agent restarts all ranks after one was lost.
    """

    launcher: Literal["local", "torchrun", "spark"] = "local"
    ranks: Size = 1
    restarts: Count = 0

    def __post_init__(self) -> None:
        if self.launcher == "local" and self.ranks > 1:
            raise ValueError("launcher local has one rank: set launcher to torchrun or spark")
        if self.launcher != "torchrun" and self.restarts:
            raise ValueError("restarts needs launcher torchrun; Spark has spark.task.maxFailures")


def require_launcher(spark: SparkSession, config: LaunchConfig) -> None:
    """Refuse, before any work begins, a launcher that a session cannot start ranks with."""
    if config.launcher == "spark" and is_connect(spark):
        raise InputError(
            "launch.launcher: spark needs the JVM of a driver, which Spark Connect does not have:"
            " set torchrun or local, which train where the job runs"
        )


def launch_challenger(
    store: Store, training_set: TrainingSet, train: TrainConfig, launch: LaunchConfig,
    server: TrackingConfig, start: int | None = None,
) -> tuple[int, Metrics]:  # fmt: skip
    """Run ``train_challenger`` on every rank; rank 0 logs to the active MLflow run.

    Args:
        store: where the examples are published.
        training_set: what to train and evaluate on.
        train: how to train.
        launch: the ranks.
        server: where runs and models go.
        start: the version to continue from; None trains from scratch.

    Raises:
        InputError: a rank raised one, or was lost.
    """
    work = partial(train_challenger, store, training_set, train, server.model, start)
    if launch.launcher != "local":
        # A rank's environment may not name the tracking server.
        run = tracking.address(), tracking.active()
        work = partial(_joined, server, run, store.url, work)
    if launch.launcher == "spark":
        # TorchDistributor takes the active session.
        require_launcher(spark_session("train", training_set.spec.time_zone), launch)
    return on_ranks(launch, store.url, work)


def _joined(
    config: TrackingConfig, joined: tuple[str, str | None], store_url: str, work: Challenge
) -> tuple[int, Metrics]:
    """Run ``work`` as one rank of a process group; rank 0 logs to the run of the launching job.

    ``joined``: address of the tracking server, and id of the run.
    """
    address, run = joined
    with collectives.process_group():
        first = collectives.rank() == 0
        console.quiet = not first
        tracking.connect(config, store_url, address)
        with tracking.rejoined(run) if first and run else nullcontext():
            return work()


def on_ranks(config: LaunchConfig, store_url: str, work: Callable[[], R]) -> R:
    """Run ``work`` on every rank; return the result of rank 0.

    ``work`` and its result must be picklable. A failing rank leaves its error line in the store,
    which driver and executors share, until it is read here.

    Raises:
        InputError: a rank raised one, or was lost.
    """
    if config.launcher == "local":
        return work()
    error_folder = f"{store_url}/ranks-{uuid.uuid4().hex}"
    threads = max(1, (os.cpu_count() or 1) // config.ranks) if config.launcher == "torchrun" else 0
    handlers = {number: signal.getsignal(number) for number in AGENTS_SIGNALS}
    try:
        if config.launcher == "spark":
            here = str(SparkSession.active().sparkContext.master).startswith("local")
            spark = TorchDistributor(config.ranks, here, torch.cuda.is_available())
            return cast(R, spark.run(_rank, work, error_folder, threads))
        for name in [each for each in logging.root.manager.loggerDict if each.startswith(AGENT)]:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        agent = Elastic(
            min_nodes=1, max_nodes=1, nproc_per_node=config.ranks, run_id=uuid.uuid4().hex,
            rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", max_restarts=config.restarts,
            monitor_interval=0.5, start_method="spawn",
            signals_to_handle=",".join(each.name for each in AGENTS_SIGNALS),
        )  # fmt: skip
        return elastic_launch(agent, _rank)(work, error_folder, threads)[0]
    except SignalException as error:
        _restore(handlers)
        signal.raise_signal(error.sigval)
        raise
    except Exception as error:  # each launcher has its own type, and none holds the rank's error
        raise _first(error_folder) or _lost(error) or error from None
    finally:
        _restore(handlers)
        for process in multiprocessing.active_children():  # the agent had not counted it yet
            process.terminate()
        fs, path = fsspec.core.url_to_fs(error_folder)
        if fs.exists(path):
            fs.rm(path, recursive=True)


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    if threading.current_thread() is threading.main_thread():  # else the agent has set none
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _rank(work: Callable[[], R], error_folder: str, threads: int) -> R:
    if threads:
        torch.set_num_threads(threads)
    try:
        return work()
    except Exception as error:
        if line := one_line(error):
            # If the store's disk is full, the launcher's own error says so.
            place = f"{error_folder}/{os.environ['RANK']}"
            with suppress(OSError), fsspec.open(place, "w", auto_mkdir=True) as file:
                file.write(line)
        raise


def _first(error_folder: str) -> InputError | None:
    """Return the error line of the first rank that failed by itself."""
    fs, path = fsspec.core.url_to_fs(error_folder)
    for file in sorted(fs.ls(path, detail=False)) if fs.exists(path) else []:
        if line := fs.cat_file(file).decode():  # empty if the disk was full
            return InputError(f"rank {file.rpartition('/')[2]}: {line}")
    return None


def _lost(error: Exception) -> InputError | None:
    """Return which rank was killed, apart from ranks that torchrun's agent stopped itself."""
    if isinstance(error, Py4JJavaError) and (crash := LOST.search(str(error))):
        return InputError(f"a Spark task of the training was lost ({crash[0]}): run the job again")
    failures = error.failures if isinstance(error, ChildFailedError) else {}
    for number, failure in failures.items():
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            name = failure.signal_name()
            return InputError(f"rank {number} of the training was lost ({name}): run the job again")
    return None
