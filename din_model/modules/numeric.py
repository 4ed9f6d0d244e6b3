"""Counters and scaled numbers as inputs of the tower, and the popularity that a model starts at."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from din_model.distributed.collectives import all_reduce
from din_model.features import ALL, IMPRESSIONS, FeatureSpec

PRIOR_CLICKS = 2.0
"""Clicks at the base rate that smoothing adds to a counter, with as many impressions as they take.

In clicks instead of impressions, because a rate is known once there are clicks, however rare they
are.
"""

LIMIT = 5.0
"""Standard deviations at which an input is cut, so that no outlier moves the tower."""

LARGEST = 1e18
"""Largest scaled value: FLT_MAX, which some logs write for a missing number, would be infinite."""

HOUR = 3600.0


class NumericInputs(nn.Module):
    """Counts and numbers of a row to standardised inputs, and to the logit of the popularity.

    A count n enters as log(1 + n), clicks also as the logit of their smoothed rate minus that of
    the base rate, a time as log(1 + hours) with a flag for "never", a number as its scaled value
    with a flag for "missing". All are standardised by ``mean`` and ``spread``, which ``measure``
    takes from training rows. ``base`` is the logit of the base rate, and ``popularity_weight`` how
    much of the item's rate the popularity takes.
    """

    base: Tensor
    popularity_weight: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        columns = {name: i for i, name in enumerate(spec.numeric_columns)}
        counts, rates, times = [], [], []
        for counter in spec.counters:
            for window in counter.windows:
                counts.append(columns[counter.count(window)])
                if counter.events == IMPRESSIONS:
                    clicks = columns[counter.clicks(window)]
                    counts.append(clicks)
                    rates.append((clicks, columns[counter.count(window)]))
            times += [columns[counter.first], columns[counter.last]]
        self._counts, self._rates, self._times = counts, rates, times
        self._values = [columns[f.name] for f in spec.values]
        self._logs = [f.scale == "log" for f in spec.values]
        self._centers = [f.center for f in spec.values]
        self._spreads = [f.spread for f in spec.values]
        popularity = spec.popularity
        self._popularity = (
            rates.index((columns[popularity.clicks(ALL)], columns[popularity.count(ALL)]))
            if popularity
            else None
        )
        self.size = len(counts) + len(rates) + 2 * (len(times) + len(self._values))
        self.register_buffer("base", torch.tensor(0.0))
        self.register_buffer("popularity_weight", torch.tensor(1.0))
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("spread", torch.ones(self.size))

    def reset_parameters(self) -> None:
        """Reset the statistics."""
        nn.init.zeros_(self.base)
        nn.init.ones_(self.popularity_weight)
        nn.init.zeros_(self.mean)
        nn.init.ones_(self.spread)

    def forward(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers [B, columns] -> inputs [B, size], and the popularity's logit [B].

        Without a popularity counter that is the logit of the base rate.
        """
        inputs, rates = self.transform(numbers)
        standard = ((inputs - self.mean) / self.spread).clamp(-LIMIT, LIMIT)
        if self._popularity is None:
            return standard, self.base.expand(numbers.shape[0])
        return standard, self.popularity_weight * rates[:, self._popularity] + self.base

    def transform(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs [B, size] before they are standardised, and the rates among them."""
        shown = numbers[:, [n for _, n in self._rates]].clamp(min=0)
        clicks = torch.minimum(numbers[:, [c for c, _ in self._rates]].clamp(min=0), shown)
        rate = torch.sigmoid(self.base)
        prior = PRIOR_CLICKS / torch.minimum(rate, 1 - rate)
        rates = torch.logit((clicks + prior * rate) / (shown + prior)) - self.base
        times = numbers[:, self._times]
        values = numbers[:, self._values]
        present = ~values.isnan()
        values = torch.where(present, values, 0.0)
        logs = torch.sign(values) * torch.log1p(values.abs())
        scaled = torch.where(values.new_tensor(self._logs).bool(), logs, values)
        scaled = (scaled - values.new_tensor(self._centers)) / values.new_tensor(self._spreads)
        scaled = scaled.clamp(-LARGEST, LARGEST)
        inputs = [
            torch.log1p(numbers[:, self._counts].clamp(min=0)),
            rates,
            torch.log1p(times.clamp(min=0) / HOUR),
            (times >= 0).to(numbers.dtype),
            torch.where(present, scaled, 0.0),
            present.to(numbers.dtype),
        ]
        return torch.cat(inputs, 1), rates

    @torch.no_grad()
    def measure(
        self, rows: Iterable[Tensor], base_rate: float, popularity_weight: float = 1.0
    ) -> Tensor:
        """Take mean and spread from numbers [B, columns] of all ranks; return what never differs.

        An input that never differs keeps the spread 1, and is True in the result [size]. A
        popularity that never differs gets no weight: what the model learns beside it, such as the
        biases of items, holds the popularity already, and would count it twice once it differs.
        Rates of exactly 0 and 1 have no logit, so the base rate is kept a millionth away from them.
        ``popularity_weight`` is 1 unless negatives were sampled by popularity.
        """
        self.base.copy_(torch.logit(torch.tensor(base_rate), eps=1e-6))
        self.popularity_weight.fill_(popularity_weight)
        sums = torch.zeros(2, self.size + 1, dtype=torch.float64)
        for numbers in rows:
            inputs = self.transform(numbers.to(self.mean.device))[0].double().cpu()
            ones = inputs.new_ones(len(inputs), 1)
            sums += torch.stack([torch.cat([inputs.pow(p), ones], 1).sum(0) for p in (1, 2)])
        moments = all_reduce(sums)
        count = moments[0, -1].clamp(min=1)
        mean = moments[0, :-1] / count
        variance = (moments[1, :-1] / count - mean.square()).clamp(min=0)
        constant = variance <= 1e-12
        self.mean.copy_(mean)
        self.spread.copy_(torch.where(constant, 1.0, variance.sqrt()))
        if self._popularity is not None and moments[0, -1] > 0:
            self.popularity_weight *= ~constant[len(self._counts) + self._popularity]
        return constant.to(self.mean.device)
