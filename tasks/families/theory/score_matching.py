"""Denoising score matching on mixtures of Gaussians in the plane.

    x_0 ~ 1/K sum_k N(mu_k, component_std^2 I),   x_t = a_t x_0 + s_t e,   e ~ N(0, I)
    a_t = cos(pi t / 2),   s_t = sin(pi t / 2),   t on a fixed grid (i + 1/2) / num_times
    loss = mean s_t^2 |score(x_t, t) + e / s_t|^2,   score = network(x_t, a_t, s_t) / s_t

Up to a constant this is the squared distance to the true score, the gradient of log p_t: Vincent (2011, "A Connection
Between Score Matching and Denoising Autoencoders"). The weight s_t^2 is that of Song et al. (2021, arXiv 2011.13456);
networks trained on this loss by gradient descent: Han, Razaviyayn and Xu (2024, arXiv 2401.15604). Here p_t is again a
mixture, with means a_t mu_k and variance a_t^2 component_std^2 + s_t^2, so `score_error`, the mean of
s_t^2 |score - grad log p_t|^2, is exact on the batch. It is 0 for the true score, which the loss is not.

Each task has its own means, in the configuration; the random numbers of the examples are fixed (seed 0), one time of
the grid to each example, every time equally often.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows

NUM_EXAMPLES = {"train": 4096, "inner_valid": 1024, "outer_valid": 1024, "test": 1024}


class ScoreNetwork(nn.Module):
    """Points [B, 2] and (a_t, s_t) [B, 2] -> s_t times the score [B, 2]."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch 2"], time: Float[Array, "batch 2"]) -> Float[Array, "batch 2"]:
        h = nn.silu(nn.Dense(self.width)(jnp.concatenate([x, time], axis=-1)))
        h = nn.silu(nn.Dense(self.width)(h))
        return nn.Dense(2)(h)


def mixture_score(
    x: Float[Array, "batch 2"], means: Float[Array, "batch components 2"], variance: Float[Array, " batch"]
) -> Float[Array, "batch 2"]:
    """Gradient of log 1/K sum_k N(x; mean_k, variance I) at each x."""
    to_means = means - x[:, None, :]
    responsibility = jax.nn.softmax(-0.5 * jnp.sum(to_means**2, axis=-1) / variance[:, None], axis=-1)
    return jnp.sum(responsibility[..., None] * to_means, axis=1) / variance[:, None]


def score_matching(
    num_components: int = 4,
    component_std: float = 0.2,
    num_times: int = 8,
    width: int = 32,
    name: str = "score_matching",
) -> TaskFamily:
    """Learn the score of a noised mixture.

    Args:
      num_components: K; the means are drawn from N(0, 1.5^2 I).
      component_std: standard deviation of each component, positive.
      num_times: points of the grid of t in (0, 1).
      width: of both hidden layers.
      name: the family's name.

    Raises:
      ValueError: a count below 1, or a standard deviation that is not positive.
    """
    if min(num_components, num_times, width) < 1:
        raise ValueError(f"{num_components=}, {num_times=}, {width=}: use at least 1 of each")
    if component_std <= 0:
        raise ValueError(f"component_std={component_std}: use a positive value")
    model = ScoreNetwork(width)

    def sample(key: jax.Array) -> TaskConfig:
        return {"means": 1.5 * jax.random.normal(key, (num_components, 2), jnp.float32)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            spec = jax.ShapeDtypeStruct((1, 2), "float32")
            return model.lazy_init(key, spec, spec)["params"]

        def noised(batch: Batch) -> tuple[jax.Array, jax.Array]:
            """x_t [B, 2] and (a_t, s_t) [B, 2]."""
            z, e = batch["z"], batch["e"]
            angle = (batch["time_index"].astype(z.dtype) + 0.5) * (0.5 * math.pi / num_times)
            time = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
            component = jax.nn.one_hot(batch["component"], num_components, dtype=z.dtype)
            x = component @ task_config["means"].astype(z.dtype) + component_std * z
            return time[:, :1] * x + time[:, 1:] * e, time

        def apply(params: Params, x: jax.Array, time: jax.Array) -> jax.Array:
            return model.apply({"params": params}, x, time)  # pyright: ignore[reportReturnType]

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            return jnp.mean(jnp.sum((apply(params, *noised(batch)) + batch["e"]) ** 2, axis=-1))

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            x, time = noised(batch)
            a, s = time[:, 0], time[:, 1]
            output = apply(params, x, time)
            means = a[:, None, None] * task_config["means"].astype(x.dtype)[None]
            truth = mixture_score(x, means, a**2 * component_std**2 + s**2)
            return {
                "loss": jnp.mean(jnp.sum((output + batch["e"]) ** 2, axis=-1)),
                "score_error": jnp.mean(jnp.sum((output - s[:, None] * truth) ** 2, axis=-1)),
            }

        return Task(init, loss, sample_batch, metrics)

    # The best constant guess of -e is 0; E |e|^2 = 2.
    return TaskFamily(name, examples(num_components, num_times), sample, task, 2.0, whole_rows)


def examples(num_components: int, num_times: int) -> Data:
    """The random numbers of each example; times in turn."""
    rng = np.random.default_rng(0)
    return {
        split: {
            "component": rng.integers(0, num_components, NUM_EXAMPLES[split], np.int32),
            "time_index": np.arange(NUM_EXAMPLES[split], dtype=np.int32) % num_times,
            "z": rng.standard_normal((NUM_EXAMPLES[split], 2), np.float32),
            "e": rng.standard_normal((NUM_EXAMPLES[split], 2), np.float32),
        }
        for split in SPLITS
    }
