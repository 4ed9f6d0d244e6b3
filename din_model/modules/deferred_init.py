"""Build a model of any size without allocating it; allocate when it is known what is needed."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)

try:
    from torchdistx.deferred_init import deferred_init, materialize_module
except ImportError:  # not on PyPI, and its C++ part does not build on torch 2
    deferred_init = None


def build_deferred(build: Callable[[], M]) -> M:
    """Run ``build`` without allocating: by torchdistx if installed, else on torch's meta."""
    if deferred_init is not None:
        return deferred_init(build)
    with torch.device("meta"):
        return build()


def materialise(model: M, device: torch.device) -> M:
    """Allocate, uninitialised, what ``build_deferred`` left out and nobody has put there since."""
    if deferred_init is not None:
        materialize_module(model)
        return model.to(device)
    return model._apply(lambda t: torch.empty_like(t, device=device) if t.is_meta else t.to(device))
