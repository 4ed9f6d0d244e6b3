"""The scoring UDF: a task's stream of histories and candidates in, scores out, as Arrow.

The stream is sorted by group, which is a user: the state row first, if there is one, then the
candidates. A history is therefore read, moved and embedded once per user. Memory is bounded: a task
holds one Arrow batch and the group at its end (scoring.scorer splits large groups).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from din_model.data.batch import Histories, with_histories
from din_model.features import UNKNOWN, FeatureSpec, History
from din_model.modules.din import DIN
from din_model.modules.segments import pairs_of
from din_model.registry.artifact import ModelMetadata
from pipelines.examples.point_in_time_join import Ranges

Batches = Iterable[pa.RecordBatch]

GROUP, IS_STATE = "_group", "_is_state"

ROWS_AT_ONCE = 2048
"""Candidates per forward pass."""

USER, ITEM = "user_key", "item_key"
"""Key columns of a candidate, beside the ids that the model reads."""


@dataclass(frozen=True)
class Task:
    """What is equal for all candidates of a date.

    Attributes:
        cutoff: microseconds; behaviours before it are visible.
        explain: number of behaviours with the largest weight to return per score.
        top: number of candidates per user to keep; None keeps all.
    """

    cutoff: int
    explain: int = 0
    top: int | None = None


def score_batches(
    batches: Batches, model: DIN, metadata: ModelMetadata, task: Task
) -> Iterator[pa.RecordBatch]:
    """Score a task's stream; each user's candidates come out best first, with their rank."""
    for table in split_between_groups(batches):
        is_state = table.column(IS_STATE)
        candidates, state = table.filter(pc.invert(is_state)), table.filter(is_state)
        if len(candidates):
            histories, history_of = _histories(state, candidates, model.spec, task.cutoff)
            parts = [
                _score_part(
                    model, metadata, candidates.slice(start, ROWS_AT_ONCE), histories,
                    history_of[start : start + ROWS_AT_ONCE], task,
                )
                for start in range(0, len(candidates), ROWS_AT_ONCE)
            ]  # fmt: skip
            yield from _ranked(pa.concat_tables(parts), task.top).to_batches()


def split_between_groups(batches: Batches) -> Iterator[pa.Table]:
    """Cut a sorted stream so that no group is in two tables."""
    pending: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows == 0:
            continue
        group = batch.column(GROUP)
        first, last = group[0], group[-1]
        cut = int(np.searchsorted(group.to_numpy(), last.as_py()))
        continues = bool(pending) and pending[-1].column(GROUP)[-1] == first
        if cut or (pending and not continues):
            yield pa.Table.from_batches([*pending, batch.slice(0, cut)])
            pending = []
        pending.append(batch.slice(cut))
    if pending:
        yield pa.Table.from_batches(pending)


def _histories(
    state: pa.Table, candidates: pa.Table, spec: FeatureSpec, cutoff: int
) -> tuple[list[Ranges], NDArray[Any]]:
    """Return the visible histories of the state rows, and the position of each candidate's."""
    state_groups = state.column(GROUP).to_numpy()
    candidate_groups = candidates.column(GROUP).to_numpy()
    position = np.searchsorted(state_groups, candidate_groups)
    has_state = np.r_[state_groups, -1][position] == candidate_groups
    ranges = [_visible(state, history, cutoff) for history in spec.histories]
    return ranges, np.where(has_state & (position < len(state_groups)), position, len(state_groups))


def _visible(state: pa.Table, history: History, cutoff: int) -> Ranges:
    """Return the newest visible behaviours of each row; the last range is the empty history."""
    columns, offsets = {}, np.zeros(1, np.int64)
    for name in ("time", *history.fields):
        lists = state.column(history.column(name)).combine_chunks()
        offsets = lists.offsets.to_numpy().astype(np.int64)
        columns[name] = lists.flatten().to_numpy()
    offsets = offsets - offsets[0]
    visible_before = np.r_[0, np.cumsum(columns["time"] + history.lag < cutoff)]
    # A state's lists are in order of time, so the visible ones come first.
    end = offsets[:-1] + visible_before[offsets[1:]] - visible_before[offsets[:-1]]
    start = np.maximum(end - history.length, offsets[:-1])
    return Ranges(columns, np.r_[start, 0], np.r_[end, 0])


@torch.inference_mode()
def _score_part(
    model: DIN, metadata: ModelMetadata, candidates: pa.Table, ranges: list[Ranges],
    history_of: NDArray[Any], task: Task,
) -> pa.Table:  # fmt: skip
    spec = model.spec
    names = [f.name for f in spec.features]
    names += [f"{f.name}__length" for f in spec.features if f.is_list]
    names = list(dict.fromkeys([*names, *spec.numeric_columns]))
    columns = {name: _array(candidates.column(name)) for name in names}
    distinct, local = np.unique(history_of, return_inverse=True)
    histories, of_row = {}, torch.from_numpy(local)
    for history, ranges_of_kind in zip(spec.histories, ranges, strict=True):
        used = ranges_of_kind._replace(
            start=ranges_of_kind.start[distinct], end=ranges_of_kind.end[distinct]
        )
        offsets, lists = used.lists(history.lists, np.full(len(distinct), task.cutoff))
        fields = {n: torch.from_numpy(v.astype(np.int64)) for n, v in lists.items()}
        histories[history.kind] = Histories(fields, torch.from_numpy(offsets.astype(np.int64)))
    logits, weights = model.explain(with_histories(columns, spec, histories, of_row))
    length = sum((r.end - r.start)[history_of] for r in ranges)
    scored = {
        GROUP: candidates.column(GROUP),
        USER: candidates.column(USER),
        ITEM: candidates.column(ITEM),
        "score": pa.array(metadata.probability(logits).numpy()),
        "history_length": pa.array(np.asarray(length, np.int32)),
        "unknown_user": pa.array(columns[spec.user] == UNKNOWN),
        "unknown_item": pa.array(columns[spec.item] == UNKNOWN),
    }
    if task.explain:
        scored["explanations"] = _explanations(spec, histories, of_row, weights, task.explain)
    return pa.table(scored)


def _ranked(scored: pa.Table, top: int | None) -> pa.Table:
    """Sort best first within each user, ties by item; add the rank from 1; drop the group."""
    # The group of an unknown user is a hash, which two users may share.
    user = scored.column(USER).combine_chunks().dictionary_encode().indices
    order = pc.sort_indices(
        scored.append_column("_user", user),
        [
            (GROUP, "ascending"),
            ("_user", "ascending"),
            ("score", "descending"),
            (ITEM, "ascending"),
        ],
    )
    user = user.take(order).to_numpy()
    first = np.r_[True, user[1:] != user[:-1]]
    rank = np.arange(len(user)) - np.flatnonzero(first)[np.cumsum(first) - 1] + 1
    ranked = scored.take(order).append_column("rank", pa.array(rank.astype(np.int32))).drop([GROUP])
    return ranked.filter(pa.array(rank <= top)) if top else ranked


def _explanations(
    spec: FeatureSpec, histories: dict[str, Histories], history_of: torch.Tensor,
    weights: dict[str, torch.Tensor], most: int,
) -> pa.Array:  # fmt: skip
    """Return the behaviours of largest weight of each row, largest first."""
    row, kind, item, weight = [], [], [], []
    for k, history in enumerate(spec.histories):
        pairs = pairs_of(histories[history.kind], history_of)
        name = next(n for n, f in history.fields.items() if f == spec.key_feature(history).name)
        row.append(pairs.row.numpy())
        kind.append(np.full(len(pairs.row), k))
        item.append(pairs.gather_behaviours(histories[history.kind].fields[name]).numpy())
        weight.append(weights[history.kind].numpy())
    rows, kinds, items, values = map(np.concatenate, (row, kind, item, weight))
    order = np.lexsort((items, -values, rows))
    bounds = np.arange(len(history_of) + 1)
    nth = np.arange(len(order)) - np.searchsorted(rows[order], bounds)[rows[order]]
    order = order[nth < most]
    offsets = np.searchsorted(rows[order], bounds).astype(np.int32)
    names = np.array([h.kind for h in spec.histories], dtype=object)
    reasons = {
        "kind": pa.array(names[kinds[order]], pa.string()),
        "item": pa.array(items[order].astype(np.int32)),
        "weight": pa.array(values[order].astype(np.float64)),
    }
    struct = pa.StructArray.from_arrays(list(reasons.values()), list(reasons))
    return pa.ListArray.from_arrays(pa.array(offsets), struct)


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    if pa.types.is_list(column.type):
        return column.combine_chunks().flatten().to_numpy().reshape(len(column), -1)
    return column.to_numpy()
