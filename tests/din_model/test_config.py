import pytest

from din_model.config import expand, load, microseconds
from din_model.errors import InputError
from din_model.training.config import TrainConfig
from jobs.cli import Settings
from tests.nights import DEMO


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


def test_text_values_are_not_converted():
    users = ["0000010", "1_000", "0x1F", "1:30", "yes"]
    words = [f"erase.users=[{', '.join(users)}]", "score.model=@champion", "date=2026-11-02"]
    settings = load(Settings, [str(DEMO)], words)
    assert settings.erase.users == tuple(users)
    assert (settings.score.model, str(settings.date)) == ("@champion", "2026-11-02")


def test_a_folder_or_binary_file_is_reported_in_one_line(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "bytes.yaml"):
        with pytest.raises(InputError, match=f"^{path}: not a file that can be read"):
            load(TrainConfig, [str(path)])


@pytest.mark.parametrize(("word", "message"), [
    ("features.columns.user_id.dimenson=3", "unknown key 'features.columns.user_id.dimenson'; did"),
    ("sources.behaviours=[{kindd: x}]", r"unknown key 'sources.behaviours.0.kindd'; did you mean"),
    ("score.postgres.tabel=x", r"unknown key 'score.postgres.tabel'; did you mean 'table'"),
    ("erase.users=[u1", "'erase.users=.u1': not valid YAML"),
])  # fmt: skip
def test_a_wrong_override_of_any_section_is_one_line(word, message):
    with pytest.raises(InputError, match=message) as caught:
        load(Settings, [str(DEMO)], [word])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("word", "message"), [
    ("model.encodr=din", r"unknown key 'model.encodr'; did you mean 'encoder'\?"),
    ("epochs=many", r"'epochs': .*got 'many'"),
    ("epochs", "write an override as key.sub=value"),
])  # fmt: skip
def test_a_wrong_override_is_one_line(word, message):
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
