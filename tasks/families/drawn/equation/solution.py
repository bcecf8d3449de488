"""What follows from the chosen solution of a drawn equation: coefficients, right-hand sides, conditions and scales.

Right-hand sides made of a chosen solution: Roache 2002, "Code verification by the method of manufactured solutions",
J. Fluids Eng. 124. Nothing is differentiated numerically or automatically: derivatives of waves are waves.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tasks.base import SPLITS, Data
from tasks.families.drawn.equation.choices import Choices
from tasks.families.drawn.equation.terms import Jet, sum_of_terms, term_of
from tasks.families.drawn.equation.waves import Waves, draw_waves, waves_jet

_EVALUATED_ROWS = 512
_MEASURED_ROWS = 2048
_LEAST_UNINFORMED = 0.3
"""Where a constant function does better than this, another equation is drawn: little would be left to learn."""


Rows = dict[str, np.ndarray]
"""Leaves [n, ...] of so many points."""


class Equation(NamedTuple):
    """What is drawn beside the choices.

    Attributes:
      solution: u*.
      coefficients: [terms, outputs], c; of an energy [1, 1], q.
      interior_scale, edge_scale: factors on the two mean squares of the loss.
      uninformed_loss: of the best constant function.
    """

    solution: Waves
    coefficients: np.ndarray
    interior_scale: float
    edge_scale: float
    uninformed_loss: float


def draw_equation(choices: Choices, seed: int) -> tuple[Equation, Data]:
    """The equation of a seed, and its points and right-hand sides in every split."""
    rng = np.random.default_rng([25, seed])
    while True:
        equation, rows_at = _draw_equation(choices, rng)
        if equation.uninformed_loss >= _LEAST_UNINFORMED:
            break
    sizes = {split: choices.num_rows if split == "train" else _EVALUATED_ROWS for split in SPLITS}
    points = {split: rng.uniform(size=(rows, choices.num_axes)) for split, rows in sizes.items()}
    data = {split: {n: np.asarray(leaf, np.float32) for n, leaf in rows_at(p).items()} for split, p in points.items()}
    return equation, data


def _draw_equation(choices: Choices, rng: np.random.Generator) -> tuple[Equation, Callable[[np.ndarray], Rows]]:
    """An equation, and the function of its points [n, axes] to rows of data."""
    c, solution = choices, draw_waves(choices, rng)
    # Varying coefficients are 1 + 0.8 wave in an energy, and the wave about 0 or 1 in a term.
    wave, phase, offset = rng.uniform(0, 2 * math.pi, c.num_axes), rng.uniform(0, 2 * math.pi), rng.integers(2)
    stretch = 10 ** rng.uniform(-1, 1, c.num_axes)

    def interior(points: np.ndarray) -> Rows:
        jet, varying = waves_jet(solution, points), np.sin(points @ wave + phase)
        rows = {"interior": points, "u": jet.value}
        if c.equation == "variational":
            return rows | {"u_slopes": np.concatenate(jet.slopes, axis=1), "p": _column(1 + 0.8 * varying) * stretch}
        return rows | ({"a": offset + varying} if "a u_s" in c.terms else {})

    measured = rng.uniform(size=(_MEASURED_ROWS, c.num_axes))
    if c.equation == "variational":
        return _energy(solution, 10 ** rng.uniform(-1, 1), interior(measured)), interior
    coefficients = _draw_coefficients(c, solution, interior(measured), rng)

    def everything(points: np.ndarray) -> Rows:
        rows = interior(points)
        rows["f"] = sum_of_terms(c.terms, coefficients, waves_jet(solution, points), rows.get("a"))
        return rows | _edges(c, solution, rng, len(points))

    return _residual(c, solution, coefficients, everything(measured)), everything


def _draw_coefficients(choices: Choices, solution: Waves, measured: Rows, rng: np.random.Generator) -> np.ndarray:
    """Shares from 0.1 to 10 over the terms' sizes for the solution, such that they do not cancel."""
    jet, terms = waves_jet(solution, measured["interior"]), choices.terms
    parts = np.stack([term_of(name, jet, measured.get("a")) for name in terms])
    sizes = np.sqrt(np.mean(parts**2, axis=1))
    while True:
        shares = 10 ** rng.uniform(-1, 1, sizes.shape)
        signs = rng.choice([-1, 1], sizes.shape)
        for i, name in enumerate(terms):
            if name in ("u_0", "u_00", "u_11"):
                # Diffusion and not its reverse, waves that do not grow, and elliptic equations in the plane.
                signs[i] = -1 if choices.equation == "plane" or name == "u_11" else 1
        coefficients = signs * shares / sizes
        sums = np.sqrt(np.mean(np.einsum("io,ino->no", coefficients, parts) ** 2, axis=0))
        if np.all(sums > 0.3 * shares.max(axis=0)):
            return coefficients


def _edges(choices: Choices, solution: Waves, rng: np.random.Generator, rows: int) -> Rows:
    """Points at the start or on the boundary, and the values or slopes that are asked for there."""
    c, points = choices, rng.uniform(size=(rows, choices.num_axes))
    axis, side = rng.integers(c.num_axes, size=rows), rng.integers(2, size=rows)
    if c.equation == "evolution":
        side = np.where(axis == 0, 0, side)
    elif c.equation != "plane" and (c.slopes or "u_00" not in c.terms):
        side = np.zeros_like(side)
    points[np.arange(rows), axis] = side
    is_slope = side == 1 if c.equation == "plane" else (axis == 0) & (rng.random(rows) < 0.5)
    is_slope = is_slope & c.slopes
    # In the units of the solution's own slopes, so that values and slopes weigh alike.
    direction = np.eye(c.num_axes)[axis] * _column(is_slope) / (2 * math.pi * c.frequency)
    jet = waves_jet(solution, points)
    slopes = np.einsum("na,ano->no", direction, np.stack(jet.slopes))
    leaves = {"edge": points, "g": jet.value * _column(~is_slope) + slopes}
    return leaves | ({"direction": direction, "on_value": 1.0 - is_slope} if c.slopes else {})


def _residual(choices: Choices, solution: Waves, coefficients: np.ndarray, rows: Rows) -> Equation:
    """The scales of a loss of residuals: each part in units of the zero function's, and then the whole."""
    f, u, g = rows["f"], rows["u"], rows["g"]
    interior, edge = 1 / np.mean(np.sum(f**2, axis=1)), choices.weight / np.mean(np.sum(u**2, axis=1))
    zero = 1 + edge * np.mean(np.sum(g**2, axis=1))
    # Constant functions, each output with a value of its own.
    values = np.linspace(-2, 2, 41) * choices.amplitude
    constants = np.stack(np.meshgrid(*[values] * choices.num_outputs), axis=-1).reshape(-1, choices.num_outputs)
    nothing = (np.zeros_like(constants),) * choices.num_axes
    jet = Jet(constants, nothing, nothing)
    sides = sum_of_terms(choices.terms, coefficients, jet, np.zeros(len(constants)))
    on_value = _column(rows.get("on_value", np.ones(len(u))))
    losses = interior * _mean_squares(sides, f, np.ones_like(on_value)) + edge * _mean_squares(constants, g, on_value)
    return Equation(solution, coefficients, interior / zero, edge / zero, float(losses.min() / zero))


def _mean_squares(constants: np.ndarray, targets: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """mean over rows of sum over outputs of (factor constant - target)^2, for each of the constants [C, outputs]."""
    squares = np.mean(factors**2) * constants**2 - 2 * constants * np.mean(factors * targets, axis=0)
    return np.sum(squares + np.mean(targets**2, axis=0), axis=1)


def _energy(solution: Waves, share: float, rows: Rows) -> Equation:
    """An energy whose term q u^2 has that share of the other one's, for the solution."""
    u, slopes = rows["u"], np.mean(np.sum(rows["p"] * rows["u_slopes"] ** 2, axis=1))
    q = share * slopes / np.mean(u**2)
    zero = slopes + q * np.mean(u**2)
    return Equation(solution, np.array([[q]]), 1 / zero, 0.0, float(1 - q * np.mean(u) ** 2 / zero))


def _column(x: np.ndarray) -> np.ndarray:
    return np.asarray(x)[:, None]
