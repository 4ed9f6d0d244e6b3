"""The scoring UDF: a task's stream of histories and candidates in, their scores out, as Arrow.

The stream is sorted by group, which is a user: the row of the state first, if there is one, then
the candidates. So a history is read, moved and embedded once for all of them. Memory is bounded:
a task holds an Arrow batch and the group that it broke off in (pipelines.scoring.scorer splits large ones).
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from pyspark import SparkFiles

from din_model.data.batch import Histories, with_histories
from din_model.distributed.malloc import keep_freed_blocks
from din_model.features import UNKNOWN, FeatureSpec, History
from din_model.modules.din import DIN
from din_model.modules.segments import pairs_of
from din_model.registry.artifact import ModelMetadata, load
from pipelines.examples.point_in_time_join import Ranges

Batches = Iterable[pa.RecordBatch]

GROUP, IS_STATE = "_group", "_is_state"

ROWS_AT_ONCE = 2048
"""Candidates in one forward pass."""

USER, ITEM = "user_key", "item_key"
"""The candidate's own keys, beside the ids that the model reads."""


@dataclass(frozen=True)
class Task:
    """What is the same for all candidates of a night.

    Attributes:
        cutoff: microseconds; behaviours before it are seen.
        explain: so many behaviours of largest weight are told of each score.
        top: so many candidates of a user are kept; None keeps all.
    """

    cutoff: int
    explain: int = 0
    top: int | None = None


def score_batches(
    batches: Batches, model: DIN, metadata: ModelMetadata, task: Task
) -> Iterator[pa.RecordBatch]:
    """Score a task's stream; each user's candidates come out best first, with their rank."""
    for table in whole_groups(batches):
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


def whole_groups(batches: Batches) -> Iterator[pa.Table]:
    """Cut a sorted stream between groups: no group lies in two tables."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows == 0:
            continue
        group = batch.column(GROUP)
        first, last = group[0], group[-1]
        cut = int(np.searchsorted(group.to_numpy(), last.as_py()))
        goes_on = bool(held) and held[-1].column(GROUP)[-1] == first
        if cut or (held and not goes_on):
            yield pa.Table.from_batches([*held, batch.slice(0, cut)])
            held = []
        held.append(batch.slice(cut))
    if held:
        yield pa.Table.from_batches(held)


def _histories(
    state: pa.Table, candidates: pa.Table, spec: FeatureSpec, cutoff: int
) -> tuple[list[Ranges], NDArray[Any]]:
    """Where the history of each row of the state lies, one more without any, and whose is whose."""
    theirs = state.column(GROUP).to_numpy()
    mine = candidates.column(GROUP).to_numpy()
    place = np.searchsorted(theirs, mine)
    found = np.r_[theirs, -1][place] == mine
    ranges = [_visible(state, history, cutoff) for history in spec.histories]
    return ranges, np.where(found & (place < len(theirs)), place, len(theirs))


def _visible(state: pa.Table, history: History, cutoff: int) -> Ranges:
    """The newest behaviours of each row that may be seen; the last row is nobody's."""
    columns, offsets = {}, np.zeros(1, np.int64)
    for name in ("time", *history.fields):
        lists = state.column(history.column(name)).combine_chunks()
        offsets = lists.offsets.to_numpy().astype(np.int64)
        columns[name] = lists.flatten().to_numpy()
    offsets = offsets - offsets[0]
    seen = np.r_[0, np.cumsum(columns["time"] + history.lag < cutoff)]
    # A state's lists are in order of time, so what is seen stands in front.
    end = offsets[:-1] + seen[offsets[1:]] - seen[offsets[:-1]]
    start = np.maximum(end - history.length, offsets[:-1])
    return Ranges(columns, np.r_[start, 0], np.r_[end, 0])


@torch.inference_mode()
def _score_part(
    model: DIN, metadata: ModelMetadata, candidates: pa.Table, ranges: list[Ranges], history_of: NDArray[Any],
    task: Task,
) -> pa.Table:  # fmt: skip
    spec = model.spec
    names = [f.name for f in spec.features]
    names += [f"{f.name}__length" for f in spec.features if f.is_list]
    columns = {name: _array(candidates.column(name)) for name in names}
    distinct, local = np.unique(history_of, return_inverse=True)
    histories, of_row = {}, torch.from_numpy(local)
    for history, found in zip(spec.histories, ranges, strict=True):
        mine = found._replace(start=found.start[distinct], end=found.end[distinct])
        offsets, lists = mine.lists(history.lists, np.full(len(distinct), task.cutoff))
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
        scored["explanations"] = _because(spec, histories, of_row, weights, task.explain)
    return pa.table(scored)


def _ranked(scored: pa.Table, top: int | None) -> pa.Table:
    """Best first within each user, ties by item; with the rank from 1, without the group."""
    # Users that nobody knows have a group by a hash, which two of them may share.
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


def _because(
    spec: FeatureSpec, histories: dict[str, Histories], history_of: torch.Tensor,
    weights: dict[str, torch.Tensor], most: int,
) -> pa.Array:  # fmt: skip
    """The behaviours of largest weight of each row, largest first."""
    row, kind, item, weight = [], [], [], []
    for k, history in enumerate(spec.histories):
        pairs = pairs_of(histories[history.kind], history_of)
        name = next(n for n, f in history.fields.items() if f == spec.key_feature(history).name)
        row.append(pairs.row.numpy())
        kind.append(np.full(len(pairs.row), k))
        item.append(pairs.of_behaviour(histories[history.kind].fields[name]).numpy())
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


@lru_cache(maxsize=1)
def loaded(shipped: str) -> tuple[DIN, ModelMetadata]:
    """A shipped model, loaded once a worker process; its threads are the task's slots."""
    keep_freed_blocks()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return load(Path(SparkFiles.get(shipped)))


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    if pa.types.is_list(column.type):
        return column.combine_chunks().flatten().to_numpy().reshape(len(column), -1)
    return column.to_numpy()
