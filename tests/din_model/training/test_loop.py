"""Training learns what there is to learn, moves what it touched, and depends on its seed alone."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from din_model.data.loader import File, Loader
from din_model.evaluation.evaluate import evaluate, predict_batches
from din_model.evaluation.metrics import auc
from din_model.training.config import TrainConfig
from din_model.training.loop import finish, fit
from din_model.training.trainer import Trainer
from tests.din_model.conftest import LENGTH, ones, small_spec, some_columns, some_model

ROWS = 2000


def planted(rows, seed, strength):
    """Clicks where the candidate is among the past, as often as ``strength`` says."""
    columns = some_columns(rows, seed)
    rng = np.random.default_rng([seed, 1])
    columns["clicks__length"] = np.full(rows, LENGTH)
    columns["clicks__item"] = rng.integers(2, 30, (rows, LENGTH))
    again = rng.random(rows) < 0.5
    columns["item"] = np.where(again, columns["clicks__item"][:, 2], rng.integers(2, 30, rows))
    hit = (columns["clicks__item"] == columns["item"][:, None]).any(1)
    chance = 0.5 + strength * np.where(hit, 0.4, -0.4)
    columns["label"] = (rng.random(rows) < chance).astype(np.float32)
    return columns


def reader_of(folder, columns, **options):
    arrays = {n: pa.array(v.tolist() if v.ndim > 1 else v) for n, v in columns.items()}
    path = folder / f"{len(list(folder.iterdir()))}.parquet"
    pq.write_table(pa.table(arrays), path)
    return Loader([File(f"file://{path}", len(columns["label"]))], small_spec(), 64, **options)


def trained(folder, strength, **changes):
    config = TrainConfig(epochs=6, learning_rate=0.01, **changes)
    model = some_model()
    losses = []
    fit(
        Trainer(model, config, ones(model)),
        reader_of(folder, planted(ROWS, 1, strength), seed=config.seed),
        config,
        lambda values, step: losses.append(values["loss"]),
    )
    later = planted(ROWS, 2, strength)
    reader = reader_of(folder, later, extra=["user"])
    found = [(c["label"], c["user"], s) for c, s in predict_batches(model, reader)]
    label, user, score = (np.concatenate(parts) for parts in zip(*found, strict=True))
    assert label.tolist() == later["label"].tolist(), "rows come back in order"
    assert user.tolist() == later["user"].tolist()
    return model, losses, auc(label, score)


def test_din_learns_a_planted_interest_and_nothing_from_noise(tmp_path):
    _, losses, signal = trained(tmp_path, strength=1.0)
    assert signal > 0.8
    assert losses[-1] < 0.5 < losses[0]
    _, _, noise = trained(tmp_path, strength=0.0)
    assert abs(noise - 0.5) < 0.05


def test_equal_seeds_give_equal_weights(tmp_path):
    first, second = (trained(tmp_path, 1.0)[0].state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    other = trained(tmp_path, 1.0, seed=7)[0].state_dict()
    assert not torch.equal(first["tables.item__weight"], other["tables.item__weight"])


def test_bfloat16_training_learns_as_well_and_stores_float32(tmp_path):
    (plain, _, before), (low, _, after) = (
        trained(tmp_path, 1.0, bfloat16=bfloat16) for bfloat16 in (False, True)
    )
    assert abs(after - before) < 0.02
    pairs = list(zip(plain.state_dict().values(), low.state_dict().values(), strict=True))
    assert all(a.dtype == b.dtype for a, b in pairs)
    assert not all(torch.equal(*p) for p in pairs)


def test_a_loss_that_is_no_number_stops_the_training(tmp_path):
    model = some_model()
    with torch.no_grad():
        model.tables.weight("item").fill_(torch.nan)
    config = TrainConfig()
    with pytest.raises(FloatingPointError, match="loss is nan at step 1: lower learning_rate"):
        fit(
            Trainer(model, config, ones(model)),
            reader_of(tmp_path, planted(100, 1, 1.0), seed=1),
            config,
            lambda values, step: None,
        )


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_training_stops_when_validation_loss_stops_falling_and_keeps_the_best(tmp_path, schedule):
    config = TrainConfig(
        epochs=40, learning_rate=0.02, patience=2, schedule=schedule, checks_per_epoch=1,
        min_steps=0,
    )  # fmt: skip
    model, logged = some_model(), []
    noise = reader_of(tmp_path, planted(200, 1, 0.0), seed=1)
    later = reader_of(tmp_path, planted(200, 2, 0.0))
    trainer = Trainer(model, config, ones(model))
    epochs = fit(trainer, noise, config, lambda values, step: logged.append(values), later).epoch
    found = [values["later_loss"] for values in logged if "later_loss" in values]
    assert epochs == len(found) == found.index(min(found)) + 1 + config.patience < 40
    assert evaluate(model, later)["log_loss"] == pytest.approx(min(found), abs=1e-6)
    steps = [values for values in logged if "loss" in values]
    assert all({"loss", "learning_rate", "rows_per_s", "waiting"} == set(each) for each in steps)
    rates = {values["learning_rate"] for values in steps}
    assert (min(rates) < max(rates) == 0.02) == (schedule == "plateau")


def test_training_does_not_stop_before_min_steps_and_keeps_the_best(tmp_path):
    config = TrainConfig(learning_rate=0.02, patience=2, checks_per_epoch=1, min_steps=60)
    model, losses = some_model(), []
    noise = reader_of(tmp_path, planted(200, 1, 0.0), seed=1)
    later = reader_of(tmp_path, planted(200, 2, 0.0))
    log = lambda values, step: losses.append(values.get("later_loss"))  # noqa: E731
    state = fit(Trainer(model, config, ones(model)), noise, config, log, later)
    assert state.best_step + config.patience * noise.steps < state.steps == 60
    assert evaluate(model, later)["log_loss"] == pytest.approx(min(filter(None, losses)), abs=1e-6)


def test_the_cosine_schedule_falls_to_zero(tmp_path):
    config, rates = TrainConfig(epochs=4, schedule="cosine"), []
    reader = reader_of(tmp_path, planted(640, 1, 1.0), seed=1)
    trainer = Trainer(some_model(), config, ones(some_model()))
    fit(trainer, reader, config, lambda values, step: rates.append(values["learning_rate"]))
    steps = np.arange(40)
    expected = config.learning_rate * (1 + np.cos(np.pi * steps / 40)) / 2
    assert rates == pytest.approx(expected.tolist())


def test_a_small_log_is_read_until_min_steps_are_taken(tmp_path):
    config = TrainConfig(epochs=1, min_steps=35, patience=100, learning_rate=1e-4)
    reader = reader_of(tmp_path, planted(160, 1, 1.0), seed=1)
    epochs = -(-35 // reader.steps)
    later = reader_of(tmp_path, planted(100, 2, 1.0))
    trainer = Trainer(some_model(), config, ones(some_model()))
    assert fit(trainer, reader, config, lambda *_: None, later).epoch == epochs
    assert fit(trainer, reader, config, lambda *_: None).epoch == 1, "nothing to stop by"


def test_the_cosine_schedule_spans_the_epochs_of_a_small_log(tmp_path):
    config = TrainConfig(
        epochs=1, min_steps=40, patience=100, schedule="cosine", checks_per_epoch=1
    )
    reader, rates = reader_of(tmp_path, planted(640, 1, 1.0), seed=1), []
    later = reader_of(tmp_path, planted(100, 2, 1.0))
    trainer = Trainer(some_model(), config, ones(some_model()))
    log = lambda values, step: rates.append(values.get("learning_rate"))  # noqa: E731
    fit(trainer, reader, config, log, later)
    expected = config.learning_rate * (1 + np.cos(np.pi * np.arange(40) / 40)) / 2
    assert [rate for rate in rates if rate] == pytest.approx(expected.tolist())


def test_finish_takes_the_exact_number_of_steps_over_several_epochs(tmp_path):
    reader = reader_of(tmp_path, planted(48, 1, 1.0), seed=1)
    model = some_model()
    trainer = Trainer(model, TrainConfig(), ones(model))
    finish(trainer, reader, 7)
    assert {int(s["step"]) for s in trainer.dense.state.values()} == {7}
