"""From lazy to rich training: a quadratic target, and a network whose laziness is an argument.

    y = ((b . x)^2 - 1) / 2,   x ~ N(0, I_D),   |b| = 1
    f(x) = alpha / N sum_i s_i phi(w_i . x),   phi(h) = h + eps h^2 / 2,   s_i = +1 or -1, half of each
    loss = mean (f(x) - y)^2 / alpha^2

With a large alpha the weights hardly move while f changes, so that training is kernel regression with the features
of the start; with a small one they must grow along b to be of use (Chizat, Oyallon & Bach 2019, arXiv 1812.07956).
Kumar, Bordelon, Gershman & Pehlevan (2024, arXiv 2310.06110) train this network on this polynomial and explain
grokking by a late passage from the first to the second. Deviations: the mean of the target is subtracted, so that 0
is the best constant; and units come in pairs of equal weights and opposite signs at the start, so that f starts at 0,
which they reach by subtracting the initial network. w_i ~ N(0, I_D / D).

Each task has its own b, in the configuration; the inputs are fixed (seed 0), fewer than the D (D + 1) / 2 that a kernel
needs. Metrics: `mse`, the loss in the units of y, and `alignment`, sum (w_i . b)^2 / sum |w_i|^2, which is 1 / D at the
start on average and 1 where all units look along b.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows


def lazy_to_rich(
    alpha: float = 1.0,
    curvature: float = 0.5,
    num_features: int = 24,
    width: int = 64,
    num_train: int = 192,
    name: str = "lazy_to_rich",
) -> TaskFamily:
    """Fit a quadratic polynomial.

    Args:
      alpha: laziness, positive: large for a kernel, small for features that are learned.
      curvature: eps, of the activation; without it the network is linear.
      num_features: D.
      width: units N, even.
      num_train: training examples; the other splits have 512 each.
      name: the family's name.

    Raises:
      ValueError: alpha or the curvature is not positive, an odd width, or a size below 1.
    """
    if alpha <= 0 or curvature <= 0:
        raise ValueError(f"alpha={alpha}, curvature={curvature}: use positive values")
    if width < 2 or width % 2:
        raise ValueError(f"width={width}: use an even number, as units come in pairs")
    if num_features < 1 or num_train < 1:
        raise ValueError(f"num_features={num_features}, num_train={num_train}: use at least 1 of each")

    def sample(key: jax.Array) -> TaskConfig:
        direction = jax.random.normal(key, (num_features,), jnp.float32)
        return {"direction": direction / jnp.linalg.norm(direction)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            half = jax.random.normal(key, (num_features, width // 2), jnp.float32) * num_features**-0.5
            return {"hidden": jnp.concatenate([half, half], axis=1)}

        def mse(params: Params, batch: Batch) -> Float[Array, ""]:
            x = batch["x"]
            h = x @ params["hidden"]
            positive, negative = jnp.split(h + 0.5 * curvature * h**2, 2, axis=1)
            y = 0.5 * ((x @ task_config["direction"].astype(x.dtype)) ** 2 - 1)
            return jnp.mean((alpha / width * jnp.sum(positive - negative, axis=1) - y) ** 2)

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            return mse(params, batch) / alpha**2

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            error = mse(params, batch)
            along = task_config["direction"].astype(params["hidden"].dtype) @ params["hidden"]
            alignment = jnp.sum(along**2) / jnp.sum(params["hidden"] ** 2)
            return {"loss": error / alpha**2, "mse": error, "alignment": alignment}

        return Task(init, loss, sample_batch, metrics)

    rng = np.random.default_rng(0)
    data = {
        split: {"x": rng.standard_normal((num_train if split == "train" else 512, num_features), np.float32)}
        for split in SPLITS
    }
    # The best constant guess is 0, and y has variance Var((b . x)^2) / 4 = 1 / 2.
    return TaskFamily(name, data, sample, task, 0.5 / alpha**2, whole_rows)
