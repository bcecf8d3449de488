"""Regression on coordinates: a network learns a smooth random function of the plane, without noise.

    y(x) = sum_i a_i cos(w_i . x + b_i) / spread,   w_i ~ N(0, f^2 I),   loss = mean |network(x) - y(x)|^2

Networks of coordinates (Sitzmann et al. 2020, arXiv 2006.09661; Tancik et al. 2020, arXiv 2006.10739) fit low
frequencies first and go on for ever: losses fall over decades, gradients hardly have noise, and curvatures differ
widely. Frequencies f are drawn per task; the best constant has a loss of 1. Points are drawn afresh for every batch,
the splits are fixed grids of random points.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows

_NUM_WAVES = 16


def points(num_rows: int, seed: int = 0) -> Data:
    """`{split: {"x": float32[num_rows, 2]}}`, uniform in [-1, 1]^2."""
    rng = np.random.default_rng(seed)
    return {split: {"x": rng.uniform(-1, 1, (num_rows, 2)).astype(np.float32)} for split in SPLITS}


def coordinate_regression(
    hidden_sizes: tuple[int, ...] = (32, 32),
    frequencies: tuple[float, float] = (1.0, 3.0),
    num_rows: int = 4096,
    name: str = "coordinate_regression",
) -> TaskFamily:
    """Learn a random function of the plane.

    Args:
      hidden_sizes: widths of the tanh network.
      frequencies: range of f, drawn uniformly.
      num_rows: points of each split.
      name: the family's name.

    Raises:
      ValueError: no hidden layer, a size below 1, or frequencies that are out of order or not positive.
    """
    if not hidden_sizes or min((*hidden_sizes, num_rows)) < 1:
        raise ValueError(
            f"hidden_sizes={hidden_sizes}, num_rows={num_rows}: use at least one layer, sizes of 1 and more"
        )
    if not 0 < frequencies[0] <= frequencies[1]:
        raise ValueError(f"frequencies={frequencies}: use 0 < low <= high")
    sizes = (2, *hidden_sizes, 1)

    def sample(key: jax.Array) -> TaskConfig:
        scale_key, wave_key, phase_key, amplitude_key = jax.random.split(key, 4)
        frequency = jax.random.uniform(scale_key, (), jnp.float32, *frequencies)
        config = {
            "waves": frequency * jax.random.normal(wave_key, (2, _NUM_WAVES)),
            "phases": jax.random.uniform(phase_key, (_NUM_WAVES,), jnp.float32, 0, 2 * jnp.pi),
            "amplitudes": jax.random.normal(amplitude_key, (_NUM_WAVES,)),
            "mean": jnp.float32(0),
        }
        grid = jnp.stack(jnp.meshgrid(*2 * [jnp.linspace(-1, 1, 24)]), axis=-1).reshape(-1, 2)
        values = _target(config, grid)
        config["amplitudes"] = config["amplitudes"] / jnp.std(values)
        config["mean"] = jnp.mean(values) / jnp.std(values)
        return config

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            params = {}
            for i, layer_key in enumerate(jax.random.split(key, len(sizes) - 1)):
                fan_in, fan_out = sizes[i], sizes[i + 1]
                params[f"w{i}"] = fan_in**-0.5 * jax.random.normal(layer_key, (fan_in, fan_out), jnp.float32)
                params[f"b{i}"] = jnp.zeros(fan_out)
            return params

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            h = batch["x"]
            target = _target(task_config, h)
            for i in range(len(sizes) - 1):
                h = h @ params[f"w{i}"] + params[f"b{i}"][None]
                h = jnp.tanh(h) if i < len(sizes) - 2 else h
            return jnp.mean(jnp.square(h[:, 0] - target))

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        return Task(init, loss, sample_batch, lambda params, batch: {"loss": loss(params, jax.random.key(0), batch)})

    return TaskFamily(name, points(num_rows), sample, task, 1.0, whole_rows)


def _target(config: TaskConfig, x: Float[Array, "batch 2"]) -> Float[Array, " batch"]:
    return jnp.cos(x @ config["waves"] + config["phases"][None]) @ config["amplitudes"] - config["mean"]
