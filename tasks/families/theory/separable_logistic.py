"""Logistic regression on separable data, where zero error and small loss are different goals.

    z ~ N(0, I),   y = sign(z . u),   x = z + margin y u,   |u| = 1,   so that y x . u >= margin
    loss = mean log(1 + exp(-y x . w))

The loss has no minimiser: it goes to zero as w grows along a separating direction. With large steps gradient descent
separates the training set sooner while the loss is larger or even oscillates, and in the limit it is the batch
perceptron: Tyurin (2024, "From Logistic Regression to the Perceptron Algorithm", arXiv 2412.08424). So `metrics` has
`zero_one_error` beside the loss; the step at which it is zero over the training set is the one to compare.

Each task has its own u, in the configuration; the z are fixed (seed 0).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows

INIT_SCALE = 0.1


def separable_logistic(
    num_features: int = 32, margin: float = 0.1, num_train: int = 256, name: str = "separable_logistic"
) -> TaskFamily:
    """Linear classifier through the origin on Gaussian examples with a margin.

    Args:
      num_features: size of x.
      margin: least distance of an example from the teacher's plane, positive.
      num_train: training examples; the other splits have 512 each.
      name: the family's name.

    Raises:
      ValueError: no feature, or the margin is not positive.
    """
    if num_features < 1:
        raise ValueError(f"num_features={num_features}: use at least 1")
    if margin <= 0:
        raise ValueError(f"margin={margin}: use a positive value, or the data need not be separable")

    def sample(key: jax.Array) -> TaskConfig:
        direction = jax.random.normal(key, (num_features,), jnp.float32)
        return {"teacher": direction / jnp.linalg.norm(direction)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            return {"w": INIT_SCALE * num_features**-0.5 * jax.random.normal(key, (num_features,), jnp.float32)}

        def margins(params: Params, batch: Batch) -> Float[Array, " batch"]:
            """y x . w, where y x = y z + margin u."""
            teacher, z, w = task_config["teacher"].astype(batch["z"].dtype), batch["z"], params["w"]
            label = jnp.where(z @ teacher >= 0, 1.0, -1.0).astype(z.dtype)
            return label * (z @ w) + margin * (teacher @ w)

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            return jnp.mean(jax.nn.softplus(-margins(params, batch)))

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            y_times_output = margins(params, batch)
            return {
                "loss": jnp.mean(jax.nn.softplus(-y_times_output)),
                "zero_one_error": jnp.mean((y_times_output <= 0).astype(jnp.float32)),
            }

        return Task(init, loss, sample_batch, metrics)

    rng = np.random.default_rng(0)
    data = {
        split: {"z": rng.standard_normal((num_train if split == "train" else 512, num_features), np.float32)}
        for split in SPLITS
    }
    # Both labels are equally likely: output 0.
    return TaskFamily(name, data, sample, task, math.log(2), whole_rows)
