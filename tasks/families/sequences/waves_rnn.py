"""The next value of a sum of waves, by a recurrent network (Elman 1990, doi 10.1207/s15516709cog1402_1).

    x_t = sum_i sin(w_i t + p_i) / sqrt(n / 2),   h_t = tanh(x_t U + h_{t-1} W + b),   y_t = h_t v + c
    loss = mean over the sequence of (y_t - x_{t+1})^2

A sum of n waves obeys a linear recurrence of order 2 n, so that the error can become small. Gradients pass through all
steps and vanish or grow with the eigenvalues of W (Pascanu et al. 2013, arXiv 1211.5063): progress is abrupt, and
steps that are too long undo it. Frequencies w are drawn per task, phases per sequence; there is no noise. The best
constant is 0, with a loss of 1.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows
from tasks.networks.network import check_sizes


def waves_rnn(
    hidden_size: int = 24,
    num_waves: int = 3,
    length: int = 24,
    frequencies: tuple[float, float] = (0.2, 0.9),
    num_rows: int = 2048,
    name: str = "waves_rnn",
) -> TaskFamily:
    """Predict sums of waves.

    Args:
      hidden_size: units of the network.
      num_waves: n.
      length: values that are predicted in each sequence.
      frequencies: range of w, in radians a step, drawn uniformly.
      num_rows: sequences of each split.
      name: the family's name.

    Raises:
      ValueError: a size below 1, or frequencies out of order or not in (0, pi).
    """
    check_sizes(hidden_size=hidden_size, num_waves=num_waves, length=length, num_rows=num_rows)
    if not 0 < frequencies[0] <= frequencies[1] < np.pi:
        raise ValueError(f"frequencies={frequencies}: use 0 < low <= high < pi, what steps of 1 can show")

    def sample(key: Key[Array, ""]) -> TaskConfig:
        low, high = frequencies
        return {"frequencies": jax.random.uniform(key, (num_waves,), jnp.float32, low, high)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: Key[Array, ""]) -> Params:
            inputs, recurrent, output = jax.random.split(key, 3)
            unit = hidden_size**-0.5
            return {
                "input": jax.random.normal(inputs, (1, hidden_size), jnp.float32),
                "recurrent": unit * jax.random.normal(recurrent, (hidden_size, hidden_size), jnp.float32),
                "bias": jnp.zeros(hidden_size),
                "output": unit * jax.random.normal(output, (hidden_size, 1), jnp.float32),
                "offset": jnp.zeros(1),
            }

        def loss(params: Params, key: Key[Array, ""], batch: Batch) -> Float[Array, ""]:
            del key
            dtype = params["input"].dtype
            x = waves(task_config["frequencies"].astype(dtype), batch["phase"].astype(dtype), length + 1)

            def step(h, x_t):
                h = jnp.tanh(x_t[:, None] @ params["input"] + h @ params["recurrent"] + params["bias"][None])
                return h, (h @ params["output"] + params["offset"][None])[:, 0]

            _, y = jax.lax.scan(step, jnp.zeros((x.shape[0], hidden_size), dtype), x[:, :-1].T)
            return jnp.mean((y - x[:, 1:].T) ** 2)

        def sample_batch(key: Key[Array, ""], split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        return Task(init, loss, sample_batch, lambda params, batch: {"loss": loss(params, jax.random.key(0), batch)})

    return TaskFamily(name, phases(num_rows, num_waves), sample, task, 1.0, whole_rows)


def waves(
    frequencies: Float[Array, " waves"], phase: Float[Array, "batch waves"], length: int
) -> Float[Array, "batch length"]:
    """x_0 .. x_{length - 1} of every row."""
    time = jnp.arange(length, dtype=phase.dtype)
    angles = time[None, :, None] * frequencies[None, None] + phase[:, None]
    return jnp.sum(jnp.sin(angles), axis=-1) * (2 / frequencies.shape[0]) ** 0.5


def phases(num_rows: int, num_waves: int, seed: int = 0) -> Data:
    """`{split: {"phase": float32[num_rows, num_waves]}}`, uniform in [0, 2 pi)."""
    rng = np.random.default_rng(seed)
    return {s: {"phase": rng.uniform(0, 2 * np.pi, (num_rows, num_waves)).astype(np.float32)} for s in SPLITS}
