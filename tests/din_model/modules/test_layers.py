"""Dice, the other activations, and the MLP."""

import pytest
import torch
from torch import nn

from din_model.modules.layers import MLP, Dice, activation


def test_dice_normalises_by_the_batch_and_evaluates_with_its_statistics():
    dice, x = Dice(4), torch.randn(50, 4) * 3 + 1
    out = dice(x)
    gate = torch.sigmoid((x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 1e-8))
    torch.testing.assert_close(out, x * gate)
    dice.eval()
    torch.testing.assert_close(dice(x), out)


def test_dice_without_positions_has_no_gradient_and_keeps_its_statistics():
    dice, empty = Dice(4), torch.empty(0, 4, requires_grad=True)
    dice(empty).sum().backward()
    assert empty.grad.shape == (0, 4)
    assert not dice.alpha.grad.any()
    assert not dice.steps


def test_hand_written_gradients_of_dice_equal_numerical_ones():
    dice, x = Dice(4).double(), torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    dice.alpha.data.uniform_()
    assert torch.autograd.gradcheck(lambda x, alpha: dice(x), (x, dice.alpha))


@pytest.mark.parametrize(("name", "kind"), [
    ("dice", Dice), ("prelu", nn.PReLU), ("relu", nn.ReLU), ("sigmoid", nn.Sigmoid),
])  # fmt: skip
def test_an_activation_is_found_by_its_configured_name(name, kind):
    assert type(activation(name, 3)) is kind


def test_an_mlp_ends_in_one_output_per_row():
    mlp = MLP(4, (8, 3), "relu")
    assert [m.out_features for m in mlp if isinstance(m, nn.Linear)] == [8, 3, 1]
    assert mlp(torch.randn(5, 4)).shape == (5, 1)
