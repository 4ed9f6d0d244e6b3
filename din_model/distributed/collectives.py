"""Collectives over the ranks. Every function also works in one process without a process group."""

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

# Default arguments of this module hold the process group that exists when it is first imported, as
# torch.optim and TorchRec do. Such a group never ends, and its threads can abort a finished rank.
# So it is imported before any group exists.
import torch.distributed.nn.functional
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from din_model.distributed import shared_memory

_shared: shared_memory.SharedMemory | None = None
"""The shared memory of the ranks, if all are on one machine."""


def connect() -> None:
    """Join the process group that torchrun or another launcher describes in the environment."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        import torch.distributed.optim  # before the group exists, as above; takes a second

        on_gpus = torch.cuda.is_available()
        if on_gpus:
            torch.cuda.set_device(device())
        # torchrun's agent keeps one store for all attempts, with the addresses of dead ranks, so
        # each attempt gets its own prefix.
        store, number, ranks = next(dist.rendezvous("env://"))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"attempt-{attempt}", store)
        backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=ranks)
        global _shared
        _shared = None if on_gpus else shared_memory.map_shared_memory(store, number, ranks)


def disconnect() -> None:
    """Leave the process group."""
    global _shared
    _shared = None
    if dist.is_initialized():
        gc.collect()  # TorchRec's modules hold the group in reference cycles
        dist.destroy_process_group()


@contextmanager
def process_group() -> Iterator[None]:
    """Join the process group that a launcher describes, and leave it at the end of the block."""
    connect()
    try:
        yield
    finally:
        disconnect()


def rank() -> int:
    """Return the number of this rank, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def device() -> torch.device:
    """Return this rank's GPU, or the CPU if there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


class _Sum(torch.autograd.Function):
    """All-reduce whose gradient is all-reduced too: each loss depends on every rank's input."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _total(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _total(gradient)


def all_reduce(tensor: Tensor) -> Tensor:
    """Return the sum of ``tensor`` over the ranks, differentiable."""
    return tensor if world_size() == 1 else _Sum.apply(tensor)


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients over the ranks, in one message."""
    if world_size() > 1:
        gradients = [p.grad for p in parameters if p.grad is not None]
        vector_to_parameters(_total(parameters_to_vector(gradients)), gradients)


def all_gather(tensor: Tensor) -> Tensor:
    """Gather equally shaped tensors [*] in rank order into [ranks, *], on every rank."""
    if world_size() == 1:
        return tensor[None]
    gathered = torch.cat(list(_exchange([shared_memory.as_bytes(tensor)], tensor.nbytes)))
    return gathered.view(tensor.dtype).view(world_size(), *tensor.shape)


def all_gather_jagged(tensors: list[Tensor]) -> list[list[Tensor]]:
    """Gather tensors whose first dimensions differ between ranks.

    All tensors take two messages together, because a message costs more than its bytes. The parts
    may be views of shared memory and are valid until the next message.

    Returns:
        For each tensor, each rank's part in rank order.
    """
    if world_size() == 1:
        return [[tensor] for tensor in tensors]
    lengths = all_gather(torch.tensor([len(t) for t in tensors], device=tensors[0].device))
    sizes = torch.tensor([t.element_size() * t.shape[1:].numel() for t in tensors])
    each = (lengths.cpu() * sizes).tolist()
    gathered = _exchange([shared_memory.as_bytes(t) for t in tensors], max(map(sum, each)))
    split = [part[: sum(n)].split(n) for part, n in zip(gathered, each, strict=True)]
    return [
        [_view_as(t, part) for part in parts]
        for t, parts in zip(tensors, zip(*split, strict=True), strict=True)
    ]


def _exchange(parts: list[Tensor], size: int) -> Tensor:
    """Gather the bytes of all ranks into [ranks, size]; valid until the next message.

    ``size``: bytes of the longest rank.
    """
    if _shared and size <= _shared.slot_bytes:
        return _shared.all_gather(parts, size)
    own = torch.cat([*parts, parts[0].new_empty(size - sum(map(len, parts)))])
    gathered = own.new_empty(world_size(), size)
    _wait(dist.all_gather(list(gathered.unbind()), own, async_op=True), own)
    return gathered


def _view_as(tensor: Tensor, part: Tensor) -> Tensor:
    """View bytes with the type and row shape of ``tensor``; copy them only if misaligned."""
    misaligned = part.storage_offset() % tensor.element_size()
    return (part.clone() if misaligned else part).view(tensor.dtype).view(-1, *tensor.shape[1:])


def _total(tensor: Tensor) -> Tensor:
    """Return the sum over the ranks."""
    if _shared and tensor.nbytes <= _shared.slot_bytes:
        return all_gather(tensor).sum(0)
    total = tensor.clone()
    _wait(dist.all_reduce(total, async_op=True), total)
    return total


def _wait(work: Any, tensor: Tensor) -> None:
    """Spin until the operation is complete.

    Waking a sleeping core takes longer than a small message.
    """
    if tensor.device.type == "cpu":
        while not work.is_completed():
            os.sched_yield()
    work.wait()


def allocate_shared(shape: tuple[int, ...]) -> Tensor | None:
    """Allocate zeros that all ranks map.

    Every rank must call it. A message or ``shared_barrier`` must separate a write by one rank from
    a read by another.

    Returns:
        The tensor, or None if there is no shared memory or too little.
    """
    return _shared.zeros(shape) if _shared else None


def made_once(make: Callable[[], Tensor], kind: torch.dtype) -> Tensor:
    """Return what ``make`` gives, equal on all ranks; one rank makes it, and all map its memory.

    Every rank must call it. Without shared memory, each rank makes its own.

    Args:
        make: returns a tensor [n], equal on all ranks.
        kind: the type of its elements.
    """
    return _shared.copy_of_first(make, kind) if _shared else make()


def shared_barrier() -> None:
    """Wait for the other ranks, if the ranks share memory."""
    if _shared:
        _shared.barrier()


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        dist.barrier()
