"""Random features regression, whose test error peaks where the width equals the number of examples.

    y = x . u + noise,   x ~ N(0, I),   |u| = 1,   f(x) = a . relu(W x) / sqrt(width),   W fixed, rows ~ N(0, I / d)
    loss = mean (f(x) - y)^2

Only `a` is trained. The interpolating solution of least norm, which gradient descent from zero reaches in the end,
has a test error that peaks at width = num_train and falls again beyond it (double descent: Belkin et al. 2019, arXiv
1812.11118; for these features Mei and Montanari 2019, arXiv 1908.05355). Near the peak the features are
ill-conditioned, so whether the peak shows at all depends on the optimizer: Liu and Flanigan (2023, arXiv 2312.03951).
Build families of several widths for the sweep.

Each task has its own u and W, in the configuration; inputs and noise are fixed (seed 0). `excess_risk`, the mean
squared distance to the noiseless x . u, is the test error that the field reports.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows

INIT_SCALE = 0.1


def features(directions: Float[Array, "width d"], x: Float[Array, "batch d"]) -> Float[Array, "batch width"]:
    """relu(W x) / sqrt(width)."""
    return jax.nn.relu(x @ directions.T) * directions.shape[0] ** -0.5


def random_features(
    width: int = 256,
    num_inputs: int = 16,
    noise_std: float = 0.3,
    num_train: int = 128,
    name: str = "random_features",
) -> TaskFamily:
    """Least squares on random ReLU features of a linear teacher.

    Args:
      width: number of features, and of parameters.
      num_inputs: size d of x.
      noise_std: standard deviation of the noise in every label (the labels' own is 1), not negative.
      num_train: training examples; the other splits have 512 each.
      name: the family's name.

    Raises:
      ValueError: no feature, no input, or a negative noise.
    """
    if width < 1 or num_inputs < 1:
        raise ValueError(f"width={width}, num_inputs={num_inputs}: use at least 1 of each")
    if noise_std < 0:
        raise ValueError(f"noise_std={noise_std}: use a value that is not negative")

    def sample(key: jax.Array) -> TaskConfig:
        teacher_key, features_key = jax.random.split(key)
        teacher = jax.random.normal(teacher_key, (num_inputs,), jnp.float32)
        return {
            "teacher": teacher / jnp.linalg.norm(teacher),
            "directions": jax.random.normal(features_key, (width, num_inputs), jnp.float32) * num_inputs**-0.5,
        }

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            return {"a": INIT_SCALE * jax.random.normal(key, (width,), jnp.float32)}

        def errors(params: Params, batch: Batch) -> Float[Array, " batch"]:
            """Distance to the noiseless label."""
            x = batch["x"]
            config = jax.tree.map(lambda leaf: leaf.astype(x.dtype), task_config)
            return features(config["directions"], x) @ params["a"] - x @ config["teacher"]

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            return jnp.mean((errors(params, batch) - noise_std * batch["white_noise"]) ** 2)

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            e = errors(params, batch)
            return {
                "loss": jnp.mean((e - noise_std * batch["white_noise"]) ** 2),
                "excess_risk": jnp.mean(e**2),
            }

        return Task(init, loss, sample_batch, metrics)

    rng = np.random.default_rng(0)
    sizes = {split: num_train if split == "train" else 512 for split in SPLITS}
    data = {
        split: {
            "x": rng.standard_normal((size, num_inputs), np.float32),
            "white_noise": rng.standard_normal(size, np.float32),
        }
        for split, size in sizes.items()
    }
    # The best constant guess is 0; labels have variance 1 + noise^2.
    return TaskFamily(name, data, sample, task, 1 + noise_std**2, whole_rows)
