"""One step of the LSTM for n nodes at once, in numpy and without allocation.

The step of an LSTM (Hochreiter and Schmidhuber, 1997; forget gate: Gers et al., 2000) with input x and state (h, c):

    i, f, o = sigmoid(W [x, h, 1]),   g = tanh(W [x, h, 1]),   c <- f c + i g,   h <- o tanh(c)

How it is made fast: one matrix product, with inputs, state and bias in one buffer; the sigmoid as ``(1 + tanh(z / 2))
/ 2`` with the halving folded into the weights, so that one tanh serves all gates; nodes along the last axis, so that
each gate is one block of memory.  torch is not needed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.cortex.artefact import Model
from testbed.cortex.features import FEATURES

Float32s = NDArray[np.float32]


class Cell:
    """The recurrent state of n nodes and the buffers of a step.

    Attributes:
        inputs: float32 [FEATURES, n], to be filled before each step.
        logits: float32 [h, n], onset logits of the last step.
    """

    def __init__(self, model: Model, nodes: int) -> None:
        hidden, horizons = model.hidden, len(model.horizon_samples)
        self._gate_weights, self._head_weights = _fused(model)
        # Rows of the stack: inputs, state h, ones.  The gates read all of it, the head all but the inputs.
        self._stack = np.zeros((FEATURES + hidden + 1, nodes), dtype=np.float32)
        self._stack[-1] = 1.0
        self.inputs, self._recurrent = self._stack[:FEATURES], self._stack[FEATURES:]
        self._hidden = self._recurrent[:-1]
        self._cell = np.zeros((hidden, nodes), dtype=np.float32)
        self._scratch = np.empty_like(self._cell)
        self._gates = np.empty((4 * hidden, nodes), dtype=np.float32)
        self._sigmoids = self._gates[: 3 * hidden]
        self._input, self._forget, self._output, self._candidate = np.split(self._gates, 4)
        self._raw = np.empty((2 * horizons, nodes), dtype=np.float32)
        self._growth, self.logits = self._raw[:horizons], self._raw[horizons:]
        self._root = np.empty_like(self._growth)
        self._half, self._one = np.float32(0.5), np.float32(1.0)

    def step(self) -> Float32s:
        """Advance by the sample in `inputs`; return the growth ``log(1 + (need - backlog) / u)``, [h, n], reused."""
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
        np.matmul(self._head_weights, self._recurrent, self._raw)
        return self._grown()

    def _grown(self) -> Float32s:
        root, growth = self._root, self._growth
        np.multiply(growth, growth, root)
        np.add(root, self._one, root)
        np.sqrt(root, root)
        np.add(root, growth, root)
        np.multiply(root, self._half, root)
        np.add.accumulate(root, 0, None, root)
        return root


def _fused(model: Model) -> tuple[Float32s, Float32s]:
    """Return the weights on [inputs, state, 1], gates in the order input, forget, output, cell, and on [state, 1]."""
    gates = np.hstack([model.weight_ih, model.weight_hh, model.bias[:, None]])
    into, forget, candidate, output = np.split(gates, 4)
    fused = np.vstack([0.5 * into, 0.5 * forget, 0.5 * output, candidate])
    head = np.hstack([model.head_weight, model.head_bias[:, None]])
    return np.ascontiguousarray(fused, dtype=np.float32), np.ascontiguousarray(head, dtype=np.float32)


def run_series(model: Model, inputs: Float32s) -> tuple[Float32s, Float32s]:
    """Return growth and onset logits, both [series, samples, h], of whole series from a fresh state.

    Args:
        model: the weights.
        inputs: float32 [series, samples, FEATURES].
    """
    series, samples, _ = inputs.shape
    cell = Cell(model, series)
    growth = np.empty((series, samples, len(model.horizon_samples)), dtype=np.float32)
    logits = np.empty_like(growth)
    for step in range(samples):
        cell.inputs[:] = inputs[:, step].T
        growth[:, step] = cell.step().T
        logits[:, step] = cell.logits.T
    return growth, logits
