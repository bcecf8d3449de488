"""A physics-informed transformer for the heat equation in two dimensions: one network for many initial conditions.

The equation of `pinn_heat`, u_t = alpha (u_xx + u_yy) on the unit square with u = 0 at its edges, from random initial
conditions

    u_0(x, y) = sum_kl a_kl sin(k pi x) sin(l pi y),   a_kl ~ N(0, 2 / (k l)^2),   k, l = 1, 2

of which separation of variables gives the exact solution, each term times exp(-alpha pi^2 (k^2 + l^2) t). The network
is that of `pit_burgers`, whose tokens here are samples of u_0 on a grid of 5 x 5 inner points (Dos Santos,
Akhound-Sadegh & Ravanbakhsh 2023, "Physics-informed transformer networks", NeurIPS workshop, who solve the heat
equation too). The loss is that of `physics_informed`: no exact solution enters it. The metric is the relative L2 error
over initial conditions that were never trained on.
"""

import math

import numpy as np
from jaxtyping import Float

from tasks.base import Data, TaskFamily
from tasks.families.equations.pinn_heat import DIFFUSIVITY, heat_points, heat_residual
from tasks.families.equations.pit_burgers import PhysicsInformedTransformer, splits_of_conditions
from tasks.networks.physics_informed import physics_informed_family

NUM_MODES = 2
NUM_SENSORS = 5
"""Along each side."""

WAVE_NUMBERS = np.stack(np.meshgrid(*2 * [np.arange(1, NUM_MODES + 1)], indexing="ij"), axis=-1).reshape(-1, 2)
"""k and l of each term."""

MODE_SCALES = math.sqrt(2) / WAVE_NUMBERS.prod(axis=1)
UNINFORMED_LOSS = float(np.sum(MODE_SCALES**2) / 4)
"""Expected loss of the zero function: the mean of u_0^2. No other constant does better, for the mean of a_kl is 0."""


def heat_series(coefficients: Float[np.ndarray, "n modes"], points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
    """The exact solution at points (t, x, y), each for its own coefficients a_kl."""
    t, place = points[:, :1], points[:, 1:]
    modes = np.sin(math.pi * place[:, None] * WAVE_NUMBERS).prod(axis=-1)
    decay = np.exp(-DIFFUSIVITY * math.pi**2 * (WAVE_NUMBERS**2).sum(axis=1) * t)
    return (coefficients * decay * modes).sum(axis=1)


def sensor_places() -> Float[np.ndarray, "sensors 2"]:
    """Where the initial condition is sampled: a grid of inner points of the unit square."""
    side = np.arange(1, NUM_SENSORS + 1) / (NUM_SENSORS + 1)
    return np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)


def pit_heat_rows(num_conditions: int, queries: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """`queries` rows for each of `num_conditions` random initial conditions, at random points of the three kinds."""
    n = num_conditions * queries
    coefficients = np.repeat(MODE_SCALES * rng.normal(size=(num_conditions, len(MODE_SCALES))), queries, axis=0)
    rows = heat_points(rng.uniform(0, 1, (n, 3)), rng)
    places = np.insert(sensor_places(), 0, 0.0, axis=1)
    samples = [heat_series(coefficients, np.broadcast_to(place, (n, 3))) for place in places]
    rows["samples"] = np.stack(samples, axis=1)
    rows |= {f"u_{kind}": heat_series(coefficients, rows[kind]) for kind in ("initial", "interior")}
    return {name: leaf.astype(np.float32) for name, leaf in rows.items()}


def pit_heat_data(seed: int = 0) -> Data:
    """Each split has initial conditions of its own."""
    return splits_of_conditions(pit_heat_rows, seed)


def pit_heat(width: int = 32, name: str = "pit_heat") -> TaskFamily:
    """Solve the heat equation for any initial condition with one transformer.

    Args:
      width: of the embeddings; the MLP has twice as much.
      name: the family's name.

    Raises:
      ValueError: a width below 1.
    """
    if width < 1:
        raise ValueError(f"width={width}: use at least 1")
    model = PhysicsInformedTransformer(width, tuple((float(x), float(y)) for x, y in sensor_places()))

    return physics_informed_family(name, pit_heat_data(), model, heat_residual, UNINFORMED_LOSS, reads=("samples",))
