"""Ranks: every function here also works in a single process without a process group."""

import gc
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

# Functions' defaults in these hold the group that stands when they are imported, as torch.optim and
# TorchRec do: it never ends, and its threads now and then abort a rank that was done. So, before.
import torch.distributed.nn.functional
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from din_model.distributed import shared_memory

_shared: shared_memory.SharedMemory | None = None
"""Shared by the ranks where they are on one machine."""


def connect() -> None:
    """Join the process group that torchrun (or another launcher) describes, if it does."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        import torch.distributed.optim  # as above; a second, which ranks alone need

        on_gpus = torch.cuda.is_available()
        if on_gpus:
            torch.cuda.set_device(device())
        # torchrun's agent keeps one store for all its attempts, with the addresses of ranks that
        # are gone: each attempt has a corner of its own.
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
        gc.collect()  # TorchRec's modules hold the group too, and themselves in a circle
        dist.destroy_process_group()


@contextmanager
def process_group() -> Iterator[None]:
    """Be a rank among others meanwhile, where a launcher has said so."""
    connect()
    try:
        yield
    finally:
        disconnect()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def device() -> torch.device:
    """This rank's GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


class _Sum(torch.autograd.Function):
    """All-reduce whose gradient is all-reduced too: each loss hangs on every rank's input."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _total(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _total(gradient)


def all_reduce(tensor: Tensor) -> Tensor:
    """The sum of ``tensor`` over the ranks, differentiable."""
    return tensor if world_size() == 1 else _Sum.apply(tensor)


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients over the ranks, in one message for all of them."""
    if world_size() > 1:
        gradients = [p.grad for p in parameters if p.grad is not None]
        vector_to_parameters(_total(parameters_to_vector(gradients)), gradients)


def all_gather(tensor: Tensor) -> Tensor:
    """Each rank's ``tensor``, all of one shape [*], in rank order [ranks, *], on every rank."""
    if world_size() == 1:
        return tensor[None]
    found = torch.cat(list(_exchange([shared_memory.as_bytes(tensor)], tensor.nbytes)))
    return found.view(tensor.dtype).view(world_size(), *tensor.shape)


def all_gather_jagged(tensors: list[Tensor]) -> list[list[Tensor]]:
    """Each rank's part of each of some tensors, in rank order, on every rank.

    Their first dimensions may differ from rank to rank. It takes two messages for all of them,
    since a message costs more than its bytes. The parts stand until the next message: they may lie
    where the ranks wrote them.
    """
    if world_size() == 1:
        return [[tensor] for tensor in tensors]
    lengths = all_gather(torch.tensor([len(t) for t in tensors], device=tensors[0].device))
    sizes = torch.tensor([t.element_size() * t.shape[1:].numel() for t in tensors])
    each = (lengths.cpu() * sizes).tolist()
    found = _exchange([shared_memory.as_bytes(t) for t in tensors], max(map(sum, each)))
    split = [part[: sum(n)].split(n) for part, n in zip(found, each, strict=True)]
    return [
        [_seen_as(t, part) for part in parts]
        for t, parts in zip(tensors, zip(*split, strict=True), strict=True)
    ]


def _exchange(parts: list[Tensor], size: int) -> Tensor:
    """What each rank has, bytes end to end [ranks, size]; the longest is of ``size``.

    It stands until the next message.
    """
    if _shared and size <= _shared.slot_bytes:
        return _shared.all_gather(parts, size)
    mine = torch.cat([*parts, parts[0].new_empty(size - sum(map(len, parts)))])
    found = mine.new_empty(world_size(), size)
    _wait(dist.all_gather(list(found.unbind()), mine, async_op=True), mine)
    return found


def _seen_as(tensor: Tensor, part: Tensor) -> Tensor:
    """Bytes as numbers of the type and row of ``tensor``; copied only where they lie askew."""
    askew = part.storage_offset() % tensor.element_size()
    return (part.clone() if askew else part).view(tensor.dtype).view(-1, *tensor.shape[1:])


def _total(tensor: Tensor) -> Tensor:
    """The sum over the ranks."""
    if _shared and tensor.nbytes <= _shared.slot_bytes:
        return all_gather(tensor).sum(0)
    total = tensor.clone()
    _wait(dist.all_reduce(total, async_op=True), total)
    return total


def _wait(work: Any, tensor: Tensor) -> None:
    """Wait awake: a core that falls asleep takes longer to wake than a small message to come."""
    if tensor.device.type == "cpu":
        while not work.is_completed():
            os.sched_yield()
    work.wait()


def allocate_shared(shape: tuple[int, ...]) -> Tensor | None:
    """Zeros that all ranks read and write; None where they share no memory, or too little.

    All ranks call it. Between one's writing and another's reading lies a message or ``shared_barrier``.
    """
    return _shared.zeros(shape) if _shared else None


def shared_barrier() -> None:
    """Wait awake for the other ranks, where they share memory."""
    if _shared:
        _shared.barrier()


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()
