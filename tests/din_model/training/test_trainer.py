"""One training step: the loss, the learning rates, and the rows that move."""

import numpy as np
import pytest
import torch

from din_model.data.batch import from_columns
from din_model.training.config import TrainConfig
from din_model.training.trainer import Trainer
from tests.din_model.conftest import ones, small_spec, some_batch, some_columns, some_model


def test_a_weight_of_two_counts_like_two_rows():
    columns = some_columns(8)
    twice = {name: np.concatenate([v, v[:1]]) for name, v in columns.items()}
    weighted = columns | {"weight": np.array([2.0] + [1.0] * 7, np.float32)}
    found = []
    for each in (twice, weighted):
        model = some_model(activation="relu")  # Dice would see another batch
        Trainer(model, TrainConfig(), ones(model)).step(from_columns(each, small_spec()), 9)
        found.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)


def test_one_batch_can_be_overfitted():
    model, batch = some_model(), some_batch(32)
    trainer = Trainer(model, TrainConfig(learning_rate=0.01), ones(model))
    losses = [float(trainer.step(batch, 32)) for _ in range(200)]
    assert losses[-1] < 0.05 < losses[0]


@pytest.mark.parametrize(("tables", "expected"), [(None, 0.0005), (0.02, 0.01), (0.0, 0.0)])
def test_tables_and_dense_layers_step_at_their_own_rates(tables, expected):
    model, batch = some_model(), some_batch(32)
    config = TrainConfig(learning_rate=0.001, embedding_learning_rate=tables)
    trainer = Trainer(model, config, ones(model))
    table, weight = model.tables.weight("item"), model.tower[0].weight
    before = table.clone(), weight.detach().clone()
    trainer.set_rate(0.5)
    trainer.step(batch, 32)  # Adam's first step is the learning rate, whatever the gradient
    moved = (table - before[0]).square().mean(1).sqrt()  # a row has one second moment
    assert float(moved.max()) == pytest.approx(expected, rel=1e-3)
    assert float((weight - before[1]).detach().abs().max()) == pytest.approx(0.0005, rel=1e-3)


def test_a_step_moves_only_the_rows_of_its_batch():
    model = some_model()
    before = model.tables.weight("item").clone()
    batch = some_batch(6)
    Trainer(model, TrainConfig(), ones(model)).step(batch, batch.rows)
    held = torch.cat([batch.features["item"], batch.histories["clicks"].fields["item"]]).unique()
    moved = (model.tables.weight("item") != before).any(1).nonzero().squeeze(1)
    assert 0 < len(moved) <= len(held) < 30
    assert set(moved.tolist()) <= set(held.tolist())


def test_the_loss_is_the_weighted_log_loss_over_the_global_rows():
    columns = some_columns(6) | {"weight": np.array([1, 2, 3, 1, 1, 0], np.float32)}
    model, batch = some_model(activation="relu"), from_columns(columns, small_spec())
    probability = torch.sigmoid(model(batch)).detach().double().numpy()
    losses = np.where(columns["label"] == 1, -np.log(probability), -np.log(1 - probability))
    loss = Trainer(model, TrainConfig(), ones(model)).step(batch, global_rows=10)
    assert float(loss) == pytest.approx((losses * columns["weight"]).sum() / 10, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "anyprecision"])
def test_a_restored_trainer_takes_the_same_next_step(optimizer):
    config, batch = TrainConfig(dense_optimizer=optimizer), some_batch(16)
    first, second = (Trainer(m, config, ones(m)) for m in (some_model(), some_model()))
    first.step(batch, 16)
    first.step(some_batch(16, seed=1), 16)
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    second.restore(state)
    rows = {n: first.model.tables.weight(n) for n in ("user", "item", "tags")}
    assert all(torch.equal(second.model.tables.weight(n), w) for n, w in rows.items())
    for trainer in (first, second):
        trainer.step(batch, 16)
    after = first.state()
    assert all(torch.equal(tensor, after[name]) for name, tensor in second.state().items())
