"""Slow NumPy reference of the per-parameter MLP optimizers: the oracle for every fast path.

Written from the published definitions (`AdafacMLPLOpt`, Metz et al. 2022, arXiv 2203.11860;
LOpt-A and LAgg-A, Joseph et al. 2025, arXiv 2312.02204), one element at a time, in float64. It
shares no code with the library.

The nominal form measures everything in units of s, the root mean square of the tensor's mean
pseudo-gradient. Here that is written by giving each epsilon the unit of what it is added to (s
for gradients and momenta, s^2 for second moments, 1/s for inverse roots), so that nothing is
rescaled; s = 1 is the published form.

Decays are rounded to float32: 1 - 0.999 in float32 is 6e-5 (relative) away from 0.001, and the
definition is in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MOMENTUM_DECAYS = (0.9, 0.99, 0.999)
RMS_DECAY = 0.999
ADAFACTOR_DECAYS = (0.9, 0.99, 0.999)
TIME_SCALES = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000)


def decay(initial: float, offset: float, clip: bool) -> float:
    """beta = 1 - (1 - beta0) exp(10 offset), rounded to float32."""
    beta = float(np.float32(1.0 - (1.0 - float(np.float32(initial))) * math.exp(10.0 * offset)))
    return min(max(beta, 0.0), 1.0) if clip else beta


def bias_correction(beta: float, steps: int) -> float:
    """1 - beta^steps in float32."""
    return float(np.float32(1) - np.float32(beta) ** np.float32(steps))


def factored_axes(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(d1, d0): second largest and largest axis, later axes winning ties; None below rank 2."""
    if len(shape) < 2:
        return None
    ranked = sorted(range(len(shape)), key=lambda axis: (shape[axis], axis))
    return ranked[-2], ranked[-1]


def without(index: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The index (or shape) with one axis left out."""
    return index[:axis] + index[axis + 1 :]


@dataclass
class TensorState:
    """Accumulators of one tensor: `row` and `col` from rank 2 on, `diag` below."""

    m: list[np.ndarray]
    r: np.ndarray
    row: list[np.ndarray] | None = None
    col: list[np.ndarray] | None = None
    diag: list[np.ndarray] | None = None
    velocity: np.ndarray | None = None
    square: np.ndarray | None = None
    steps: int = 0


@dataclass
class SlowOptimizer:
    """One tree (a dict of arrays) optimised by the definition.

    Attributes:
      theta: meta-parameters as nested dicts of arrays.
      sign: +1 feeds the MLP what `update` is given, -1 its negative (LOpt-A, LAgg-A).
      exp_mult, step_mult: lambda_1 and lambda_2 (scale of the learned part in the nominal form).
      nominal: "none", "average", "momentum" or "adam".
      learning_rate, momentum: of the nominal "momentum" step; the former of "adam" too.
      iteration: steps (rounds) taken.
      states: accumulators by tensor name.
    """

    theta: dict[str, Any]
    sign: float = 1.0
    exp_mult: float = 1e-3
    step_mult: float = 1e-3
    nominal: str = "none"
    learning_rate: float = 0.7
    momentum: float = 0.9
    iteration: int = 0
    states: dict[str, TensorState] = field(default_factory=dict)

    def update(self, updates, params, worker_updates=None):
        """Steps to add to `params`; advances the state.

        Args:
          updates: {name: gradient, or mean pseudo-gradient}.
          params: {name: parameter}.
          worker_updates: {name: [workers, *shape]} for LAgg-A.
        """
        steps = {}
        for name, given in updates.items():
            workers = None if worker_updates is None else worker_updates[name]
            features, unit, anchor = self.tensor(name, given, params[name], workers)
            steps[name] = anchor - self._learned_step(features, unit)
        self.iteration += 1
        return steps

    def tensor(self, name, given, param, workers=None):
        """Advances one tensor; (normalised features [*shape, inputs], unit s, hand-made step)."""
        given, param = np.asarray(given, np.float64), np.asarray(param, np.float64)
        if workers is not None:
            workers = np.asarray(workers, np.float64)
        state = self.states.setdefault(name, self._init(given.shape))
        features, unit = self._features(state, given, param, workers)
        return features, unit, self._nominal_step(state, given)

    def _init(self, shape):
        def zeros(of):
            return [np.zeros(of, np.float64) for _ in range(3)]

        state = TensorState(m=zeros(shape), r=np.zeros(shape, np.float64))
        axes = factored_axes(shape)
        if axes is None:
            state.diag = zeros(shape)
        else:
            second, largest = axes
            state.row = zeros(without(shape, largest))
            state.col = zeros(without(shape, second))
        state.velocity = np.zeros(shape, np.float64)
        state.square = np.zeros(shape, np.float64)
        return state

    def _accumulate(self, state, g):
        offsets = {k: np.asarray(v, np.float64) for k, v in self.theta.items() if k != "mlp"}
        momentum = [decay(b, o, False) for b, o in zip(MOMENTUM_DECAYS, offsets["momentum_decays"], strict=True)]
        rms = decay(RMS_DECAY, offsets["rms_decays"][0], True)
        second = [decay(b, o, True) for b, o in zip(ADAFACTOR_DECAYS, offsets["adafactor_decays"], strict=True)]
        axes = factored_axes(g.shape)
        for j, beta in enumerate(momentum):
            for i in np.ndindex(g.shape):
                state.m[j][i] = beta * state.m[j][i] + (1 - beta) * g[i]
        for i in np.ndindex(g.shape):
            state.r[i] = rms * state.r[i] + (1 - rms) * g[i] ** 2
        for j, beta in enumerate(second):
            if axes is None:
                for i in np.ndindex(g.shape):
                    state.diag[j][i] = beta * state.diag[j][i] + (1 - beta) * (g[i] ** 2 + 1e-30)
                continue
            for moments, axis in ((state.row[j], axes[1]), (state.col[j], axes[0])):
                sums = np.zeros(moments.shape, np.float64)
                for i in np.ndindex(g.shape):
                    sums[without(i, axis)] += g[i] ** 2 + 1e-30
                for i in np.ndindex(moments.shape):
                    moments[i] = beta * moments[i] + (1 - beta) * sums[i] / g.shape[axis]

    def _features(self, state, given, param, workers):
        """Advances the accumulators; (normalised features [*shape, inputs], unit of the learned step: s, or Adam's
        learning rate)."""
        g = self.sign * given
        unit = 1.0
        if self.nominal != "none":
            unit = np.sqrt(max(np.mean(given**2), 1e-30))
        self._accumulate(state, g)
        deltas = [g] if workers is None else [self.sign * w for w in workers]
        square = unit**2
        axes = factored_axes(g.shape)
        channels: list[np.ndarray] = []
        units: list[float] = []

        def add(channel_unit, value):
            channel = np.zeros(g.shape, np.float64)
            for i in np.ndindex(g.shape):
                channel[i] = value(i)
            channels.append(channel)
            units.append(channel_unit)

        def row(j, i):
            return state.diag[j][i] if axes is None else state.row[j][without(i, axes[1])]

        def col(j, i):
            return state.diag[j][i] if axes is None else state.col[j][without(i, axes[0])]

        def row_mean(j, i, second):
            # The mean of v_row over the second largest axis, at the row that element i belongs to.
            size = g.shape[second]
            return sum(row(j, i[:second] + (n,) + i[second + 1 :]) for n in range(size)) / size

        def factors(j, i, second):
            ratio = row(j, i) / (row_mean(j, i, second) + 1e-9 * square)
            return 1 / np.sqrt(max(ratio, 1e-9)) / np.sqrt(max(col(j, i), 1e-9 * square))

        for delta in deltas:
            add(unit, lambda i, delta=delta: delta[i])
        add(1.0, lambda i: param[i])
        for j in range(3):
            add(unit, lambda i, j=j: state.m[j][i])
        add(square, lambda i: state.r[i])
        for j in range(3):
            add(1.0, lambda i, j=j: state.m[j][i] / np.sqrt(state.r[i] + 1e-6 * square))
        add(1 / unit, lambda i: 1 / np.sqrt(state.r[i] + 1e-6 * square))
        for j in range(3):
            if axes is None:
                add(
                    1.0,
                    lambda i, j=j: g[i] / np.sqrt(max(state.diag[j][i] + 1e-9 * square, 1e-9 * square)),
                )
            else:
                add(1.0, lambda i, j=j: g[i] * factors(j, i, axes[0]))
        for moment in (row, col):
            for j in range(3):
                add(square, lambda i, j=j, moment=moment: moment(j, i))
        for moment in (row, col):
            for j in range(3):
                add(
                    1 / unit,
                    lambda i, j=j, moment=moment: 1 / np.sqrt(moment(j, i) + 1e-8 * square),
                )
        for j in range(3):
            if axes is None:
                add(1.0, lambda i, j=j: state.m[j][i] / np.sqrt(state.diag[j][i] + 1e-6 * square))
            else:
                add(1.0, lambda i, j=j: state.m[j][i] * factors(j, i, axes[0]))
        normalised = [
            channel / np.sqrt(1e-5 * channel_unit**2 + np.mean(channel**2))
            for channel, channel_unit in zip(channels, units, strict=True)
        ]
        time = [math.tanh(self.iteration / scale - 1) for scale in TIME_SCALES]
        normalised += [np.full(g.shape, t, np.float64) for t in time]
        return np.stack(normalised, axis=-1), self.learning_rate if self.nominal == "adam" else unit

    def _learned_step(self, features, unit):
        mlp = {k: np.asarray(v, np.float64) for k, v in self.theta["mlp"].items()}
        num_layers = len(mlp) // 2
        step = np.zeros(features.shape[:-1], np.float64)
        for i in np.ndindex(step.shape):
            hidden = features[i]
            for layer in range(num_layers):
                hidden = hidden @ mlp[f"w{layer}"] + mlp[f"b{layer}"]
                if layer < num_layers - 1:
                    hidden = np.maximum(hidden, 0)
            step[i] = unit * self.step_mult * hidden[0] * np.exp(self.exp_mult * hidden[1])
        return step

    def _nominal_step(self, state, given):
        if self.nominal == "none":
            return np.zeros(given.shape, np.float64)
        if self.nominal == "average":
            return -given
        if self.nominal == "adam":
            state.velocity = 0.9 * state.velocity + 0.1 * given
            state.square = 0.999 * state.square + 0.001 * given**2
            state.steps += 1
            mean = state.velocity / bias_correction(0.9, state.steps)
            square = state.square / bias_correction(0.999, state.steps)
            return -self.learning_rate * mean / (np.sqrt(square) + 1e-8)
        state.velocity = given + self.momentum * state.velocity
        return -self.learning_rate * (given + self.momentum * state.velocity)
