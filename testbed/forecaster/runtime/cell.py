"""One step of the LSTM for n nodes at once, in numpy and without allocation.

The step of an LSTM (Hochreiter and Schmidhuber, 1997; forget gate: Gers et al., 2000) with input x and state (h, c):

    i, f, o = sigmoid(W [x, h, 1]),   g = tanh(W [x, h, 1]),   c <- f c + i g,   h <- o tanh(c)

How it is made fast: one matrix product, with inputs, state and bias in one buffer; the sigmoid as ``(1 + tanh(z / 2))
/ 2`` with the halving folded into the weights, so that one tanh serves all gates; nodes along the last axis, so that
each gate is one block of memory.  torch is not needed.

**Precision.**  The product of a matrix with one column and with many differ in their last digits, as they are summed in
another order.  In single precision that shows: one forecast in a thousand, rounded to whole kB, came out otherwise when
ten nodes shared a brain.  So up to `EXACT_NODES` nodes the step is made in double precision, where it does not, and a
node's forecast is the same in whatever company it is made.  A thousand nodes in virtual time are for speed.

The head's raw numbers become growth in float64, so that `growth` (any n) and `growth_of_one` (plain numbers, n = 1) do
the same to the last bit.  A node predicts once in 10 ms, with caches that others have used since: there each call into
numpy costs microseconds, and a sum of two plain numbers a tenth of one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.forecaster.runtime.artefact import Model
from testbed.forecaster.runtime.horizons import MOST_GROWTH
from testbed.records.events import Floats

Float32s = NDArray[np.float32]
EXACT_NODES = 128


class Cell:
    """The recurrent state of n nodes and the buffers of a step.

    Attributes:
        inputs: [model.features, n], to be filled before each step; as all arrays float64, or float32 above
            `EXACT_NODES`.
        raw: [2 h, n], what the head says after the last step: h rows of growth, h of onset logits.
        logits: [h, n], the latter.
    """

    def __init__(self, model: Model, nodes: int) -> None:
        hidden, horizons = model.hidden, len(model.horizon_samples)
        kind: type[np.floating[Any]] = np.float64 if nodes <= EXACT_NODES else np.float32
        self._gate_weights, self._head_weights = _fused(model, kind)
        # Rows of the stack: inputs, state h, ones.  The gates read all of it, the head all but the inputs.
        features = model.features
        self._stack = np.zeros((features + hidden + 1, nodes), dtype=kind)
        self._stack[-1] = 1.0
        self.inputs, self._recurrent = self._stack[:features], self._stack[features:]
        self._hidden = self._recurrent[:-1]
        self._cell = np.zeros((hidden, nodes), dtype=kind)
        self._scratch = np.empty_like(self._cell)
        self._gates = np.empty((4 * hidden, nodes), dtype=kind)
        self._sigmoids = self._gates[: 3 * hidden]
        self._input, self._forget, self._output, self._candidate = np.split(self._gates, 4)
        self.raw = np.empty((2 * horizons, nodes), dtype=kind)
        self._growth, self.logits = self.raw[:horizons], self.raw[horizons:]
        self._root, self._whole = np.empty(self._growth.shape), np.empty(self._growth.shape)
        self._half = kind(0.5)
        self._most = np.log1p(np.array(MOST_GROWTH))[:, None]
        self._most_of_one = self._most.ravel().tolist()

    def advance(self) -> None:
        """Go on by the sample in `inputs`."""
        gates, cell, scratch = self._gates, self._cell, self._scratch
        np.matmul(self._gate_weights, self._stack, gates)
        np.tanh(gates, gates)
        np.multiply(self._sigmoids, self._half, self._sigmoids)
        np.add(self._sigmoids, self._half, self._sigmoids)
        np.multiply(self._input, self._candidate, scratch)
        np.multiply(cell, self._forget, cell)
        np.add(cell, scratch, cell)
        np.tanh(cell, scratch)
        np.multiply(self._output, scratch, self._hidden)
        np.matmul(self._head_weights, self._recurrent, self.raw)

    def growth(self) -> Floats:
        """Return the growth ``log(1 + (need - backlog) / u)`` after the last step, [h, n], reused."""
        root, growth = self._root, self._whole
        growth[:] = self._growth
        np.multiply(growth, growth, root)
        np.add(root, 1.0, root)
        np.sqrt(root, root)
        np.add(root, growth, root)
        np.multiply(root, 0.5, root)
        np.add.accumulate(root, 0, None, root)
        np.minimum(root, self._most, out=root)
        return root

    def growth_of_one(self) -> list[float]:
        """Return the same for n = 1, [h]."""
        total, grown = 0.0, []
        for raw, most in zip(self._growth.ravel().tolist(), self._most_of_one, strict=True):
            total += (raw + math.sqrt(raw * raw + 1.0)) * 0.5
            grown.append(min(total, most))
        return grown


def _fused(model: Model, kind: type[np.floating[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the weights on [inputs, state, 1], gates in the order input, forget, output, cell, and on [state, 1]."""
    gates = np.hstack([model.weight_ih, model.weight_hh, model.bias[:, None]])
    into, forget, candidate, output = np.split(gates, 4)
    fused = np.vstack([0.5 * into, 0.5 * forget, 0.5 * output, candidate])
    head = np.hstack([model.head_weight, model.head_bias[:, None]])
    return np.ascontiguousarray(fused, dtype=kind), np.ascontiguousarray(head, dtype=kind)


def run_series(model: Model, inputs: Float32s) -> tuple[Float32s, Float32s]:
    """Return growth and onset logits, both [series, samples, h], of whole series from a fresh state.

    Args:
        model: the weights.
        inputs: float32 [series, samples, features]; of them the model's first are taken.
    """
    series, samples, _ = inputs.shape
    cell = Cell(model, series)
    growth = np.empty((series, samples, len(model.horizon_samples)), dtype=np.float32)
    logits = np.empty_like(growth)
    for step in range(samples):
        cell.inputs[:] = inputs[:, step, : model.features].T
        cell.advance()
        growth[:, step] = cell.growth().T
        logits[:, step] = cell.logits.T
    return growth, logits
