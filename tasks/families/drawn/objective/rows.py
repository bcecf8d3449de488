"""Examples of the problems with a drawn objective: inputs of three kinds, random answers to them, and noise by row."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from tasks.base import SPLITS, Batch
from tasks.datasets.load import load_dataset
from tasks.families.drawn.objective.choices import Choices

EVALUATED_ROWS = 512

Net = Callable[[str, Array], Array]
"""(name of a network, inputs [B, ...]) -> its outputs [B, ...]."""


class Objective(NamedTuple):
    """One kind of problem, on examples of one seed.

    Attributes:
      networks: inputs and outputs of every network by name.
      leaves: arrays [rows, ...] for all splits, one after the other, training examples first.
      loss: (networks, batch) -> loss, about 1 for the best constant answer and nowhere below 0. With "seed" among the
        batch's leaves, from which views and noise are drawn, where `noisy`.
      noisy: whether the loss reads seeds.
    """

    networks: dict[str, tuple[int, int]]
    leaves: dict[str, np.ndarray]
    loss: Callable[[Net, Batch], Float[Array, ""]]
    noisy: bool = False


class Rows(NamedTuple):
    """Inputs of all splits.

    Attributes:
      x: inputs [rows, num_inputs], of a spread `input_scale`.
      labels: a class of each.
      num_train: how many come first and are for training.
      scale: standard deviation of an entry.
    """

    x: np.ndarray
    labels: np.ndarray
    num_train: int
    scale: float


def draw_rows(choices: Choices, rng: np.random.Generator) -> Rows:
    """Images, or vectors with classes of their own; centred by the training examples."""
    c, number = choices, choices.num_rows + EVALUATED_ROWS * (len(SPLITS) - 1)
    if c.inputs == "images":
        data, parts, labels = load_dataset("fashion_mnist", image_size=8, grey=True), [], []
        for split in SPLITS:
            count = c.num_rows if split == "train" else EVALUATED_ROWS
            index = rng.choice(len(data[split]["label"]), count, replace=False)
            parts.append(np.asarray(data[split]["image"])[index].reshape(count, -1) / 255.0)
            labels.append(np.asarray(data[split]["label"])[index])
        x, label = np.concatenate(parts), np.concatenate(labels)
    elif c.inputs == "mixture":
        classes = int(rng.integers(4, 11))
        label = rng.integers(classes, size=number)
        spread = np.arange(1, c.num_inputs + 1) ** -rng.uniform(0, 0.7)
        means = rng.uniform(0.7, 1.5) * rng.standard_normal((classes, c.num_inputs))
        x = means[label] + spread * rng.standard_normal((number, c.num_inputs))
    else:
        rank = int(rng.integers(2, 6))
        latent = rng.standard_normal((number, rank))
        x = np.tanh(latent @ rng.standard_normal((rank, 16))) @ rng.standard_normal((16, c.num_inputs)) / 3
        x += rng.uniform(0.02, 0.3) * rng.standard_normal(x.shape)
        label = np.argmax(latent @ rng.standard_normal((rank, 5)), axis=1)
    train = x[: c.num_rows]
    x = (x - train.mean(0)) * c.input_scale / np.sqrt(train.var(0).mean())
    return Rows(x.astype(np.float32), label.astype(np.int32), c.num_rows, c.input_scale)


def answers(rows: Rows, rng: np.random.Generator, size: int, noise: float = 0.0, hidden: int = 12) -> np.ndarray:
    """A random network's answers [rows, size], each of mean 0 and variance 1, and noise on top."""
    x = rows.x / rows.scale
    w = 1.5 * rng.standard_normal((x.shape[1], hidden)) * x.shape[1] ** -0.5
    y = standardised(np.tanh(x @ w) @ rng.standard_normal((hidden, size)), rows)
    return (y + noise * rng.standard_normal(y.shape)).astype(np.float32)


def standardised(y: np.ndarray, rows: Rows) -> np.ndarray:
    """With mean 0 and variance 1 in every column, by the training examples."""
    train = y[: rows.num_train]
    return (y - train.mean(0)) / (train.std(0) + 1e-6)


def variance_of(y: np.ndarray, rows: Rows) -> float:
    """Mean squared distance of the training examples from their mean."""
    return float(np.sum(y[: rows.num_train].var(0, dtype=np.float64)))


def normals(seeds: UInt32[Array, "batch"], size: int, like: Array) -> Float[Array, "batch size"]:
    """Standard normal numbers of every row, each row's from its own seed."""
    drawn = jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), (size,), jnp.float32))(seeds)
    return drawn.astype(like.dtype)


def uniforms(seeds: UInt32[Array, "batch"], size: int, like: Array) -> Float[Array, "batch size"]:
    """Numbers in [0, 1), each row's from its own seed."""
    drawn = jax.vmap(lambda seed: jax.random.uniform(jax.random.key(seed), (size,), jnp.float32))(seeds)
    return drawn.astype(like.dtype)


def value_with_gradient_of(value: Float[Array, ""], other: Float[Array, ""]) -> Float[Array, ""]:
    """The number `value`, whose gradient is that of `other`."""
    return jax.lax.stop_gradient(value) + (other - jax.lax.stop_gradient(other))


def rate_and_log(x: Array, most: float) -> tuple[Array, Array]:
    """exp(x), from `most` on its tangent, and its logarithm: a rate that cannot overflow, with gradients everywhere."""
    low = jnp.minimum(x, most)
    return jnp.exp(low) * (1 + (x - low)), low + jnp.log1p(x - low)
