"""Matrix sensing: recover a low-rank matrix from linear measurements with more factors than it needs.

    y_i = <A_i, M>,   A_i [d, d] with independent N(0, 1) entries,   rank(M) = r < k,   |M|_F = 1
    symmetric:   M positive semidefinite,   M^ = X X^T,   X [d, k]
    asymmetric:  any M,                     M^ = F G^T,   F, G [d, k]
    loss = mean 1/2 (<A_i, M^> - y_i)^2,   expectation 1/2 |M^ - M|_F^2

With more factors than the rank (k > r) gradient descent from a small start converges as slowly as 1/T^2 for X X^T, but
exponentially for F G^T started with unequal factors: Xiong, Ding and Du (2023, "How Over-Parameterization Slows Down
Gradient Descent in Matrix Sensing", arXiv 2310.01769). Deviation: minibatches of the measurements.

Each task has its own M, in the configuration; the A_i are fixed (seed 0). `relative_error`, |M^ - M|_F / |M|_F, is what
the field reports and does not depend on the batch.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows


def matrix_sensing(
    size: int = 10,
    rank: int = 2,
    num_factors: int = 4,
    symmetric: bool = True,
    init_scale: float = 0.05,
    num_train: int = 512,
    name: str = "matrix_sensing",
) -> TaskFamily:
    """Fit X X^T (or F G^T) to measurements of a matrix of low rank.

    Args:
      size: d.
      rank: rank r of the truth.
      num_factors: columns k of each factor.
      symmetric: X X^T rather than F G^T.
      init_scale: standard deviation of the factors' initial entries; G starts at a third of it, as the fast rate needs
        factors of unequal size.
      num_train: training measurements; the other splits have 256 each.
      name: the family's name.

    Raises:
      ValueError: the rank is not in [1, d], there are fewer factors than the rank, or the scale is not positive.
    """
    if not 1 <= rank <= size:
        raise ValueError(f"rank={rank}: use a rank between 1 and size={size}")
    if num_factors < rank:
        raise ValueError(f"num_factors={num_factors}: use at least rank={rank}, or the truth is out of reach")
    if init_scale <= 0:
        raise ValueError(f"init_scale={init_scale}: use a positive value; zero is a saddle point")

    def sample(key: jax.Array) -> TaskConfig:
        left, right = jax.random.normal(key, (2, size, rank), jnp.float32)
        truth = left @ (left if symmetric else right).T
        return {"truth": truth / jnp.linalg.norm(truth)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            if symmetric:
                return {"x": init_scale * jax.random.normal(key, (size, num_factors), jnp.float32)}
            f, g = init_scale * jax.random.normal(key, (2, size, num_factors), jnp.float32)
            return {"f": f, "g": g / 3}

        def error(params: Params) -> Float[Array, "size size"]:
            left, right = (params["x"], params["x"]) if symmetric else (params["f"], params["g"])
            return left @ right.T - task_config["truth"].astype(left.dtype)

        def residual_loss(error: Float[Array, "size size"], batch: Batch) -> Float[Array, ""]:
            residuals = batch["sensing"].reshape(-1, size * size) @ error.reshape(-1)
            return 0.5 * jnp.mean(residuals**2)

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            return residual_loss(error(params), batch)

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            e = error(params)
            return {"loss": residual_loss(e, batch), "relative_error": jnp.linalg.norm(e)}

        return Task(init, loss, sample_batch, metrics)

    rng = np.random.default_rng(0)
    data = {
        split: {"sensing": rng.standard_normal((num_train if split == "train" else 256, size, size), np.float32)}
        for split in SPLITS
    }
    # The best constant guess is y = 0, as A and -A are equally likely; the labels have variance |M|_F^2 = 1.
    return TaskFamily(name, data, sample, task, 0.5, whole_rows)
