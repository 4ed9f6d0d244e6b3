"""Shared memory of the ranks of one machine: each rank writes its own slot and reads the others'.

Over a socket, a small message takes a millisecond if a thread must be woken for it, and a training
step sends a dozen. Here a rank copies its data into memory that all ranks map, increments its
counter, and reads once all counters have advanced. Data that is equal on all ranks, such as
embedding tables, is mapped once.
"""

import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

PLACE = Path("/dev/shm")  # noqa: S108 (the shared memory file system, not a temporary folder)
MAX_SLOT_BYTES = 8 << 20
"""Larger messages use the process group."""

CACHE_LINE = 64
"""Bytes. Counters of two ranks must not share a cache line."""

SPINS_PER_CLOCK_READ = 10_000
"""Iterations of a spin-wait between two reads of the clock."""


class SharedMemory:
    """Two buffers, used alternately, with one slot per rank.

    A rank writes to a buffer again only after all ranks have counted the round between, so all have
    read its previous contents. A processor that keeps stores in order (x86) needs no more than
    that.
    """

    def __init__(self, memory: NDArray[Any], store: dist.Store, rank: int, ranks: int) -> None:
        """Split ``memory`` [bytes] into counters and buffers."""
        self._store, self._rank, self._ranks, self._round = store, rank, ranks, 0
        self._counters = memory[: CACHE_LINE * ranks].view(np.int64)[:: CACHE_LINE // 8]
        self._buffers = torch.from_numpy(memory[CACHE_LINE * ranks :]).view(2, ranks, -1)
        self.slot_bytes = self._buffers.shape[2]
        self._seconds = dist.default_pg_timeout.total_seconds()

    def all_gather(self, parts: list[Tensor], size: int) -> Tensor:
        """Write this rank's parts; return the buffer [ranks, size], valid until the next call.

        Args:
            parts: bytes of this rank.
            size: bytes of the longest rank, at most ``slot_bytes``.

        Raises:
            TimeoutError: a rank did not write.
        """
        buffer = self._buffers[(self._round + 1) % 2, :, :size]
        torch.cat(parts, out=buffer[self._rank, : sum(map(len, parts))])
        self.barrier()
        return buffer

    def barrier(self) -> None:
        """Spin-wait for all ranks: waking a sleeping core takes longer than a message.

        Raises:
            TimeoutError: a rank did not arrive.
        """
        self._round += 1
        self._counters[self._rank] = self._round
        spins, end = 0, time.monotonic() + self._seconds
        while self._counters.min() < self._round:
            os.sched_yield()
            spins += 1
            if spins % SPINS_PER_CLOCK_READ == 0 and time.monotonic() > end:
                raise TimeoutError(f"a rank did not respond for {self._seconds:.0f} s")

    def zeros(self, shape: tuple[int, ...]) -> Tensor | None:
        """Return zeros (float32) that all ranks map; None if there is no room."""
        size = 4 * math.prod(shape)
        memory = _map_on_all_ranks(self._store, self._rank, size if size <= _room() else 0)
        return None if memory is None else torch.from_numpy(memory.view(np.float32)).view(shape)

    def copy_of_first(self, make: Callable[[], Tensor], kind: torch.dtype) -> Tensor:
        """Return what ``make`` [n] gives on the first rank, mapped by all; without room, one each.

        Args:
            make: called on the first rank, or on each.
            kind: the type of its elements.
        """
        made = make() if self._rank == 0 else None
        size = made.nbytes if made is not None and made.nbytes <= _room() else 0
        memory = _map_on_all_ranks(self._store, self._rank, size)
        if memory is None:
            return make() if made is None else made
        mapped = torch.from_numpy(memory).view(kind)
        if made is not None:
            mapped.copy_(made)
        dist.barrier()
        return mapped


def as_bytes(tensor: Tensor) -> Tensor:
    """Return a tensor as bytes [n]; copy it only if it is not contiguous."""
    if tensor.dim() and (not tensor.is_contiguous() or tensor.stride(-1) != 1):
        # A tensor of one element may have stride 0 and still count as contiguous.
        tensor = tensor.clone(memory_format=torch.contiguous_format)
    return tensor.view(-1).view(torch.uint8)


def map_shared_memory(store: dist.Store, rank: int, ranks: int) -> SharedMemory | None:
    """Map shared memory if all ranks are on this machine; every rank must call it."""
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) != ranks or platform.machine() != "x86_64":
        return None
    slot = min(MAX_SLOT_BYTES, _room() // (2 * ranks)) // CACHE_LINE * CACHE_LINE
    memory = _map_on_all_ranks(store, rank, CACHE_LINE * ranks + 2 * ranks * slot if slot else 0)
    return None if memory is None else SharedMemory(memory, store, rank, ranks)


def _room() -> int:
    """Return the bytes that may be used: half of what is free.

    Touching an unbacked page raises SIGBUS, so the other half stays as a margin.
    """
    return shutil.disk_usage(PLACE).free // 2 if PLACE.is_dir() else 0


def _map_on_all_ranks(store: dist.Store, rank: int, size: int) -> NDArray[Any] | None:
    """Map ``size`` zero bytes on all ranks; None for 0. The size of rank 0 counts.

    The file is unlinked once all ranks have mapped it, so none is left behind.
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
