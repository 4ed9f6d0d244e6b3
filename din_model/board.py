"""A board that the ranks of one machine share: each writes its own corner and reads the others'.

Over a socket a small message takes a millisecond where a thread has to be woken for it, and a
training step sends a dozen. Here a rank copies into memory that all of them have mapped, counts up,
and reads when all counts say that the others have done so too.
"""

import os
import platform
import shutil
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

PLACE = Path("/dev/shm")
LARGEST = 8 << 20
"""Bytes of a corner; what is larger goes another way."""

LINE = 64
"""Bytes of a cache line: counts of two ranks are not to share one."""

LOOKS = 10_000
"""How often a rank looks before it asks what time it is."""


class Board:
    """Two pages, used in turn, of a corner a rank.

    A rank writes on a page again only when all have counted the round between, so all have read
    what was there. A processor that keeps stores in order (x86) needs no more than that.
    """

    def __init__(self, path: Path, rank: int, ranks: int, corner: int, timeout: timedelta) -> None:
        memory = np.memmap(path, np.uint8, "r+")
        self.corner, self._rank, self._ranks, self._round = corner, rank, ranks, 0
        self._counts = memory[: LINE * ranks].view(np.int64)[:: LINE // 8]
        self._pages = torch.from_numpy(memory[LINE * ranks :]).view(2, ranks, corner)
        self._seconds = timeout.total_seconds()

    def of_each_rank(self, tensor: Tensor) -> Tensor:
        """Each rank's ``tensor`` [ranks, *], on every rank; at most ``corner`` bytes, on a CPU.

        Raises:
            TimeoutError: a rank did not write.
        """
        mine = as_bytes(tensor)
        self._round += 1
        page = self._pages[self._round % 2, :, : len(mine)]
        page[self._rank] = mine
        self._counts[self._rank] = self._round
        self._wait()
        return page.contiguous().view(tensor.dtype).view(self._ranks, *tensor.shape)

    def _wait(self) -> None:
        """Wait awake, since a core that falls asleep takes long to wake; others may run."""
        looks, end = 0, time.monotonic() + self._seconds
        while self._counts.min() < self._round:
            os.sched_yield()
            looks += 1
            if looks % LOOKS == 0 and time.monotonic() > end:
                raise TimeoutError(f"a rank of the training was silent for {self._seconds:.0f} s")


def as_bytes(tensor: Tensor) -> Tensor:
    """A tensor's numbers as bytes [n]; copied only where they do not lie in a row."""
    if tensor.dim() and (not tensor.is_contiguous() or tensor.stride(-1) != 1):
        # A tensor of one number may have no stride at all, and then counts as contiguous.
        tensor = tensor.clone(memory_format=torch.contiguous_format)
    return tensor.view(-1).view(torch.uint8)


def share(store: dist.Store, rank: int, ranks: int) -> Board | None:
    """A board for ranks that are all on this machine, where it can have one; all ranks call it.

    Its file has no name any more once all have mapped it, so that none is left behind.
    """
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) != ranks or platform.machine() != "x86_64":
        return None
    if rank == 0:
        free = shutil.disk_usage(PLACE).free if PLACE.is_dir() else 0
        # Half of what is free at most: a page that cannot be had kills the process that wrote it.
        corner = min(LARGEST, free // (4 * ranks)) // LINE * LINE
        path = ""
        if corner:
            file, path = tempfile.mkstemp(prefix="din-", dir=PLACE)
            os.truncate(file, LINE * ranks + 2 * ranks * corner)
            os.close(file)
        store.set("board", f"{corner} {path}")
    size, _, path = store.get("board").decode().partition(" ")
    board = Board(Path(path), rank, ranks, int(size), dist.default_pg_timeout) if path else None
    dist.barrier()
    if rank == 0 and path:
        os.unlink(path)
    return board
