"""Warm start: continue from an older model whose tables have grown since."""

from collections.abc import Mapping

import torch
from torch import Tensor

from din_model.errors import InputError
from din_model.features import FIRST_ID, PADDING, UNKNOWN
from din_model.modules.din import DIN
from din_model.modules.embeddings import PIECE


@torch.no_grad()
def copy_into(model: DIN, older: DIN, groups: Mapping[str, Tensor] | None = None) -> None:
    """Start ``model`` from ``older``: known rows bit for bit, new rows from their group.

    Args:
        model: the model to fill.
        older: the model to start from.
        groups: vocabulary -> group of each id [ids] (an item's category), PADDING for none. A new
            row starts at the mean of its group's older rows; without a group, or if the group has
            no older row, at the unknown row, which represents rare ids.

    Raises:
        InputError: spec or layers differ.
    """
    if (model.spec, model.config) != (older.spec, older.config):
        raise InputError(
            "train.start: champion needs the champion's features and train.model; use scratch"
        )
    current = model.state_dict()
    for name, before in older.state_dict().items():
        if not name.startswith("tables."):
            current[name].copy_(before)
    for table, (rows, _) in model.tables.sizes.items():
        before, after = older.tables.weight(table), model.tables.weight(table)
        first = model.tables.first[table]
        known = before[first : first + len(after)]
        after[: len(known)] = known
        if len(known) == len(after):
            continue
        new_rows = slice(first + len(known), first + len(after))
        after[len(known) :] = before[UNKNOWN]
        group_of = (groups or {}).get(vocabulary := model.tables.vocabulary[table])
        if group_of is not None:
            means = _means(before, older.tables.id_to_row(vocabulary), group_of)
            id_to_row = model.tables.id_to_row(vocabulary).long()
            group_of_row = torch.full((rows,), PADDING, dtype=torch.int64)
            ids = torch.arange(min(len(id_to_row), len(group_of)))
            group_of_row[id_to_row[ids]] = group_of[ids]
            after[len(known) :] = means[group_of_row[new_rows]]


def _means(weight: Tensor, id_to_row: Tensor, group_of: Tensor) -> Tensor:
    """Return the mean of each group's rows [groups, d], or the unknown row."""
    size = int(group_of.max()) + 1
    sums, counts = weight.new_zeros(size, weight.shape[1]), weight.new_zeros(size, 1)
    ids = torch.arange(min(len(id_to_row), len(group_of)))
    known = ids[(id_to_row[ids] >= FIRST_ID) & (group_of[ids] != PADDING)]
    for piece in known.split(PIECE):  # a copy of a whole table might not fit into memory
        rows = weight[id_to_row[piece].long()]
        sums.index_add_(0, group_of[piece], rows)
        counts.index_add_(0, group_of[piece], rows.new_ones(len(piece), 1))
    return torch.where(counts > 0, sums / counts.clamp(min=1), weight[UNKNOWN])
