"""Compressing images with an MLP autoencoder (Hinton and Salakhutdinov 2006, doi 10.1126/science.1127647).

    h_i = relu(h_{i-1} W_i + b_i),   y = sigmoid(h_L W + b),   loss = mean over pixels of (y - x)^2

The middle layer is the code. A deep autoencoder is a classical hard case for first-order optimizers (Martens 2010,
"Deep learning via Hessian-free optimization"). The constant guess is one grey value for every pixel, and its loss the
variance of the training pixels.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import images_at, split_of, whole_split
from tasks.datasets.stacked_datasets import mean_over_rows, num_stacked
from tasks.networks.network import check_sizes, network_apply, network_init
from tasks.networks.variants import PLAIN, Activation, Variants, draw_rows, sample_config


class Autoencoder(nn.Module):
    """Images [B, ...] -> reconstructed pixels [B, P] in (0, 1)."""

    hidden_sizes: tuple[int, ...]
    activation: Activation

    @nn.compact
    def __call__(self, images: Float[Array, "batch *image"]) -> Float[Array, "batch pixels"]:
        h = images.reshape(images.shape[0], -1)
        num_pixels = h.shape[1]
        for size in self.hidden_sizes:
            h = self.activation(nn.Dense(size)(h))
        return nn.sigmoid(nn.Dense(num_pixels)(h))


def image_autoencoder(
    data: Data,
    hidden_sizes: Sequence[int] = (32, 8, 32),
    name: str = "image_autoencoder",
    variants: Variants = PLAIN,
) -> TaskFamily:
    """Reconstruct the images of `data` from a short code.

    Args:
      data: `{split: {"image": uint8[N, ...], "label": int32[N]}}`; labels are not used.
      hidden_sizes: widths of the hidden layers; the smallest is the code.
      name: the family's name.
      variants: what differs between tasks; by default nothing.

    Raises:
      ValueError: no hidden layer, a width below 1, or images that are all one grey.
    """
    hidden_sizes = tuple(hidden_sizes)
    if not hidden_sizes:
        raise ValueError("hidden_sizes=(): use at least one layer, the code")
    check_sizes(hidden_sizes=hidden_sizes)
    num_datasets = num_stacked(data)
    uninformed_loss = float(np.var(np.asarray(data["train"]["image"]), dtype=np.float64)) / 255**2
    if uninformed_loss == 0:
        raise ValueError("every pixel of the training images has one value: there is nothing to reconstruct")

    def network(activation: Activation) -> nn.Module:
        return Autoencoder(hidden_sizes, activation)

    def sample(key: jax.Array) -> TaskConfig:
        return sample_config(key, variants, num_datasets)

    def task(task_config: TaskConfig, data: Data) -> Task:
        image_shape = data["train"]["image"].shape[1:]
        example = jax.ShapeDtypeStruct((1, *image_shape), "float32")
        apply = network_apply(network, variants, "relu", task_config)

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            error = apply(params, batch["image"]) - batch["image"].reshape(-1, math.prod(image_shape))
            return mean_over_rows(jnp.mean(jnp.square(error), axis=1), task_config, batch)

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            rows = split_of(data, split)
            index = draw_rows(key, batch_shape, rows["image"].shape[0], task_config, num_datasets)
            return images_at(rows, index)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            return {"loss": loss(params, jax.random.key(0), batch)}

        return Task(network_init(network, example, variants, "relu", task_config), loss, sample_batch, metrics)

    return TaskFamily(name, data, sample, task, uninformed_loss, whole_split)
