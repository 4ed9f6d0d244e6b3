"""Random small configurations that hold features, histories and sections of all kinds."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa

Sections = dict[str, dict[str, Any]]

TEXTS: tuple[tuple[Any, ...], ...] = (("a", "b", "é 😀"), (None, "", " ", "x" * 5000, "a\x00b"))
WHOLES = ((0, 1, 2), (None, -1, 2**63 - 1, -(2**63)))
NUMBERS = ((0.5, 1.0, 20.0), (None, float("nan"), float("inf"), -float("inf"), -0.0, 1e300, -1e30))
VECTORS = (
    ([0.5, 1.0], [-1.0, 2.0]),
    (None, [0.0, 0.0], [0.0, 0.0], [1e38, -1e38]),
)


def lists_of(values: tuple[tuple[Any, ...], ...]) -> tuple[tuple[Any, ...], ...]:
    """Clean and odd lists of clean and odd values."""
    clean, odd = values
    return (
        ([clean[0]], [clean[1], clean[0]], list(clean) * 2),
        (None, [], [None], [None, None], [odd[-1]], [clean[0], None]),
    )


@dataclass(frozen=True)
class Kind:
    """A kind of feature: what its column may say, its clean and odd values, and their type."""

    words: tuple[Mapping[str, Any], ...]
    values: tuple[tuple[Any, ...], ...]
    type: pa.DataType
    default: Any = None


LENGTHS = tuple({"max_length": n} for n in (1, 2, 4))
KINDS = {
    "text": Kind(({}, {"dimension": 2}, {"dimension": 0}), TEXTS, pa.string(), "a"),
    "whole": Kind(({}, {"dimension": 0}), WHOLES, pa.int64(), 1),
    "texts": Kind(LENGTHS, lists_of(TEXTS), pa.list_(pa.string()), "b"),
    "wholes": Kind(LENGTHS, lists_of(WHOLES), pa.list_(pa.int64()), 2),
    "value": Kind(({}, {"scale": "standard"}, {"scale": "log"}), NUMBERS, pa.float64(), 0.5),
    "bucket": Kind(
        ({"boundaries": [1.0]}, {"boundaries": [-1.0, 0.0, 1e9]}, {"quantiles": 3}),
        NUMBERS, pa.float64(), 1.0,
    ),
    "vector": Kind(({"dimension": 2},), VECTORS, pa.list_(pa.float32())),
}  # fmt: skip
TYPES = {"text": "string", "texts": "string", "whole": "int64", "wholes": "int64"} | {
    "value": "number", "bucket": "number", "vector": "vector",
}  # fmt: skip


class Draw(Random):
    """Draws of one night."""

    def one_in(self, count: int) -> bool:
        """Return true once in ``count`` draws."""
        return self.randrange(count) == 0


def odd_columns(draw: Draw) -> Sections:
    """Return user, item and up to four more features; ``kind`` is no key of the configuration."""
    columns: Sections = {}
    for name in ("user", "item"):
        kind = draw.choice(("text", "whole"))
        columns[name] = {"side": name, "kind": kind, "type": TYPES[kind]}
        if draw.one_in(12):
            columns[name]["dimension"] = 0
    for number in range(draw.randrange(5)):
        kind = draw.choice([*KINDS])
        side = draw.choice(("user", "item", "item", "context"))
        if kind == "vector" and side == "context":
            side = "item"
        column = {"side": side, "kind": kind, "type": TYPES[kind], **draw.choice(KINDS[kind].words)}
        if side == "context":
            column["serving_default"] = KINDS[kind].default
        columns[f"f{number}"] = column
    share_vocabularies(draw, columns)
    return columns


def share_vocabularies(draw: Draw, columns: Sections) -> None:
    """Let some features share the vocabulary of another of their type and dimension."""
    for name, column in columns.items():
        alike = [
            other for other, c in columns.items()
            if other != name and c["type"] == column["type"] and "vocabulary" not in c
            and c.get("dimension") == column.get("dimension")
        ]  # fmt: skip
        if column["type"] in ("string", "int64") and alike and draw.one_in(4):
            column["vocabulary"] = draw.choice(alike)


def odd_kinds(draw: Draw, columns: Sections) -> Sections:
    """Return one or two kinds of history, which mirror some of the item's features."""
    mirrored = [
        name for name, c in columns.items()
        if c["side"] == "item" and "max_length" not in c and c.get("dimension") != 0
        and c["kind"] in ("text", "whole", "bucket")
    ]  # fmt: skip
    if not mirrored:
        columns["item"].pop("dimension")
        mirrored = ["item"]
    kinds = {}
    for kind in ("clicks", "carts")[: draw.choice((1, 1, 2))]:
        names = draw.sample(mirrored, draw.randint(0, len(mirrored)))
        fields = {draw.choice((name, f"own_{name}")): name for name in names or mirrored[:1]}
        kinds[kind] = {"fields": fields, "age": draw.one_in(3), "lag": draw.choice(("0s", "6h"))}
    return kinds


def odd_features(draw: Draw, columns: Sections, kinds: Sections) -> dict[str, Any]:
    declared = {
        name: {word: value for word, value in column.items() if word != "kind"}
        for name, column in columns.items()
    }
    features: dict[str, Any] = {
        "user": "user", "item": "item", "columns": declared, "dimension": draw.choice((1, 4)),
        "label": "clicked", "time": "at", "weight": draw.choice((None, "w")),
        "reference": draw.choice((None, "r")), "key": draw.choice(([], ["id"], ["id", "user"])),
    }  # fmt: skip
    if draw.one_in(3):
        features["counters"] = {}
    elif draw.one_in(2):
        single = [
            n for n, c in columns.items()
            if "max_length" not in c and c["kind"] not in ("value", "vector")
        ]  # fmt: skip
        keys = draw.sample(single, draw.randint(1, min(2, len(single))))
        windows = draw.choice((["1d"], ["all"], ["2d", "all"]))
        features["counters"] = {"mine": {"keys": keys, "windows": windows}}
        kind = draw.choice([*kinds])
        mirrored = draw.choice([*kinds[kind]["fields"].values()])
        features["counters"]["more"] = {"keys": ["user", mirrored], "events": kind}
    return features


def odd_sections(draw: Draw, columns: Sections, kinds: Sections) -> dict[str, Any]:
    by = draw.choice(("date", "date", "date", "date", "last_position", "last_impression"))
    build = {"shards": 1, "max_broken": 1.0, "sample_rate": draw.choice((1.0, 1.0, 1.0, 0.5))}
    build["quality"] = {"change": {}}
    if draw.one_in(8):
        build["negatives"] = {
            "per_positive": draw.choice((1, 2)), "by": draw.choice(("uniform", "popularity")),
            "base_rate": draw.choice((None, 0.01)),
        }  # fmt: skip
    guards = dict.fromkeys(
        ("min_coverage", "max_drift", "max_calibration", "max_unknown_users", "max_unknown_items",
         "max_without_history")
    )  # fmt: skip
    score = {"guards": guards, "explain": draw.choice((0, 0, 2)), "top": draw.choice((None, 1))}
    if draw.one_in(4):
        score["delta"] = "{root}/delta"
    rules = {"popular": draw.choice((0, 2)), "new": 2, "exclude_seen": draw.one_in(3)}
    if draw.one_in(2):
        mirrored = [f for kind in kinds.values() for f in kind["fields"].values() if f != "item"]
        rules |= {"of_categories": 2, "by": draw.choice(mirrored)} if mirrored else {}
    return {
        "store": {"path": "{root}/store"}, "split": {"by": by, "skip_first": draw.choice((0, 1))},
        "build": build, "score": score, "train": odd_training(draw, columns),
        "candidates": rules,
        "nightly": {"beat_popularity": False, "min_gain": -1.0, "min_users": 1, "resamples": 20,
                    "refit_on_eval_date": draw.one_in(4),
                    "metric": "gauc" if draw.one_in(8) else "log_loss"},
    }  # fmt: skip


def odd_training(draw: Draw, columns: Sections) -> dict[str, Any]:
    model = {
        "encoder": draw.choice(("din", "din", "mean", "personas")), "attention": [4], "tower": [4],
        "activation": draw.choice(("dice", "prelu")), "softmax": draw.choice((True, False)),
        "item_bias": not draw.one_in(4), "wide": draw.choice((0, 0, 16)),
    }  # fmt: skip
    item_texts = [n for n, c in columns.items() if c["side"] == "item" and c["kind"] == "text"]
    return {
        "model": model, "window": 1, "epochs": 1, "min_steps": draw.choice((0, 3)),
        "batch_size": draw.choice((4, 64)), "min_count": draw.choice((0, 5)),
        "patience": draw.choice((0, 2)), "regularisation": draw.choice((0.0, 0.01)),
        "embedding_optimizer": draw.choice(("adam", "adagrad", "sgd")),
        "baselines": draw.choice(([], ["mean"])),
        "new_item_init_from": draw.choice(item_texts) if item_texts and draw.one_in(4) else None,
    }  # fmt: skip
