"""Checkpoints: the state of a training in files, to resume from when its processes are gone.

Each checkpoint is a folder named by the number of steps. ``latest.json`` names the newest complete
one and is written last. Rank 0 writes what is equal on all ranks; each rank writes its part of
sharded tables. Batches are a function of seed, epoch and rank, so the position in the data is the
number of steps in the epoch. Nothing is pickled.
"""

import json
import math
import tempfile
from dataclasses import asdict, dataclass, field

import fsspec
from safetensors.torch import load_file, save_file
from torch import Tensor

from din_model.distributed.collectives import barrier, rank, world_size
from din_model.errors import InputError

LATEST = "latest.json"


@dataclass
class TrainState:
    """How far a training is, and what the loop remembers.

    Attributes:
        epoch, step: completed epochs, and completed steps of the next epoch.
        steps: completed steps in all epochs.
        best, best_step, waited: lowest validation log loss, its step, and the checks since.
        share: of the configured learning rates (schedule ``plateau``).
        losses: (step, mean loss) of some steps.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    best: float = math.inf
    best_step: int = 0
    waited: int = 0
    share: float = 1.0
    losses: list[tuple[int, float]] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of one training, at an address that all its ranks reach."""

    def __init__(self, url: str, every: int) -> None:
        """``every``: steps between checkpoints; 0 for none."""
        self.every = every
        self._fs, self._path = fsspec.core.url_to_fs(url)

    def due(self, at: TrainState) -> bool:
        """Return whether a checkpoint is due."""
        return bool(self.every) and at.steps % self.every == 0

    def save(self, tensors: dict[str, Tensor], at: TrainState, own: bool) -> None:
        """Write a checkpoint, then remove the previous one; every rank takes part.

        ``own``: this rank's tensors differ from those of the others.
        """
        folder = f"{self._path}/{at.steps:012d}"
        if own or rank() == 0:
            self._fs.makedirs(folder, exist_ok=True)
            contiguous = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
            with tempfile.TemporaryDirectory() as scratch:
                save_file(contiguous, f"{scratch}/state")
                self._fs.put_file(f"{scratch}/state", f"{folder}/{_name(own)}")
        barrier()
        if rank() == 0:
            latest = {"folder": folder.rpartition("/")[2], "ranks": world_size(), "at": asdict(at)}
            self._fs.pipe_file(f"{self._path}/.{LATEST}", json.dumps(latest).encode())
            self._fs.mv(f"{self._path}/.{LATEST}", f"{self._path}/{LATEST}")
            for other in self._fs.ls(self._path, detail=False):
                if other.rpartition("/")[2] not in (latest["folder"], LATEST):
                    self._fs.rm(other, recursive=True)
        barrier()

    def load(self, own: bool) -> tuple[dict[str, Tensor], TrainState] | None:
        """Return the newest checkpoint, or None; see ``save``.

        Raises:
            InputError: it was written by another number of ranks.
        """
        path = f"{self._path}/{LATEST}"
        if not self.every or not self._fs.exists(path):
            return None
        latest = json.loads(self._fs.cat_file(path))
        if latest["ranks"] != world_size():
            raise InputError(
                f"{path}: written by {latest['ranks']} ranks, but this training has {world_size()}"
            )
        with tempfile.TemporaryDirectory() as scratch:
            self._fs.get_file(f"{self._path}/{latest['folder']}/{_name(own)}", f"{scratch}/state")
            tensors = load_file(f"{scratch}/state")
        position = latest["at"] | {"losses": [tuple(each) for each in latest["at"]["losses"]]}
        return tensors, TrainState(**position)

    def remove(self) -> None:
        """Remove all checkpoints: the training is done."""
        if rank() == 0 and self._fs.exists(self._path):
            self._fs.rm(self._path, recursive=True)


def _name(own: bool) -> str:
    return f"rank-{rank() if own else 0}.safetensors"
