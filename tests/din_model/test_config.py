import pytest

from din_model.config import expand, load, microseconds
from din_model.errors import InputError
from din_model.training.config import TrainConfig


def test_later_files_win_and_overrides_win_over_files(tmp_path):
    low, high = tmp_path / "low.yaml", tmp_path / "high.yaml"
    low.write_text("epochs: 2\nseed: 5\nmodel: {encoder: mean}\n")
    high.write_text("epochs: 3\n")
    found = load(TrainConfig, [str(low), str(high)], ["model.softmax=false"])
    assert (found.epochs, found.seed, found.model.encoder, found.model.softmax) == (
        3,
        5,
        "mean",
        False,
    )


@pytest.mark.parametrize(("word", "message"), [
    ("model.encodr=din", r"unknown key 'model.encodr'; did you mean 'encoder'\?"),
    ("epochs=many", r"'epochs': .*got 'many'"),
    ("epochs", "write an override as key.sub=value"),
])  # fmt: skip
def test_a_wrong_word_is_one_clear_line(word, message):
    with pytest.raises(InputError, match=message):
        load(TrainConfig, [], [word])


def test_a_missing_file_and_an_unset_variable_are_named():
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such configuration file"):
        load(TrainConfig, ["nowhere.yaml"])
    with pytest.raises(InputError, match="NOT_SET_ANYWHERE is not set"):
        expand("${NOT_SET_ANYWHERE}/logs")


def test_durations():
    assert [microseconds(d) for d in ("5us", "2ms", "1.5s", "1m", "2h", "1d")] == [
        5, 2_000, 1_500_000, 60_000_000, 7_200_000_000, 86_400_000_000,
    ]  # fmt: skip
