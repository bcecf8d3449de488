"""Poisson's equation on a grid as a quadratic: ill-conditioned, with every eigenvalue known.

    A = five-point Laplacian on n x n inner points, zero on the boundary:  (A x)_ij = 4 x_ij - sum of the 4 neighbours
    eigenvalues  4 - 2 cos(j pi / (n + 1)) - 2 cos(k pi / (n + 1)),  j, k = 1..n,  condition number ~ 4 n^2 / pi^2
    loss = mean 1/2 (x - x*)^T A (x - x*) - noise^T x,   A x* = b

which is 1/2 x^T A x - (b + noise)^T x plus the constant that makes the least value 0 for b alone. b is white noise,
scaled such that x = 0 has loss 1. The examples of a batch differ in the noise of the right-hand side, which makes the
gradient stochastic; its mean over each split is zero, so whole splits give the exact energy. Linear systems of this
kind as learned problems: Kaneda et al. (2022, "A Deep Conjugate Direction Method for Iteratively Solving Linear
Systems", arXiv 2205.10763).

Each task has its own b, in the configuration through x*; the noise is fixed (seed 0). `relative_residual`,
|b - A x| / |b|, is what the field reports.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows

INIT_SCALE = 0.01


def apply_laplacian(x: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """A x."""
    p = jnp.pad(x, 1)
    return 4 * x - p[:-2, 1:-1] - p[2:, 1:-1] - p[1:-1, :-2] - p[1:-1, 2:]


def laplacian_eigenvalues(grid_size: int) -> Float[np.ndarray, "n n"]:
    """Eigenvalue of the mode sin(j pi s) sin(k pi t) at [j - 1, k - 1], in float64."""
    one_dimension = 2 - 2 * np.cos(np.arange(1, grid_size + 1) * np.pi / (grid_size + 1))
    return one_dimension[:, None] + one_dimension[None, :]


def condition_number(grid_size: int) -> float:
    """Largest eigenvalue over smallest: cot^2(pi / (2 (n + 1)))."""
    return 1 / math.tan(math.pi / (2 * (grid_size + 1))) ** 2


def solve_poisson(b: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """A^-1 b by the sine transform, whose matrix S is its own inverse and holds A's eigenvectors."""
    n = b.shape[0]
    modes = jnp.arange(1, n + 1, dtype=b.dtype)
    s = math.sqrt(2 / (n + 1)) * jnp.sin(modes[:, None] * modes[None, :] * (math.pi / (n + 1)))
    return s @ ((s @ b @ s) / laplacian_eigenvalues(n).astype(b.dtype)) @ s


def poisson_quadratic(grid_size: int = 16, noise_std: float = 0.05, name: str = "poisson_quadratic") -> TaskFamily:
    """Minimise the energy of Poisson's equation on a square.

    Args:
      grid_size: n; the parameters are the n^2 values on the inner points.
      noise_std: standard deviation of the noise in one example's right-hand side; 0 makes the gradient exact.
      name: the family's name.

    Raises:
      ValueError: fewer than two points a side, or a negative noise.
    """
    if grid_size < 2:
        raise ValueError(f"grid_size={grid_size}: use at least 2 points a side")
    if noise_std < 0:
        raise ValueError(f"noise_std={noise_std}: use a value that is not negative")

    def sample(key: jax.Array) -> TaskConfig:
        b = jax.random.normal(key, (grid_size, grid_size), jnp.float32)
        solution = solve_poisson(b)
        return {"solution": solution * jax.lax.rsqrt(0.5 * jnp.sum(solution * b))}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            return {"x": INIT_SCALE * jax.random.normal(key, (grid_size, grid_size), jnp.float32)}

        def mean_loss(params: Params, batch: Batch) -> Float[Array, ""]:
            x = params["x"]
            error = x - task_config["solution"].astype(x.dtype)
            energy = 0.5 * jnp.sum(error * apply_laplacian(error))
            return energy - jnp.sum(jnp.mean(batch["noise"], axis=0) * x)

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            return mean_loss(params, batch)

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            x = params["x"]
            solution = task_config["solution"].astype(x.dtype)
            residual = jnp.linalg.norm(apply_laplacian(x - solution)) / jnp.linalg.norm(apply_laplacian(solution))
            return {"loss": mean_loss(params, batch), "relative_residual": residual}

        return Task(init, loss, sample_batch, metrics)

    rng = np.random.default_rng(0)
    data = {}
    for split in SPLITS:
        noise = noise_std * rng.standard_normal((512 if split == "train" else 128, grid_size, grid_size), np.float32)
        data[split] = {"noise": (noise - noise.mean(axis=0)).astype(np.float32)}
    # The best constant guess is the zero field, as b and -b are equally likely.
    return TaskFamily(name, data, sample, task, 1.0, whole_rows)
