import numpy as np
import torch

from din_model.embeddings import assign_rows
from din_model.optim import RowAdam
from din_model.train import TrainConfig, Trainer
from tests.din_model.conftest import some_batch, some_model


def counts(model, value=1.0):
    return {t: torch.full((len(model.tables.weight(t)),), value) for t in ("user", "item", "tags")}


def test_rare_ids_share_the_unknown_row_and_old_rows_never_move():
    first = assign_rows(np.array([0, 0, 5, 1, 9]), min_count=2)
    assert first.tolist() == [0, 1, 2, 1, 3]
    assert assign_rows(np.array([0, 0, 0, 7, 0, 3]), 2, first).tolist() == [0, 1, 2, 4, 3, 5]


def test_ids_above_2_to_the_24_stay_distinct():
    row_of = assign_rows(np.ones(2**24 + 4, np.int64), 1)
    assert row_of[2**24 : 2**24 + 3].tolist() == [2**24, 2**24 + 1, 2**24 + 2]


def test_only_the_rows_of_the_batch_change():
    model = some_model()
    trainer, batch = Trainer(model, TrainConfig(), counts(model)), some_batch(8)
    before = model.tables.weight("item").clone()
    trainer.step(batch, 8)
    held = torch.cat([batch.features["item"], batch.histories["clicks"].fields["item"]]).unique()
    changed = (model.tables.weight("item") != before).any(1).nonzero().squeeze(1)
    assert set(changed.tolist()) <= set(held.tolist()) and len(changed) > 3


def test_row_adam_is_adam_where_every_row_is_touched():
    model = some_model(item_bias=False)
    tables = model.tables
    reference = torch.nn.Parameter(tables.weight("item").clone())
    rows, adam = RowAdam(tables, 0.01, counts(model)), torch.optim.Adam([reference], lr=0.01)
    for step in range(3):
        gradient = torch.randn(len(reference), 8, generator=torch.Generator().manual_seed(step))
        tables.train()
        (found,) = tables([("item", torch.arange(len(reference)))])
        (found * gradient).sum().backward()
        reference.grad = gradient
        rows.step()
        adam.step()
    torch.testing.assert_close(tables.weight("item"), reference.detach(), atol=1e-6, rtol=1e-5)


def test_the_regulariser_adds_lambda_w_over_n_to_the_gradient_of_touched_rows():
    model = some_model(item_bias=False)
    rows = RowAdam(model.tables, 0.0, counts(model, 4.0), regularisation=0.5)
    weight = model.tables.weight("item").clone()
    (found,) = model.tables.train()([("item", torch.tensor([3, 5, 3]))])
    (0 * found).sum().backward()
    rows.step()
    first = rows.state["item"][0]
    torch.testing.assert_close(first[[3, 5]], 0.1 * 0.5 * weight[[3, 5]] / 4)
    assert (first[[2, 4]] == 0).all()


def test_one_batch_can_be_overfitted():
    model, batch = some_model(), some_batch(32)
    trainer = Trainer(model, TrainConfig(learning_rate=0.01), counts(model))
    losses = [float(trainer.step(batch, 32)) for _ in range(200)]
    assert losses[-1] < 0.05 < losses[0]
