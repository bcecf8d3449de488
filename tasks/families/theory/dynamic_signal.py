"""A signal in a random patch, read by a convolutional, a locally connected or a fully connected network.

    x = (x_1, ..., x_k), patches in R^d;   x_j = y w* + noise for one random j, noise alone for the others
    noise ~ N(0, noise_std^2 I),   y = +-1,   |w*| = 1
    f(x) = sum_i phi(h_i),   phi(h) = relu(h - b) - relu(-h - b),   loss = mean log(1 + exp(-y f(x)))
    cnn:    h_i = w . x_i          d weights, shared by the patches
    local:  h_i = w_i . x_i        k d weights, each patch has its own
    mlp:    h_i = W_i . x          k^2 d weights

The dynamic signal distribution of Lahoti, Karp, Winston, Singh & Li (2024, "Role of Locality and Weight Sharing in
Image-Based Tasks", arXiv 2403.15707): the three need of the order of k + d, k d and k^2 d examples. phi keeps noise
below the threshold b, which is trained, from adding up. Deviation: the logistic loss.

Each task has its own w*, in the configuration; noise, patch and label of each example are fixed (seed 0). Metrics:
`accuracy`, and `signal_share`, the part of the weights' squared norm that lies along w* in any patch: 1 / d at the
start on average, 1 where they hold nothing else.
"""

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows

Architecture = Literal["cnn", "local", "mlp"]
INIT_THRESHOLD = 0.1


def soft_threshold(h: Float[Array, "batch units"], threshold: Float[Array, "1"]) -> Float[Array, "batch units"]:
    """relu(h - b) - relu(-h - b): zero between -b and b."""
    b = threshold[None]
    return jax.nn.relu(h - b) - jax.nn.relu(-h - b)


def dynamic_signal(
    architecture: Architecture = "cnn",
    num_patches: int = 8,
    patch_size: int = 16,
    noise_std: float = 0.3,
    num_train: int = 256,
    name: str = "dynamic_signal",
) -> TaskFamily:
    """Classify by the sign of a signal in one of many patches.

    Args:
      architecture: "cnn", "local" or "mlp".
      num_patches: k.
      patch_size: d.
      noise_std: standard deviation of every entry, positive; the signal has norm 1.
      num_train: training examples; the other splits have 512 each.
      name: the family's name.

    Raises:
      ValueError: an unknown architecture, a size below 1, or noise that is not positive.
    """
    if architecture not in get_args(Architecture):
        raise ValueError(f"architecture={architecture!r}: use one of {', '.join(get_args(Architecture))}")
    if min(num_patches, patch_size, num_train) < 1:
        raise ValueError(f"{num_patches=}, {patch_size=}, {num_train=}: use at least 1 of each")
    if noise_std <= 0:
        raise ValueError(f"noise_std={noise_std}: use a positive value")
    fan_in = num_patches * patch_size if architecture == "mlp" else patch_size
    num_filters = 1 if architecture == "cnn" else num_patches

    def sample(key: jax.Array) -> TaskConfig:
        signal = jax.random.normal(key, (patch_size,), jnp.float32)
        return {"signal": signal / jnp.linalg.norm(signal)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            filters = jax.random.normal(key, (num_filters, fan_in), jnp.float32) * fan_in**-0.5
            return {"filters": filters, "threshold": jnp.full(1, INIT_THRESHOLD, jnp.float32)}

        def margins(params: Params, batch: Batch) -> Float[Array, " batch"]:
            noise = batch["noise"]
            label = batch["label"].astype(noise.dtype)
            place = jax.nn.one_hot(batch["patch"], num_patches, dtype=noise.dtype) * label[:, None]
            patches = noise + place[..., None] * task_config["signal"].astype(noise.dtype)[None, None]
            if architecture == "mlp":
                h = patches.reshape(-1, num_patches * patch_size) @ params["filters"].T
            else:
                h = jnp.sum(patches * params["filters"][None], axis=-1)
            return label * jnp.sum(soft_threshold(h, params["threshold"]), axis=1)

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            return jnp.mean(jax.nn.softplus(-margins(params, batch)))

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            margin, filters = margins(params, batch), params["filters"].reshape(-1, patch_size)
            return {
                "loss": jnp.mean(jax.nn.softplus(-margin)),
                "accuracy": jnp.mean((margin > 0).astype(jnp.float32)),
                "signal_share": jnp.sum((filters @ task_config["signal"].astype(filters.dtype)) ** 2)
                / jnp.sum(filters**2),
            }

        return Task(init, loss, sample_batch, metrics)

    # The best constant guess knows only that both labels are equally likely: output 0.
    return TaskFamily(
        name, signal_data(num_patches, patch_size, noise_std, num_train), sample, task, math.log(2), whole_rows
    )


def signal_data(num_patches: int, patch_size: int, noise_std: float, num_train: int) -> Data:
    """Noise [N, k, d], the patch that carries the signal, and the label, as often +1 as -1."""
    rng = np.random.default_rng(0)
    data = {}
    for split in SPLITS:
        n = num_train if split == "train" else 512
        noise = rng.standard_normal((n, num_patches, patch_size), np.float32)
        data[split] = {
            "noise": noise * np.float32(noise_std),
            "patch": rng.integers(0, num_patches, n, np.int32),
            "label": (1 - 2 * (rng.permutation(n) % 2)).astype(np.int32),
        }
    return data
