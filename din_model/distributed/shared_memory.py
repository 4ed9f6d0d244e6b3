"""A board that the ranks of one machine share: each writes its own slot_bytes and reads the others'.

Over a socket a small message takes a millisecond where a thread has to be woken for it, and a
training step sends a dozen. Here a rank copies into memory that all of them have mapped, counts up,
and reads when all counts say that the others have done so too. What they would hold alike, such as
embedding tables, they may hold once.
"""

import math
import os
import platform
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

PLACE = Path("/dev/shm")
LARGEST = 8 << 20
"""Bytes of a slot_bytes; what is larger goes another way."""

LINE = 64
"""Bytes of a cache line: counts of two ranks are not to share one."""

LOOKS = 10_000
"""How often a rank looks before it asks what time it is."""


class SharedMemory:
    """Two pages, used in turn, of a slot_bytes a rank.

    A rank writes on a page again only when all have counted the round between, so all have read
    what was there. A processor that keeps stores in order (x86) needs no more than that.
    """

    def __init__(self, memory: NDArray[Any], store: dist.Store, rank: int, ranks: int) -> None:
        self._store, self._rank, self._ranks, self._round = store, rank, ranks, 0
        self._counts = memory[: LINE * ranks].view(np.int64)[:: LINE // 8]
        self._pages = torch.from_numpy(memory[LINE * ranks :]).view(2, ranks, -1)
        self.slot_bytes = self._pages.shape[2]
        self._seconds = dist.default_pg_timeout.total_seconds()

    def all_gather(self, parts: list[Tensor], size: int) -> Tensor:
        """What each rank writes, bytes end to end: the page [ranks, size] itself, until the next.

        ``size``: of the longest, on all ranks; at most ``slot_bytes``.

        Raises:
            TimeoutError: a rank did not write.
        """
        page = self._pages[(self._round + 1) % 2, :, :size]
        torch.cat(parts, out=page[self._rank, : sum(map(len, parts))])
        self.barrier()
        return page

    def barrier(self) -> None:
        """Wait for all ranks, awake, since a core that falls asleep takes long to wake.

        Raises:
            TimeoutError: a rank did not come.
        """
        self._round += 1
        self._counts[self._rank] = self._round
        looks, end = 0, time.monotonic() + self._seconds
        while self._counts.min() < self._round:
            os.sched_yield()
            looks += 1
            if looks % LOOKS == 0 and time.monotonic() > end:
                raise TimeoutError(f"a rank of the training was silent for {self._seconds:.0f} s")

    def zeros(self, shape: tuple[int, ...]) -> Tensor | None:
        """Zeros (float32) that all ranks have mapped; None where there is no room for them."""
        size = 4 * math.prod(shape)
        memory = _map_on_all_ranks(self._store, self._rank, size if size <= _room() else 0)
        return None if memory is None else torch.from_numpy(memory.view(np.float32)).view(shape)


def as_bytes(tensor: Tensor) -> Tensor:
    """A tensor's numbers as bytes [n]; copied only where they do not lie in a row."""
    if tensor.dim() and (not tensor.is_contiguous() or tensor.stride(-1) != 1):
        # A tensor of one number may have no stride at all, and then counts as contiguous.
        tensor = tensor.clone(memory_format=torch.contiguous_format)
    return tensor.view(-1).view(torch.uint8)


def map_shared_memory(store: dist.Store, rank: int, ranks: int) -> SharedMemory | None:
    """A board for ranks that are all on this machine, where it can have one; all ranks call it."""
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) != ranks or platform.machine() != "x86_64":
        return None
    slot_bytes = min(LARGEST, _room() // (2 * ranks)) // LINE * LINE
    memory = _map_on_all_ranks(
        store, rank, LINE * ranks + 2 * ranks * slot_bytes if slot_bytes else 0
    )
    return None if memory is None else SharedMemory(memory, store, rank, ranks)


def _room() -> int:
    """Bytes that may be taken: half of what is free, since a page that cannot be had is death."""
    return shutil.disk_usage(PLACE).free // 2 if PLACE.is_dir() else 0


def _map_on_all_ranks(store: dist.Store, rank: int, size: int) -> NDArray[Any] | None:
    """Zeros [size] (bytes) in memory that all ranks have mapped; none for 0. Rank 0's size counts.

    Their file has no name any more once all have mapped it, so that none is left behind.
    """
    if rank == 0:
        path = ""
        if size:
            file, path = tempfile.mkstemp(prefix="din-", dir=PLACE)
            os.truncate(file, size)
            os.close(file)
        store.set("mapped", path)
    dist.barrier()
    path = store.get("mapped").decode()
    memory = np.memmap(path, np.uint8, "r+") if path else None
    dist.barrier()
    if rank == 0 and path:
        os.unlink(path)
    return memory
