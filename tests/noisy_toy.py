"""A regression in four numbers that shows how it was called: its loss depends on the key, and a batch names its own.

    loss = mean_i (x_i w + b - y_i - noise_i(key) / 4)^2

On problems without noise a key may be lost, used twice or shared by all workers, and a batch may have the wrong size,
and every number stays as it should be. This file needs JAX alone, so the tests of every folder may use it;
`tests.noisy_family` makes a task family of it.
"""

from typing import Any

import jax
import jax.numpy as jnp

NOISE = 0.25
NUM_INPUTS = 3

Batch = dict[str, Any]


def init(key: jax.Array) -> dict[str, jax.Array]:
    """Parameters `w` [3] and `b` []."""
    return {"w": jax.random.normal(key, (NUM_INPUTS,)), "b": jnp.float32(0.5)}


def loss_fn(params: Any, key: jax.Array, batch: Batch) -> jax.Array:
    """Mean squared error against targets that are moved by noise from the key."""
    noise = NOISE * jax.random.normal(key, batch["y"].shape)
    return jnp.mean(jnp.square(batch["x"] @ params["w"] + params["b"] - batch["y"] - noise))


def quiet_loss_fn(params: Any, key: jax.Array, batch: Batch) -> jax.Array:
    """The same without noise, where an identity holds for losses that take no key only."""
    del key
    return jnp.mean(jnp.square(batch["x"] @ params["w"] + params["b"] - batch["y"]))


def draw_batch(key: jax.Array, shape: tuple[int, ...]) -> Batch:
    """Examples `x` [*shape, 3] and `y` [*shape], labelled."""
    x_key, y_key = jax.random.split(key)
    batch = {"x": jax.random.normal(x_key, (*shape, NUM_INPUTS)), "y": jax.random.normal(y_key, shape)}
    return labelled(batch, key, shape)


def labelled(batch: Batch, key: jax.Array, shape: tuple[int, ...]) -> Batch:
    """The batch, each example with what it was drawn with: the words of the `key` [*shape, 2], and how many examples
    were drawn together, `drawn` [*shape]."""
    words = jax.random.key_data(key)
    return batch | {
        "key": jnp.broadcast_to(words, (*shape, *words.shape)),
        "drawn": jnp.full(shape, jnp.prod(jnp.asarray(shape, jnp.int32)), jnp.int32),
    }
