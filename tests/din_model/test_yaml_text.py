"""Scalars stay text, and no key is written twice."""

import pytest
import yaml

from din_model.yaml_text import parse


def test_scalars_are_text_and_only_null_is_none():
    words = ["0000010", "1_000", "0x1F", "1:30", "yes", "no", "1e3", "2026-11-02", "true", ".nan"]
    assert parse(f"[{', '.join(words)}]") == words
    assert parse("{a: null, b: ~, c: , d: 'null'}") == {
        "a": None,
        "b": None,
        "c": None,
        "d": "null",
    }


def test_keys_are_text():
    assert parse("{no: 1, null: 2, 007: 3}") == {"no": "1", "null": "2", "007": "3"}


def test_anchors_and_merge_keys_work():
    assert parse("a: &x {b: c}\nd: {<<: *x, e: f}")["d"] == {"b": "c", "e": "f"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("train: {epochs: 3}\ntrain: {window: 3}", "the key 'train' stands twice"),
        ("a:\n  b: 1\n  'b': 2", "the key 'b' stands twice"),
        ("? [a, b]\n: c", "a key is not text"),
        ("[u1", "expected"),
        ("a: !!int x", "could not determine a constructor for the tag 'tag:yaml.org,2002:int'"),
        ("a: !!timestamp x", "could not determine a constructor for the tag"),
        ("a: !!set {b}", "could not determine a constructor for the tag"),
    ],
)
def test_invalid_yaml_is_refused_with_its_position(text, problem):
    with pytest.raises(yaml.YAMLError, match=problem) as caught:
        parse(text)
    assert "line " in str(caught.value)


LAUGHS = "\n".join(f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &a {b: *a}", "more than 50 levels"),
        ("a: " + "[" * 51 + "]" * 51, "more than 50 levels"),
        ("a: " + "[" * 5000, "more than 50 levels"),
        (f"- &a0 [x, y]\n{LAUGHS}", "more than 1,000,000 values"),
    ],
    ids=("an alias in itself", "51 levels", "5000 levels", "aliases of aliases"),
)
def test_levels_and_values_without_end_are_refused(text, problem):
    with pytest.raises(yaml.YAMLError, match=problem):
        parse(text)
