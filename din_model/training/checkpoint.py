"""Where a training stands, in files that it can go on from after its processes are gone. No pickle.

A folder a checkpoint, named by the steps taken; ``latest.json`` names the newest whole one and is
written last. Rank 0 writes what all ranks hold alike; of tables sharded each rank writes its own
rows. Nothing else is needed: batches are drawn by seed, epoch and rank, so their position in the
files is the number of steps taken in the epoch.
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
    """How far a training is: counts of what is behind it, and what the loop remembers.

    Attributes:
        epoch, step: epochs behind it, and steps behind it in the next one.
        steps: in all epochs.
        best, waited: of later rows, the least log loss, and the epochs since.
        share: of the configured learning rates (schedule ``plateau``).
        losses: (step, mean loss), some of all.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    best: float = math.inf
    waited: int = 0
    share: float = 1.0
    losses: list[tuple[int, float]] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of one training, at an address that all its ranks reach."""

    def __init__(self, url: str, every: int) -> None:
        """``every``: so many steps; 0 for none."""
        self.every = every
        self._fs, self._path = fsspec.core.url_to_fs(url)

    def due(self, at: TrainState) -> bool:
        return bool(self.every) and at.steps % self.every == 0

    def save(self, tensors: dict[str, Tensor], at: TrainState, own: bool) -> None:
        """Write a checkpoint, then drop the one before it; every rank takes part.

        ``own``: whether this rank's tensors differ from the others'.
        """
        folder = f"{self._path}/{at.steps:012d}"
        if own or rank() == 0:
            self._fs.makedirs(folder, exist_ok=True)
            whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
            with tempfile.TemporaryDirectory() as here:
                save_file(whole, f"{here}/state")
                self._fs.put_file(f"{here}/state", f"{folder}/{_name(own)}")
        barrier()
        if rank() == 0:
            about = {"folder": folder.rpartition("/")[2], "ranks": world_size(), "at": asdict(at)}
            self._fs.pipe_file(f"{self._path}/.{LATEST}", json.dumps(about).encode())
            self._fs.mv(f"{self._path}/.{LATEST}", f"{self._path}/{LATEST}")
            for other in self._fs.ls(self._path, detail=False):
                if other.rpartition("/")[2] not in (about["folder"], LATEST):
                    self._fs.rm(other, recursive=True)
        barrier()

    def load(self, own: bool) -> tuple[dict[str, Tensor], TrainState] | None:
        """The newest checkpoint, if there is one; see ``save``.

        Raises:
            InputError: it was written by another number of ranks.
        """
        path = f"{self._path}/{LATEST}"
        if not self.every or not self._fs.exists(path):
            return None
        about = json.loads(self._fs.cat_file(path))
        if about["ranks"] != world_size():
            raise InputError(f"{path}: of {about['ranks']} ranks, and these are {world_size()}")
        with tempfile.TemporaryDirectory() as here:
            self._fs.get_file(f"{self._path}/{about['folder']}/{_name(own)}", f"{here}/state")
            found = load_file(f"{here}/state")
        position = about["at"] | {"losses": [tuple(each) for each in about["at"]["losses"]]}
        return found, TrainState(**position)

    def remove(self) -> None:
        """Forget them all: the training is done."""
        if rank() == 0 and self._fs.exists(self._path):
            self._fs.rm(self._path, recursive=True)


def _name(own: bool) -> str:
    return f"rank-{rank() if own else 0}.safetensors"
