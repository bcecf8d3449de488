"""Random quadratics with a known spectrum and gradient noise.

    loss(x; z) = 1/2 |Lambda^{1/2} Q'(x - x*) - s z|^2,   A = Q Lambda Q',   lambda_i = i^{-alpha}

    mean over z:   1/2 (x - x*)' A (x - x*) + floor,   floor = 1/2 s^2 mean |z|^2

The noise of a gradient, -s Q Lambda^{1/2} z, has covariance proportional to A, as in the noisy quadratic model of
neural networks (Zhang et al. 2019, arXiv 1907.04164), whose Hessians have power-law spectra too. Q is uniform over the
orthogonal group (Haar measure, by the QR decomposition of Mezzadri 2007, arXiv math-ph/0609050). The optimum is an
isotropic Gaussian scaled so that x = 0, the constant guess, has an excess loss of exactly 1; x starts near it.

The rows z of every split have mean exactly zero and mean squared length 1: the optimum of each split is x*, and the
loss there is the floor.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows

START = 0.1
"""Root mean square of the initial x relative to that of x*."""


def noise_rows(num_dims: int, num_rows: int, seed: int = 0) -> Data:
    """`{split: {"noise": float32[num_rows, num_dims]}}`, Gaussian, then centred and scaled as above."""
    rng = np.random.default_rng(seed)
    data = {}
    for split in SPLITS:
        rows = rng.standard_normal((num_rows, num_dims))
        rows -= rows.mean(axis=0)
        data[split] = {"noise": (rows / np.sqrt(np.mean(np.sum(rows**2, axis=1)))).astype(np.float32)}
    return data


def haar_orthogonal(key: jax.Array, num_dims: int) -> Float[Array, "n n"]:
    """A uniformly random orthogonal matrix."""
    q, r = jnp.linalg.qr(jax.random.normal(key, (num_dims, num_dims), jnp.float32))
    return q * jnp.sign(jnp.diagonal(r))[None]


def quadratics(
    num_dims: int = 32,
    exponents: tuple[float, float] = (1.0, 1.0),
    noise_floor: float = 0.01,
    num_rows: int = 1024,
    name: str = "quadratics",
) -> TaskFamily:
    """Minimise a random quadratic from noisy gradients.

    Args:
      num_dims: length of x.
      exponents: range of alpha, drawn uniformly; the condition number is num_dims^alpha.
      noise_floor: loss at the optimum, relative to the excess loss of x = 0; 0 for exact gradients.
      num_rows: rows of each split.
      name: the family's name.

    Raises:
      ValueError: num_dims or num_rows below 2, exponents out of order, or a noise floor below 0.
    """
    for argument, value in (("num_dims", num_dims), ("num_rows", num_rows)):
        if value < 2:
            raise ValueError(f"{argument}={value}: use at least 2")
    low, high = exponents
    if not low <= high:
        raise ValueError(f"exponents={exponents}: use low <= high")
    if not 0 <= noise_floor < math.inf:
        raise ValueError(f"noise_floor={noise_floor}: use at least 0")
    noise_scale = math.sqrt(2 * noise_floor)

    def sample(key: jax.Array) -> TaskConfig:
        exponent_key, rotation_key, optimum_key = jax.random.split(key, 3)
        exponent = jax.random.uniform(exponent_key, (), jnp.float32, low, high)
        eigenvalues = jnp.arange(1, num_dims + 1, dtype=jnp.float32) ** -exponent
        coordinates = jax.random.normal(optimum_key, (num_dims,), jnp.float32)
        coordinates = coordinates * jax.lax.rsqrt(0.5 * jnp.sum(eigenvalues * coordinates**2))
        rotation = haar_orthogonal(rotation_key, num_dims)
        return {"eigenvalues": eigenvalues, "rotation": rotation, "optimum": rotation @ coordinates}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            size = START * jnp.sqrt(jnp.mean(jnp.square(task_config["optimum"])))
            return {"x": size * jax.random.normal(key, (num_dims,), jnp.float32)}

        def residual(params: Params) -> Float[Array, "dims"]:
            x = params["x"]
            eigenvalues, rotation, optimum = (
                task_config[leaf].astype(x.dtype) for leaf in ("eigenvalues", "rotation", "optimum")
            )
            return jnp.sqrt(eigenvalues) * ((x - optimum) @ rotation)

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            return 0.5 * jnp.mean(jnp.sum((residual(params)[None] - noise_scale * batch["noise"]) ** 2, axis=1))

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            return {
                "loss": loss(params, jax.random.key(0), batch),
                "excess_loss": 0.5 * jnp.sum(residual(params) ** 2),
            }

        return Task(init, loss, sample_batch, metrics)

    return TaskFamily(name, noise_rows(num_dims, num_rows), sample, task, 1.0 + noise_floor, whole_rows)
