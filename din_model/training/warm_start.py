"""A model that goes on from an older one, with tables that have grown since."""

from collections.abc import Mapping

import torch
from torch import Tensor

from din_model.errors import InputError
from din_model.features import FIRST_ID, PADDING, UNKNOWN
from din_model.modules.din import DIN
from din_model.modules.embeddings import PIECE


@torch.no_grad()
def copy_into(model: DIN, older: DIN, groups: Mapping[str, Tensor] | None = None) -> None:
    """Start ``model`` from ``older``: what that knew to the bit, new rows as the mean of their kin.

    Args:
        groups: vocabulary -> the group of each id [ids] (an item's category), PADDING for none. A
            new row starts as the mean of its group's older rows; without a group, or where the
            older model has no row of it, as the unknown row, which stands for what is rare.

    Raises:
        InputError: the two do not have the same spec or layers.
    """
    if (model.spec, model.config) != (older.spec, older.config):
        raise InputError(
            "train.start: champion needs the champion's features and train.model; use scratch"
        )
    own = model.state_dict()
    for name, before in older.state_dict().items():
        if not name.startswith("tables."):
            own[name].copy_(before)
    for table, (rows, _) in model.tables.sizes.items():
        before, after = older.tables.weight(table), model.tables.weight(table)
        first = model.tables.first[table]
        kept = before[first : first + len(after)]
        after[: len(kept)] = kept
        if len(kept) == len(after):
            continue
        mine = slice(first + len(kept), first + len(after))
        after[len(kept) :] = before[UNKNOWN]
        group_of = (groups or {}).get(vocabulary := model.tables.vocabulary[table])
        if group_of is not None:
            means = _means(before, older.tables.row_of(vocabulary), group_of)
            row_of = model.tables.row_of(vocabulary).long()
            group_of_row = torch.full((rows,), PADDING, dtype=torch.int64)
            ids = torch.arange(min(len(row_of), len(group_of)))
            group_of_row[row_of[ids]] = group_of[ids]
            after[len(kept) :] = means[group_of_row[mine]]


def _means(weight: Tensor, row_of: Tensor, group_of: Tensor) -> Tensor:
    """The mean of each group's rows [groups, d]; the unknown row where it has none."""
    size = int(group_of.max()) + 1
    sums, counts = weight.new_zeros(size, weight.shape[1]), weight.new_zeros(size, 1)
    ids = torch.arange(min(len(row_of), len(group_of)))
    known = ids[(row_of[ids] >= FIRST_ID) & (group_of[ids] != PADDING)]
    for some in known.split(PIECE):  # a table may be larger than what is free
        rows = weight[row_of[some].long()]
        sums.index_add_(0, group_of[some], rows)
        counts.index_add_(0, group_of[some], rows.new_ones(len(some), 1))
    return torch.where(counts > 0, sums / counts.clamp(min=1), weight[UNKNOWN])
