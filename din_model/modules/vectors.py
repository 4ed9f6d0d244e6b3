"""Given vectors (text, images) as inputs: frozen, with a trained projection."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from din_model.features import FIRST_ID, PADDING


class GivenVectors(nn.Module):
    """Ids [n] to [n, dimension]: the projected vector, and a flag that there is one.

    A vector that is missing, or newer than ``values``, is zero. Before they are projected, vectors
    are multiplied by ``scale``, which makes their mean length 1.

    Attributes:
        values: vector of each id [ids, size], float32. They are no weights: they come from
            ``hold``, and travel beside the weights (registry.artifact), so that a night can score
            items that are newer than the model.
    """

    values: Tensor
    scale: Tensor

    def __init__(self, size: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(FIRST_ID, size), persistent=False)
        self.register_buffer("scale", torch.tensor(1.0))
        self.projection = nn.Linear(size, dimension - 1, bias=False)

    def reset_parameters(self) -> None:
        """Forget the vectors; the projection is drawn by the model."""
        self.values = self.values.new_zeros(FIRST_ID, self.values.shape[1])
        nn.init.ones_(self.scale)

    def hold(self, values: Tensor) -> None:
        """Look ids up in ``values`` [ids, size] from now on."""
        self.values = values.to(self.scale.device)

    def measure(self) -> None:
        """Set the scale by the vectors that are held."""
        known = self.values[FIRST_ID:]
        length = known.norm(dim=1).mean() if len(known) else torch.tensor(1.0)
        self.scale.copy_(1 / length.clamp(min=1e-12))

    def forward(self, ids: Tensor) -> Tensor:
        """Return [n, dimension] for ids [n]."""
        known = (ids >= FIRST_ID) & (ids < len(self.values))
        ids = torch.where(known, ids, PADDING)
        if self.training:  # behaviours repeat: project each vector once
            distinct, position = ids.unique(return_inverse=True)
            projected = self._project(distinct).index_select(0, position)
        else:
            projected = self._project(ids)
        return torch.cat([projected, known.to(projected.dtype)[:, None]], 1)

    def _project(self, ids: Tensor) -> Tensor:
        projected: Tensor = self.projection(F.embedding(ids, self.values) * self.scale)
        return projected
