"""Models that are built first and allocated later."""

import pytest
import torch
from torch import nn

from din_model.modules import deferred_init
from din_model.modules.deferred_init import build_deferred, materialise

IDS = torch.tensor([4, 5])


class Scaled(nn.Module):
    """A parameter made inside, and a buffer that exists before."""

    def __init__(self, ids: torch.Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("ids", ids)


def test_materialise_allocates_deferred_tensors_and_keeps_real_ones():
    model = build_deferred(lambda: Scaled(IDS))
    model = materialise(model, torch.device("cpu"))
    assert model.linear.weight.shape == (2, 3)
    assert {t.device.type for t in model.state_dict().values()} == {"cpu"}
    assert model.ids.tolist() == [4, 5]


@pytest.mark.skipif(deferred_init.deferred_init is not None, reason="torchdistx fakes the device")
def test_a_deferred_model_holds_no_weights():
    model = build_deferred(lambda: nn.Linear(3, 2))
    assert isinstance(model.weight, nn.Parameter)
    assert model.weight.is_meta


def test_what_was_replaced_before_materialise_is_not_allocated():
    model = build_deferred(lambda: nn.Sequential(nn.Linear(2**20, 2**20), nn.Linear(3, 2)))
    ready = torch.ones(2, 3)
    model[0] = nn.Identity()  # for 4 TiB of weights
    model[1].weight = nn.Parameter(ready)
    model = materialise(model, torch.device("cpu"))
    assert model[1].weight.data_ptr() == ready.data_ptr()
    assert not model[1].bias.is_meta
