"""A training is not repeated if nothing that affects the weights has changed."""

from dataclasses import replace

import pytest

from din_model.training.config import TrainConfig
from pipelines.training import challenger
from pipelines.training.challenger import _fingerprint
from pipelines.training.id_counts import IdCounts
from pipelines.training.training_set import TrainingSet
from tests.pipelines.examples.test_point_in_time_join import SPEC

DATA = TrainingSet(SPEC, (), None, None, None, {}, IdCounts((), (), {}, 0), 0.1, "content")


def test_only_what_affects_the_weights_changes_the_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = TrainConfig()
    first = _fingerprint(DATA, config, None)
    assert _fingerprint(DATA, replace(config, threads=3, baselines=("mean",)), None) == first
    others = [
        _fingerprint(replace(DATA, content="other"), config, None),
        _fingerprint(DATA, replace(config, seed=config.seed + 1), None),
        _fingerprint(DATA, config, 1),
    ]
    monkeypatch.setattr(challenger, "RELEASE", "0.0.0")
    others.append(_fingerprint(DATA, config, None))
    assert len({first, *others}) == 5
