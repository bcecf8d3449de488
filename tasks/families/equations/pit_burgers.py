"""A physics-informed transformer for the Burgers equation: one network for many initial conditions.

The equation of `pinn_burgers`, with nu = 0.05 / pi, from random initial conditions

    u_0(x) = sum_k a_k sin(k pi x),   a_k ~ N(0, 1 / k^2),   k = 1..3.

Samples of u_0 at 32 places, with Fourier features of the place, are the tokens. A query (t, x) attends to them
(one head of cross-attention), a residual MLP follows, and a linear layer gives u(t, x). The loss is that of
`physics_informed`: no exact solution enters it. The metric is the relative L2 error over initial conditions that were
never trained on, against `cole_hopf`.

After physics-informed transformers (Dos Santos, Akhound-Sadegh & Ravanbakhsh 2023, "Physics-informed transformer
networks", NeurIPS workshop), in which query points attend to samples of the initial condition. Sizes, Fourier
features and the distribution of initial conditions are this file's choices; without normalisation layers,
because each would be differentiated three times.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import Data, TaskFamily
from tasks.families.equations.pinn_burgers import burgers_residual
from tasks.networks.cole_hopf import burgers_solution, sine_series
from tasks.networks.physics_informed import Solution, physics_informed_family

VISCOSITY = 0.05 / math.pi
NUM_MODES = 3
NUM_SENSORS = 32
NUM_FREQUENCIES = 3
TRAIN_ROWS = 8192
QUERIES = 32
NUM_CONDITIONS = {"inner_valid": 64, "outer_valid": 64, "test": 128}
"""Initial conditions of each evaluation split, each with `QUERIES` queries; every training row has its own."""

MODE_SCALES = 1 / np.arange(1, NUM_MODES + 1)
UNINFORMED_LOSS = float(np.sum(MODE_SCALES**2) / 2)
"""Expected loss of the zero function: the mean of u_0^2. No other constant does better, for the mean of u_0 is 0."""


class PhysicsInformedTransformer(nn.Module):
    """u(points) [B, P], where the points of row b attend to row b of `samples` of the initial condition.

    Attributes:
      width: of the embeddings.
      places: where the initial condition is sampled, a tuple of coordinates for each sample.
    """

    width: int
    places: tuple[tuple[float, ...], ...]

    @nn.compact
    def __call__(
        self, points: Float[Array, "batch points dim"], samples: Float[Array, "batch sensors"]
    ) -> Float[Array, "batch points"]:
        x = points[..., 1:]
        h = jnp.tanh(nn.Dense(self.width, name="embed_query")(jnp.concatenate([points, fourier_features(x)], axis=-1)))

        # A token is (sample, features of its place) and keys and values are linear in it, so that they need not be
        # formed: the key matrix is applied to the query, and the value matrix to the mean token. What depends on the
        # place alone is then one matrix for the whole batch.
        places = fourier_features(jnp.asarray(self.places, samples.dtype))
        token_size = 1 + places.shape[1]
        lecun = nn.initializers.lecun_normal()
        key_matrix = self.param("key", lecun, (token_size, self.width))
        value_matrix = self.param("value", lecun, (token_size, self.width))
        query = nn.Dense(self.width, name="query")(h) @ key_matrix.T * self.width**-0.5
        scores = query[..., :1] * samples[:, None] + query[..., 1:] @ places.T
        weights = jax.nn.softmax(scores)
        mean_sample = jnp.sum(weights * samples[:, None], axis=-1, keepdims=True)
        h = h + jnp.concatenate([mean_sample, weights @ places], axis=-1) @ value_matrix

        h = h + nn.Dense(self.width, name="mlp_down")(jnp.tanh(nn.Dense(2 * self.width, name="mlp_up")(h)))
        near_zero = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        return nn.Dense(1, kernel_init=near_zero, name="out")(h)[..., 0]


def sensor_places() -> Float[np.ndarray, "sensors"]:
    """Where the initial condition is sampled: the midpoints of equal intervals of [-1, 1]."""
    return (2 * np.arange(NUM_SENSORS) + 1) / NUM_SENSORS - 1


def fourier_features(x: Float[Array, "*n dim"]) -> Float[Array, "*n features"]:
    """sin(k pi x) and cos(k pi x) of each coordinate, k = 1..NUM_FREQUENCIES."""
    angles = jnp.concatenate([k * math.pi * x for k in range(1, NUM_FREQUENCIES + 1)], axis=-1)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def pit_rows(num_conditions: int, queries: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """`queries` rows for each of `num_conditions` random initial conditions, at random points of the three kinds."""
    n = num_conditions * queries
    coefficients = np.repeat(MODE_SCALES * rng.normal(size=(num_conditions, NUM_MODES)), queries, axis=0)
    t, x, x_initial = rng.uniform(0, 1, n), rng.uniform(-1, 1, n), rng.uniform(-1, 1, n)
    rows = {
        "interior": np.stack([t, x], axis=1),
        "initial": np.stack([np.zeros(n), x_initial], axis=1),
        "boundary": np.stack([rng.uniform(0, 1, n), rng.choice([-1.0, 1.0], n)], axis=1),
        "samples": sine_series(coefficients[:, None, :], np.broadcast_to(sensor_places(), (n, NUM_SENSORS))),
        "u_initial": sine_series(coefficients, x_initial),
        "u_interior": burgers_solution(t, x, coefficients, VISCOSITY),
    }
    return {name: leaf.astype(np.float32) for name, leaf in rows.items()}


def splits_of_conditions(
    make_rows: Callable[[int, int, np.random.Generator], dict[str, np.ndarray]], seed: int = 0
) -> Data:
    """Each split has initial conditions of its own, from (number of them, queries of each, generator) -> rows."""
    rng = np.random.default_rng(seed)
    data = {"train": make_rows(TRAIN_ROWS, 1, rng)}
    return data | {split: make_rows(n, QUERIES, rng) for split, n in NUM_CONDITIONS.items()}


def pit_data(seed: int = 0) -> Data:
    """`pit_rows` for every split."""
    return splits_of_conditions(pit_rows, seed)


def pit_burgers(width: int = 32, name: str = "pit_burgers") -> TaskFamily:
    """Solve the Burgers equation for any initial condition with one transformer.

    Args:
      width: of the embeddings; the MLP has twice as much.
      name: the family's name.

    Raises:
      ValueError: a width below 1.
    """
    if width < 1:
        raise ValueError(f"width={width}: use at least 1")
    model = PhysicsInformedTransformer(width, tuple((float(x),) for x in sensor_places()))

    def residual(u: Solution, points: jax.Array) -> jax.Array:
        return burgers_residual(u, points, VISCOSITY)

    return physics_informed_family(name, pit_data(), model, residual, UNINFORMED_LOSS, reads=("samples",))
