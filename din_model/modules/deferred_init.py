"""Build a model without allocating it, and allocate it later: torchdistx or torch's meta device."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)

try:
    from torchdistx.deferred_init import deferred_init, materialize_module
except ImportError:  # not on PyPI, and its C++ part does not build with torch 2
    deferred_init = None


def build_deferred(build: Callable[[], M]) -> M:
    """Run ``build`` without allocating tensors."""
    if deferred_init is not None:
        return deferred_init(build)
    with torch.device("meta"):
        return build()


def materialise(model: M, device: torch.device) -> M:
    """Allocate, uninitialised, every tensor that is still deferred."""
    if deferred_init is not None:
        materialize_module(model)
        return model.to(device)
    # nn.Module has no public way to replace every tensor.
    return model._apply(  # noqa: SLF001
        lambda t: torch.empty_like(t, device=device) if t.is_meta else t.to(device)
    )
