"""Ranks: every function here also works in a single process without a process group."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist

# Its functions' defaults hold the group that stands when it is imported, and torch.optim imports
# it: then a group never ends, and its threads now and then abort a rank that was done. So, before.
import torch.distributed.nn.functional
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters


def connect() -> None:
    """Join the process group that torchrun (or another launcher) describes, if it does."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
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


def disconnect() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
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
        return _reduced(tensor.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _reduced(gradient.clone())


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of ``tensor`` over the ranks, differentiable."""
    return tensor if world() == 1 else _Sum.apply(tensor)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> Callable[[], None]:
    """Begin to sum the gradients over the ranks, all in one message; the result ends it."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if world() == 1 or not gradients:
        return lambda: None
    total = parameters_to_vector(gradients)
    work = dist.all_reduce(total, async_op=True)

    def end() -> None:
        _wait(work, total)
        vector_to_parameters(total, gradients)

    return end


def of_each_rank(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to send ``tensor`` to all ranks, of one shape [*] on each; the result ends it.

    It returns each rank's, in rank order [ranks, *].
    """
    if world() == 1:
        return lambda: tensor[None]
    tensor = tensor.contiguous()
    found = tensor.new_empty(world(), *tensor.shape)
    work = dist.all_gather(list(found.unbind()), tensor, async_op=True)

    def end() -> Tensor:
        _wait(work, tensor)
        return found

    return end


def lengths(tensors: list[Tensor]) -> Tensor:
    """First dimensions, where the tensors are."""
    return torch.tensor([len(t) for t in tensors], device=tensors[0].device)


def gather(tensors: list[Tensor], announced: Tensor | None = None) -> list[Tensor]:
    """Concatenate each of some tensors over the ranks, in rank order, on every rank.

    Their first dimensions may differ from rank to rank. It takes one message for all of them, since
    a message costs more than its bytes, and one before it that announces every rank's ``lengths``
    [ranks, tensors], unless that has been sent already.
    """
    if world() == 1:
        return tensors
    if announced is None:
        announced = of_each_rank(lengths(tensors))()
    sizes = torch.tensor([t.element_size() * t.shape[1:].numel() for t in tensors])
    each = (announced.cpu() * sizes).tolist()
    mine = torch.cat([t.contiguous().view(-1).view(torch.uint8) for t in tensors])
    parts = of_each_rank(torch.cat([mine, mine.new_empty(max(map(sum, each)) - len(mine))]))()
    split = [part[: sum(n)].split(n) for part, n in zip(parts, each, strict=True)]
    return [
        torch.cat([p.clone().view(t.dtype).view(-1, *t.shape[1:]) for p in found])  # aligned
        for t, found in zip(tensors, zip(*split, strict=True), strict=True)
    ]


def _reduced(tensor: Tensor) -> Tensor:
    """Sum ``tensor`` over the ranks, in place."""
    _wait(dist.all_reduce(tensor, async_op=True), tensor)
    return tensor


def _wait(work: Any, tensor: Tensor) -> None:
    """Wait awake: a core that falls asleep takes longer to wake than a small message to come."""
    if tensor.device.type == "cpu":
        while not work.is_completed():
            os.sched_yield()
    work.wait()


def barrier() -> None:
    if world() > 1:
        dist.barrier()
