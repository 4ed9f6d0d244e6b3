"""Models on the executors: sent once per job, and loaded once per worker process."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from pyspark import SparkFiles
from pyspark.sql import SparkSession

from din_model.distributed.malloc import keep_freed_blocks
from din_model.modules.din import DIN
from din_model.registry.artifact import ModelMetadata, load, write_vectors
from pipelines.access.choice import session_analysis


def ship(
    spark: SparkSession, model_folder: Path, vectors: Mapping[str, NDArray[Any]] | None = None
) -> str:
    """Send a model folder to every executor once; return its name for the tasks.

    It is sent as an archive, because Spark sends no folder of the driver's disk to a cluster.

    Args:
        spark: the session.
        model_folder: see registry.artifact.
        vectors: replace the given vectors of the model.
    """
    archive = archive_of(model_folder, vectors)
    session_analysis(spark).send_archive(archive)
    return archive.stem


def archive_of(model_folder: Path, vectors: Mapping[str, NDArray[Any]] | None = None) -> Path:
    """Return a model folder as an archive in a temporary folder, which goes when the job ends."""
    folder = Path(tempfile.mkdtemp())
    # Spark reads the archive whenever an executor asks for it, as long as the job runs.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if vectors:
        model_folder = Path(shutil.copytree(model_folder, folder / "model"))
        write_vectors(model_folder, vectors)
    name = f"model-{os.urandom(4).hex()}"
    return Path(shutil.make_archive(str(folder / name), "zip", model_folder))


@lru_cache(maxsize=2)  # champion and challenger are judged side by side
def loaded(shipped: str) -> tuple[DIN, ModelMetadata]:
    """Load a shipped model once per worker process, with as many threads as the task has slots."""
    keep_freed_blocks()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return load(Path(SparkFiles.get(shipped)))
