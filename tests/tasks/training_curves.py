"""Trains a task with an optax optimizer in one program and measures it on the way."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tasks.base import TaskFamily


def training_curves(
    family: TaskFamily,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    every: int,
    batch_size: int | None = None,
    seed: int = 0,
    rates: Sequence[float] | None = None,
):
    """Metrics before the first step and after each `every` steps: {"train" or "test": {name: [1 + num_steps / every]}}.

    Args:
      family: its splits `train` and `test` are measured whole.
      optimizer: minimises the loss.
      num_steps: steps, a multiple of `every`.
      every: steps between two measurements.
      batch_size: of the minibatches; None for the whole training split in each step.
      seed: of the task, its parameters and batches.
      rates: factors on the updates; the metrics then have a leading axis of as many runs.
    """

    def run(data, rate):
        key = jax.random.key(seed)
        config_key, init_key = jax.random.split(key)
        task = family.task(family.sample(config_key), data)

        def measured(params):
            return {split: task.metrics(params, family.eval_batch(data, split)) for split in ("train", "test")}

        def step(carry, index):
            params, state = carry
            batch_key, loss_key = jax.random.split(jax.random.fold_in(key, index))
            if batch_size is None:
                batch = family.eval_batch(data, "train")
            else:
                batch = task.sample_batch(batch_key, "train", (batch_size,))
            gradient = jax.grad(task.loss)(params, loss_key, batch)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(gradient, state, params)
            updates = jax.tree.map(lambda update: rate * update, updates)
            return (optax.apply_updates(params, updates), state), None

        def block(carry, index):
            carry, _ = jax.lax.scan(step, carry, index * every + jnp.arange(every))
            return carry, measured(carry[0])

        params = task.init(init_key)
        with jax.numpy_dtype_promotion("standard"):
            state = optimizer.init(params)
        _, curves = jax.lax.scan(block, (params, state), jnp.arange(num_steps // every))
        return measured(params), curves

    factors = jnp.ones(1) if rates is None else jnp.asarray(rates, jnp.float32)
    start, curves = jax.jit(jax.vmap(run, in_axes=(None, 0)))(family.data, factors)
    joined = jax.tree.map(lambda first, rest: np.concatenate([np.asarray(first)[:, None], rest], axis=1), start, curves)
    return joined if rates is not None else jax.tree.map(lambda curve: curve[0], joined)
