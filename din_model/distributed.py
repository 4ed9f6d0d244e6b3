"""Ranks: every function here also works in a single process without a process group."""

import os
from collections.abc import Iterable
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
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")


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
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of ``tensor`` over the ranks, differentiable."""
    return tensor if world() == 1 else _Sum.apply(tensor)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients over the ranks, in one message for all of them."""
    if world() > 1:
        gradients = [p.grad for p in parameters if p.grad is not None]
        total = parameters_to_vector(gradients)
        dist.all_reduce(total)
        vector_to_parameters(total, gradients)


def gather(tensor: Tensor) -> Tensor:
    """Concatenate tensors of any first dimension over the ranks, in rank order, on every rank."""
    if world() == 1:
        return tensor
    sizes = [torch.zeros(1, dtype=torch.int64, device=tensor.device) for _ in range(world())]
    dist.all_gather(sizes, torch.tensor([len(tensor)], device=tensor.device))
    longest = int(max(sizes))
    padded = tensor.new_zeros(longest, *tensor.shape[1:])
    padded[: len(tensor)] = tensor
    parts = [torch.empty_like(padded) for _ in range(world())]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])


def barrier() -> None:
    if world() > 1:
        dist.barrier()
