"""Variants: what the tasks of one network family may differ in while they share one compiled program.

A family is plain by default and holds a single task. With `Variants` its configuration gains arrays, drawn once per
task: the index of an activation (all of them are computed and one is selected), a factor on the initial weights, and
the number of different examples in a training batch.

Width and depth are not variants but arguments of the families. Units switched off by a mask would keep the shapes, but
a learned optimizer reads statistics of whole tensors (their root mean square, row and column means), which the zeros of
a mask distort.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tasks.base import Params, TaskConfig
from tasks.batches import draw_indices

Activation = Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]

ACTIVATIONS: dict[str, Activation] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
}


@dataclass(frozen=True)
class Variants:
    """What may differ between the tasks of a family.

    Attributes:
      activations: names out of `ACTIVATIONS`, drawn uniformly; empty for the family's own.
      init_scale: lower and upper end of the factor on every initial parameter of rank 2 or more, drawn log-uniformly.

    Raises:
      ValueError: an unknown activation, or a scale that is not 0 < low <= high.
    """

    activations: tuple[str, ...] = ()
    init_scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if unknown := set(self.activations) - set(ACTIVATIONS):
            raise ValueError(f"activations={self.activations}: use {', '.join(ACTIVATIONS)}, not {', '.join(unknown)}")
        low, high = self.init_scale
        if not 0 < low <= high < math.inf:
            raise ValueError(f"init_scale={self.init_scale}: use 0 < low <= high")


PLAIN = Variants()
"""Nothing differs."""


def sample_config(key: Key[Array, ""], variants: Variants, num_datasets: int = 1) -> TaskConfig:
    """Draws what differs; entries that cannot differ are left out, so a plain family's configuration is empty.

    Args:
      key: random key.
      variants: what may differ.
      num_datasets: how many datasets are stacked in the data (`tasks.datasets.stacked_datasets`).
    """
    activation_key, scale_key, dataset_key = jax.random.split(key, 3)
    config = {}
    if len(variants.activations) > 1:
        config["activation"] = jax.random.randint(activation_key, (), 0, len(variants.activations), jnp.int32)
    if variants.init_scale != (1.0, 1.0):
        low, high = (math.log(end) for end in variants.init_scale)
        config["init_scale"] = jnp.exp(jax.random.uniform(scale_key, (), jnp.float32, low, high))
    if num_datasets > 1:
        config["dataset"] = jax.random.randint(dataset_key, (), 0, num_datasets, jnp.int32)
    return config


def activation_of(variants: Variants, config: TaskConfig, default: str) -> Activation:
    """The task's activation; `default` where the variants name none."""
    names = variants.activations or (default,)
    if len(names) == 1:
        return ACTIVATIONS[names[0]]

    def activation(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.lax.select_n(config["activation"], *(ACTIVATIONS[name](x) for name in names))

    return activation


def scale_init(config: TaskConfig, params: Params) -> Params:
    """Initial parameters times the task's factor; vectors (biases, scales of normalisations) stay as they are."""
    if "init_scale" not in config:
        return params
    return jax.tree.map(lambda p: p * config["init_scale"] if p.ndim >= 2 else p, params)


def draw_rows(
    key: Key[Array, ""], batch_shape: tuple[int, ...], num_rows: int, config: TaskConfig, num_datasets: int
) -> Int[Array, "..."]:
    """Indices [*batch_shape] of rows of a split with `num_rows` rows, with replacement, of the task's dataset."""
    index = draw_indices(key, batch_shape, num_rows // num_datasets)
    if num_datasets > 1:
        index = index * num_datasets + config["dataset"]
    return index
