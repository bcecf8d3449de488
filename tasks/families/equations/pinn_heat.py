"""A physics-informed network for the heat equation in two dimensions.

    u_t = alpha (u_xx + u_yy)  on t in [0, 1], (x, y) in [0, 1]^2,   u = 0 at the edges of the square

from u(0, x, y) = sin(pi x) sin(2 pi y), of which separation of variables gives the exact solution

    u(t, x, y) = exp(-alpha pi^2 (1 + 4) t) sin(pi x) sin(2 pi y),

a product of a function of each coordinate (e.g. Evans 2010, "Partial differential equations", section 4.1). With
alpha = 0.02 it decays to 0.37 at t = 1. The metric is the relative L2 error. Loss and network: `physics_informed`.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import Data, TaskFamily
from tasks.networks.physics_informed import (
    Solution,
    coordinate_network,
    first_derivative,
    physics_informed_family,
    second_derivative,
)

DIFFUSIVITY = 0.02
WAVE_NUMBERS = (math.pi, 2 * math.pi)
NUM_ROWS = {"train": 8192, "inner_valid": 2048, "outer_valid": 2048}
TEST_GRID = (9, 21, 21)
"""Numbers of times in [0, 1] and of places along x and y."""

UNINFORMED_LOSS = 0.25
"""Loss of the zero function: the mean of u_0^2. No other constant does better, for the mean of u_0 is 0."""


def heat_residual(
    u: Solution, points: Float[Array, "batch points dim"], diffusivity: float = DIFFUSIVITY
) -> Float[Array, "batch points"]:
    """u_t - alpha (u_xx + u_yy) at points (t, x, y)."""
    # One vmapped product rather than one product for each axis: half the operations to compile.
    curvatures = jax.vmap(lambda axis: second_derivative(u, points, axis)[2])(jnp.arange(1, 3))
    return first_derivative(u, points, axis=0) - diffusivity * jnp.sum(curvatures, axis=0)


def heat_solution(points: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n"]:
    """The exact solution at points (t, x, y)."""
    t, x, y = points.T
    kx, ky = WAVE_NUMBERS
    return np.exp(-DIFFUSIVITY * (kx**2 + ky**2) * t) * np.sin(kx * x) * np.sin(ky * y)


def heat_points(interior: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """`interior` [n, 3], and as many random points of the other two kinds."""
    n = len(interior)
    initial, boundary = rng.uniform(0, 1, (2, n, 3))
    initial[:, 0] = 0
    # Each boundary point is moved to one of the four edges.
    boundary[np.arange(n), rng.integers(1, 3, n)] = rng.integers(0, 2, n)
    return {"interior": interior, "initial": initial, "boundary": boundary}


def heat_rows(interior: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One row for each interior point: the exact solution there, and random points of the other two kinds."""
    rows = heat_points(interior, rng)
    rows |= {f"u_{kind}": heat_solution(rows[kind]) for kind in ("initial", "interior")}
    return {name: leaf.astype(np.float32) for name, leaf in rows.items()}


def heat_data(seed: int = 0) -> Data:
    """Random collocation points for all splits but `test`, whose interior points are a regular grid."""
    rng = np.random.default_rng(seed)
    data = {split: heat_rows(rng.uniform(0, 1, (n, 3)), rng) for split, n in NUM_ROWS.items()}
    grid = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in TEST_GRID), indexing="ij"), axis=-1)
    return data | {"test": heat_rows(grid.reshape(-1, 3), rng)}


def pinn_heat(hidden_sizes: Sequence[int] = (32, 32, 32), name: str = "pinn_heat") -> TaskFamily:
    """Solve the heat equation with a tanh network of (t, x, y).

    Args:
      hidden_sizes: widths of the hidden layers.
      name: the family's name.

    Raises:
      ValueError: no hidden layer, or a width below 1.
    """
    model = coordinate_network(hidden_sizes, lower=(0.0, 0.0, 0.0), upper=(1.0, 1.0, 1.0))
    return physics_informed_family(name, heat_data(), model, heat_residual, UNINFORMED_LOSS)
