"""Quadratics over a matrix, with a known spectrum and little or much gradient noise.

    loss(X; Z) = 1/2 |A (X - X*) B - s Z|^2,   A = Q diag(i^{-alpha / 2}),   B = diag(j^{-beta / 2}) P'

    mean over Z:   1/2 |A (X - X*) B|^2 + floor,   floor = s^2 / 2

The Hessian is the Kronecker product of A'A and B B', as those of layers nearly are (Martens & Grosse 2015, arXiv
1503.05671), so that a matrix has directions that differ by (rows^alpha columns^beta) in curvature. X* has full or low
rank. With s = 0 the optimum can be approached without end, which shows optimizers whose steps do not shrink with the
gradient. X = 0 has an excess loss of exactly 1, and X starts near it.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows
from tasks.families.theory.quadratics import START, haar_orthogonal, noise_rows


def matrix_quadratics(
    rows: int = 24,
    columns: int = 12,
    exponents: tuple[float, float] = (0.0, 1.0),
    noise: tuple[float, float] = (1e-5, 0.3),
    ranks: tuple[int, int] = (1, 12),
    num_rows: int = 512,
    name: str = "matrix_quadratics",
) -> TaskFamily:
    """Minimise a random quadratic of a matrix from noisy gradients.

    Args:
      rows, columns: of X.
      exponents: range of alpha and of beta, drawn uniformly and apart.
      noise: range of s, drawn log-uniformly, positive.
      ranks: range of the rank of X*, drawn uniformly.
      num_rows: rows of each split.
      name: the family's name.

    Raises:
      ValueError: a size below 2, a range out of order, noise that is not positive, or ranks that no X* has.
    """
    for argument, value in (("rows", rows), ("columns", columns), ("num_rows", num_rows)):
        if value < 2:
            raise ValueError(f"{argument}={value}: use at least 2")
    if not exponents[0] <= exponents[1]:
        raise ValueError(f"exponents={exponents}: use low <= high")
    if not 0 < noise[0] <= noise[1] < math.inf:
        raise ValueError(f"noise={noise}: use 0 < low <= high")
    if not 1 <= ranks[0] <= ranks[1] <= min(rows, columns):
        raise ValueError(f"ranks={ranks}: use 1 <= low <= high <= {min(rows, columns)}, the smaller side")

    def sample(key: jax.Array) -> TaskConfig:
        keys = jax.random.split(key, 8)
        alpha, beta = (jax.random.uniform(k, (), jnp.float32, *exponents) for k in keys[:2])
        left = haar_orthogonal(keys[2], rows) * _roots(rows, alpha)[None]
        right = _roots(columns, beta)[:, None] * haar_orthogonal(keys[3], columns).T
        rank = jax.random.randint(keys[4], (), ranks[0], ranks[1] + 1)
        kept = (jnp.arange(columns) < rank).astype(jnp.float32)
        factor = jax.random.normal(keys[5], (rows, columns)) * kept[None]
        optimum = factor @ jax.random.normal(keys[6], (columns, columns))
        optimum = optimum * jax.lax.rsqrt(0.5 * jnp.sum(jnp.square(left @ optimum @ right)))
        log_noise = jax.random.uniform(keys[7], (), jnp.float32, math.log(noise[0]), math.log(noise[1]))
        return {"left": left, "right": right, "optimum": optimum, "noise": jnp.exp(log_noise)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            size = START * jnp.sqrt(jnp.mean(jnp.square(task_config["optimum"])))
            return {"x": size * jax.random.normal(key, (rows, columns), jnp.float32)}

        def residual(params: Params) -> Float[Array, "rows columns"]:
            x = params["x"]
            left, right, optimum = (task_config[leaf].astype(x.dtype) for leaf in ("left", "right", "optimum"))
            return left @ (x - optimum) @ right

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            noise = batch["noise"].reshape(-1, rows, columns) * task_config["noise"].astype(batch["noise"].dtype)
            return 0.5 * jnp.mean(jnp.sum((residual(params)[None] - noise) ** 2, axis=(1, 2)))

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            return {
                "loss": loss(params, jax.random.key(0), batch),
                "excess_loss": 0.5 * jnp.sum(residual(params) ** 2),
            }

        return Task(init, loss, sample_batch, metrics)

    return TaskFamily(name, noise_rows(rows * columns, num_rows), sample, task, 1.0, whole_rows)


def _roots(size: int, exponent: Float[Array, ""]) -> Float[Array, "size"]:
    return jnp.arange(1, size + 1, dtype=jnp.float32) ** (-exponent / 2)
