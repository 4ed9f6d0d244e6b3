"""The UDF's own function against the model called row by row, on streams made by hand."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from din_model.data.batch import from_columns
from din_model.features import AGE, UNKNOWN, Feature, FeatureSpec, History
from din_model.modules.din import DIN, ModelConfig, new_model
from din_model.registry.artifact import ModelMetadata
from pipelines.examples.point_in_time_join import _age_bucket
from pipelines.scoring.udf import (
    GROUP,
    IS_STATE,
    ITEM,
    ROWS_AT_ONCE,
    USER,
    Task,
    score_batches,
    split_between_groups,
)

LENGTH, CUTOFF, LAG, ITEMS = 5, 10**12, 3_000_000, 40
SHARED = -77
"""A group that two unknown users have by the same hash."""

SPEC = FeatureSpec(
    user="user", item="item", time="time", time_zone="UTC", cutoff="day", label="label",
    features=(
        Feature("user", "user", "string", "user", 4),
        Feature("item", "item", "int64", "item", 8),
        Feature("tags", "item", "string", "tags", 3, max_length=2),
    ),
    histories=(
        History("clicks", LENGTH, LAG, {"item": "item"}, age=True),
        History("carts", 3, 0, {"item": "item"}),
    ),
)  # fmt: skip
FACTS = ModelMetadata("2026-01-01", "x", logit_shift=-0.5)
Rows = list[dict[str, object]]


def model(encoder: str = "din") -> DIN:
    id_to_row = {
        n: torch.arange(k, dtype=torch.int32)
        for n, k in (("user", 9), ("item", ITEMS), ("tags", 9))
    }
    config = ModelConfig(encoder, attention=(8, 4), tower=(10,), wide=50)  # type: ignore[arg-type]
    made = new_model(SPEC, config, id_to_row, seed=3)
    with torch.no_grad():
        for name in made.tables.sizes:
            made.tables.weight(name).normal_(generator=torch.Generator().manual_seed(1))
        for module in made.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight.normal_(generator=torch.Generator().manual_seed(2))
    return made.eval().requires_grad_(False)


def drawn(seed: int, users: int = 8, most: int = 40) -> tuple[Rows, Rows]:
    """Rows of a state, some with more than is seen, and candidates of known and unknown users."""
    rng = np.random.default_rng(seed)
    state, candidates = [], []
    for n in range(users + 4):
        known = n < users
        group = n + 2 if known else SHARED - max(0, n - users - 1)
        if known and n % 3:
            row: dict[str, object] = {GROUP: group}
            for history in SPEC.histories:
                times = np.sort(CUTOFF - rng.integers(-5, 60, rng.integers(0, 9)) * 10**6)
                row[history.column("time")] = times.tolist()
                row[history.column("item")] = rng.integers(2, ITEMS, len(times)).tolist()
            state.append(row)
        for item in rng.choice(np.arange(1, ITEMS + 5), rng.integers(0, most), replace=False):
            tags = rng.integers(2, 9, rng.integers(0, 3)).tolist()
            candidates.append({
                GROUP: group, USER: f"u{n}", ITEM: f"i{item}", "user": n + 2 if known else UNKNOWN,
                "item": int(item), "tags": tags + [0] * (2 - len(tags)), "tags__length": len(tags),
            })  # fmt: skip
    return state, candidates


def stream(state: Rows, candidates: Rows, cuts: list[int]) -> list[pa.RecordBatch]:
    rows = [s | {IS_STATE: True} for s in state] + [c | {IS_STATE: False} for c in candidates]
    rows.sort(key=lambda row: (row[GROUP], not row[IS_STATE]))
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: [row.get(name) for row in rows] for name in names}, schema_of(names))
    batches, start = [], 0
    for size in [*cuts, len(rows)]:
        batches += table.slice(start, size).combine_chunks().to_batches()
        start += size
    return batches


def schema_of(names: dict[str, None]) -> pa.Schema:
    def kind(name: str) -> pa.DataType:
        if name == GROUP:
            return pa.int64()
        if name == IS_STATE:
            return pa.bool_()
        if name in (USER, ITEM):
            return pa.string()
        if name.endswith("__time"):
            return pa.list_(pa.int64())
        lists = name == "tags" or name in [h.column("item") for h in SPEC.histories]
        return pa.list_(pa.int32()) if lists else pa.int32()

    state = [h.column(n) for h in SPEC.histories for n in ("time", "item")]
    own = [USER, ITEM, "user", "item", "tags", "tags__length"]
    return pa.schema([(n, kind(n)) for n in dict.fromkeys([*names, *state, *own])])


def directly(state: Rows, candidates: Rows, din: DIN) -> tuple[np.ndarray, list[list[tuple]]]:
    """Scores of the candidates, and the (kind, item, weight) of each one's behaviours."""
    columns: dict[str, list] = {n: [] for n in ("user", "item", "tags", "tags__length")}
    seen: list[dict[str, list]] = []
    by_group = {row[GROUP]: row for row in state}
    for candidate in candidates:
        for name in columns:
            columns[name].append(candidate[name])
        mine = {}
        for h in SPEC.histories:
            row = by_group.get(candidate[GROUP], {})
            past = zip(row.get(h.column("time"), []), row.get(h.column("item"), []), strict=True)
            mine[h.kind] = [(t, i) for t, i in past if t + h.lag < CUTOFF][-h.length :]
        seen.append(mine)
    arrays = {name: np.array(values) for name, values in columns.items()}
    for h in SPEC.histories:
        padded = [[i for _, i in s[h.kind]] + [0] * (h.length - len(s[h.kind])) for s in seen]
        arrays[h.column("item")] = np.array(padded).reshape(-1, h.length)
        arrays[h.column("length")] = np.array([len(s[h.kind]) for s in seen], int)
        ages = [
            _age_bucket(CUTOFF - np.array([t for t, _ in s[h.kind]], int)).tolist() for s in seen
        ]
        padded = [a + [0] * (h.length - len(a)) for a in ages]
        arrays[h.column(AGE)] = np.array(padded).reshape(-1, h.length)
    with torch.inference_mode():
        logits, weights = din.explain(from_columns(arrays, SPEC))
    told: list[list[tuple]] = [[] for _ in seen]
    for h in SPEC.histories:
        flat = iter(weights[h.kind].tolist())
        for row, mine in zip(told, seen, strict=True):
            row += [(h.kind, i, next(flat)) for _, i in mine[h.kind]]
    return torch.sigmoid(logits.double() - 0.5).numpy(), told


def scored(batches: list[pa.RecordBatch], din: DIN, **task: int) -> Rows:
    out = [*score_batches(batches, din, FACTS, Task(CUTOFF, **task))]
    return [row for batch in out for row in batch.to_pylist()]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 30), max_size=12))
def test_scores_ranks_and_lengths_do_not_depend_on_the_batches_of_the_stream(seed, cuts):
    state, candidates = drawn(seed)
    din = model()
    rows = scored(stream(state, candidates, cuts), din)
    direct, told = directly(state, candidates, din) if candidates else (np.empty(0), [])
    want = {
        (c[USER], c[ITEM]): (s, len(t), c["user"] == UNKNOWN, c["item"] == UNKNOWN)
        for c, s, t in zip(candidates, direct, told, strict=True)
    }
    got = {(r[USER], r[ITEM]): r for r in rows}
    assert len(got) == len(rows) == len(want)
    assert got.keys() == want.keys()
    for key, (score, length, unknown_user, unknown_item) in want.items():
        row = got[key]
        assert abs(row["score"] - score) < 1e-6
        assert (row["history_length"], row["unknown_user"], row["unknown_item"]) == (
            length, unknown_user, unknown_item,
        )  # fmt: skip
    for user in {key[0] for key in want}:
        mine = [r for r in rows if r[USER] == user]
        best_first = sorted(mine, key=lambda r: (-r["score"], r[ITEM]))
        assert [r["rank"] for r in best_first] == [*range(1, len(mine) + 1)]


@pytest.mark.parametrize(
    ("encoder", "rows"), [("din", 100_000), ("mean", 5_000), ("personas", 5_000)]
)
def test_one_user_with_many_candidates_and_every_encoder(encoder, rows):
    state, _ = drawn(5)
    candidates = [
        {
            GROUP: state[0][GROUP], USER: "u", ITEM: f"{n:05d}", "user": 2, "item": n % (ITEMS + 3),
            "tags": [2, 3], "tags__length": n % 3,
        }
        for n in range(rows)
    ]  # fmt: skip
    din = model(encoder)
    found = scored(stream(state, candidates, [7_777] * (rows // 8_000)), din)
    direct, _ = directly(state, candidates, din)
    got = {r[ITEM]: r["score"] for r in found}
    assert max(abs(got[c[ITEM]] - s) for c, s in zip(candidates, direct, strict=True)) < 1e-6
    assert [r["rank"] for r in found] == [*range(1, rows + 1)]


def test_users_of_several_forward_passes_keep_their_own_histories():
    state, candidates = drawn(7, users=120)
    assert len(candidates) > ROWS_AT_ONCE
    direct, _ = directly(state, candidates, model())
    got = {(r[USER], r[ITEM]): r["score"] for r in scored(stream(state, candidates, []), model())}
    for candidate, score in zip(candidates, direct, strict=True):
        assert abs(got[candidate[USER], candidate[ITEM]] - score) < 1e-6


def test_explanations_are_the_behaviours_of_largest_weight_in_order():
    state, candidates = drawn(11)
    din = model()
    rows = {
        (r[USER], r[ITEM]): r for r in scored(stream(state, candidates, [13, 40]), din, explain=3)
    }
    plain = {(r[USER], r[ITEM]): r for r in scored(stream(state, candidates, []), din)}
    _, told = directly(state, candidates, din)
    some = 0
    for candidate, behaviours in zip(candidates, told, strict=True):
        row = rows[candidate[USER], candidate[ITEM]]
        assert abs(row["score"] - plain[candidate[USER], candidate[ITEM]]["score"]) < 1e-6
        weights = [b["weight"] for b in row["explanations"]]
        best = sorted((w for *_, w in behaviours), reverse=True)[:3]
        assert np.allclose(weights, best, atol=1e-6)
        for reason in row["explanations"]:
            assert any(
                (k, i) == (reason["kind"], reason["item"]) and abs(w - reason["weight"]) < 1e-6
                for k, i, w in behaviours
            )
        some += len(weights)
    assert some > 20


def test_top_keeps_each_users_best():
    state, candidates = drawn(3)
    every = scored(stream(state, candidates, [9]), model())
    best = scored(stream(state, candidates, [9]), model(), top=4)
    assert best == [row for row in every if row["rank"] <= 4]
    assert any(row["rank"] > 4 for row in every)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60), st.lists(st.integers(1, 9), max_size=9)
)
def test_groups_are_not_split_over_tables_and_no_row_is_lost(groups, cuts):
    groups = sorted(groups)
    table = pa.table({GROUP: pa.array(groups, pa.int64()), "n": range(len(groups))})
    batches, start = [], 0
    for size in [*cuts, len(groups)]:
        batches += table.slice(start, size).to_batches() or table.slice(0, 0).to_batches()
        start += size
    tables = [*split_between_groups(batches)]
    assert [n for t in tables for n in t.column("n").to_pylist()] == [*range(len(groups))]
    ids = [g for t in tables for g in set(t.column(GROUP).to_pylist())]
    assert len(ids) == len(set(ids))
