"""The network in torch: one LSTM layer, one linear head.  Imported by training only; the node runs `runtime`.

For horizon k the head gives the growth of the need, ``g_k = g_{k-1} + s(z_k)`` with the positive map ``s(z) = (z +
sqrt(z^2 + 1)) / 2``: a need never shrinks with a longer horizon, and all steps are elementary enough to be repeated
in numpy to the last digits.  Outside training the growth is cut to `targets.MOST_GROWTH`.  Beside it, one logit a
horizon: does a burst start within it?

Loss: pinball (Koenker and Bassett, 1978) of the log growth at quantile q, which charges q for each unit short and 1 -
q for each unit too much: a dropped byte costs q / (1 - q) times as much as a byte that is reserved for an interval and
unused (19 times at q = 0.95), plus binary cross entropy of the onsets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from testbed.forecaster.runtime.horizons import MOST_GROWTH

State = tuple[Tensor, Tensor]


class ForecastNetwork(nn.Module):
    """Inputs [batch, time, features] to growth and onset logits, both [batch, time, horizons]."""

    def __init__(self, features: int, hidden: int, horizons: int) -> None:
        super().__init__()
        self.horizons = horizons
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 2 * horizons)

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, Tensor, State]:
        """Return growth, onset logits and the state after the last step."""
        hidden, state = self.lstm(inputs, state)
        raw = self.head(hidden)
        growth = torch.cumsum(positive(raw[..., : self.horizons]), dim=-1)
        if not self.training:  # a cut would remove the gradient that corrects large errors
            growth = torch.minimum(growth, torch.log1p(torch.tensor(MOST_GROWTH)))
        return growth, raw[..., self.horizons :], state


def positive(raw: Tensor) -> Tensor:
    """Return ``(z + sqrt(z^2 + 1)) / 2`` of each element."""
    return 0.5 * (raw + torch.sqrt(raw * raw + 1.0))


def pinball(truth: Tensor, predicted: Tensor, quantile: float, weight: Tensor) -> Tensor:
    """Return the mean pinball loss, that of each horizon (the last axis) with its `weight`."""
    short = truth - predicted
    return (torch.maximum(quantile * short, (quantile - 1.0) * short) * weight).mean()


def horizon_weights(horizon_samples: tuple[int, ...]) -> Tensor:
    """Return weights, 1 on the mean, that fall with the fourth root of the horizon.

    Growth at random goes with the square root of time.  Without weights the longest horizon has most of the loss and
    the shortest next to none; with the full root the long ones, which size the buffer, learn too little.
    """
    weight = torch.tensor(horizon_samples, dtype=torch.float32) ** -0.25
    return weight / weight.mean()
