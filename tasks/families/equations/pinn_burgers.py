"""A physics-informed network for the viscous Burgers equation in one dimension.

    u_t + u u_x = nu u_xx  on t in [0, 1], x in [-1, 1],   u(0, x) = -sin(pi x),   u(t, -1) = u(t, 1) = 0

with nu = 0.01 / pi, where a steep front forms at x = 0: the example of Raissi, Perdikaris & Karniadakis (2019, JCP
378), here with 4 tanh layers of 32. The metric is the relative L2 error against the exact solution (`cole_hopf`), at
random points of its own for each validation split and on a regular grid for `test`.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float

from tasks.base import Data, TaskFamily
from tasks.networks.cole_hopf import burgers_solution, sine_series
from tasks.networks.physics_informed import (
    Solution,
    coordinate_network,
    first_derivative,
    physics_informed_family,
    second_derivative,
)

VISCOSITY = 0.01 / math.pi
LOWER, UPPER = (0.0, -1.0), (1.0, 1.0)
"""Corners of the box of (t, x)."""
NUM_ROWS = {"train": 8192, "inner_valid": 2048, "outer_valid": 2048}
TEST_GRID = (33, 127)
"""Numbers of times in [0, 1] and of places in [-1, 1]."""

UNINFORMED_LOSS = 0.5
"""Loss of the zero function: the mean of sin(pi x)^2. No other constant does better, for the mean of u_0 is 0."""


def burgers_residual(
    u: Solution, points: Float[Array, "batch points dim"], viscosity: float = VISCOSITY
) -> Float[Array, "batch points"]:
    """u_t + u u_x - nu u_xx at points (t, x)."""
    value, slope, curvature = second_derivative(u, points, axis=1)
    return first_derivative(u, points, axis=0) + value * slope - viscosity * curvature


def burgers_rows(t: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One row for each interior point (t, x): the exact solution there, and random points of the other two kinds."""
    n = len(t)
    x_initial = rng.uniform(-1, 1, n)
    minus_sine = np.full((n, 1), -1.0)
    rows = {
        "interior": np.stack([t, x], axis=1),
        "initial": np.stack([np.zeros(n), x_initial], axis=1),
        "boundary": np.stack([rng.uniform(0, 1, n), rng.choice([-1.0, 1.0], n)], axis=1),
        "u_initial": sine_series(minus_sine, x_initial),
        "u_interior": burgers_solution(t, x, minus_sine, VISCOSITY),
    }
    return {name: leaf.astype(np.float32) for name, leaf in rows.items()}


def burgers_data(seed: int = 0) -> Data:
    """Random collocation points for all splits but `test`, whose interior points are a regular grid."""
    rng = np.random.default_rng(seed)
    data = {split: burgers_rows(rng.uniform(0, 1, n), rng.uniform(-1, 1, n), rng) for split, n in NUM_ROWS.items()}
    t, x = np.meshgrid(np.linspace(0, 1, TEST_GRID[0]), np.linspace(-1, 1, TEST_GRID[1]), indexing="ij")
    return data | {"test": burgers_rows(t.ravel(), x.ravel(), rng)}


def pinn_burgers(hidden_sizes: Sequence[int] = (32, 32, 32, 32), name: str = "pinn_burgers") -> TaskFamily:
    """Solve the Burgers equation with a tanh network of (t, x).

    Args:
      hidden_sizes: widths of the hidden layers.
      name: the family's name.

    Raises:
      ValueError: no hidden layer, or a width below 1.
    """
    model = coordinate_network(hidden_sizes, lower=LOWER, upper=UPPER)
    return physics_informed_family(name, burgers_data(), model, burgers_residual, UNINFORMED_LOSS)
