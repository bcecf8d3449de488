"""Inner problems that are small, and in which a lost, reused or shared key is seen: initial parameters, batches and
losses all depend on keys of their own."""

import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import Task, TaskFamily


def regression_family(name: str = "regression") -> TaskFamily:
    """Linear regression with a new target per task, on resident inputs."""
    inputs = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    data = {split: {"x": inputs} for split in ("train", "outer_valid")}

    def task(target, data):
        def sample_batch(key, split, batch_shape):
            rows = jax.random.randint(key, batch_shape, 0, 64)
            return {"x": jnp.asarray(data[split]["x"])[rows]}

        def loss(params, key, batch):
            noise = 0.1 * jax.random.normal(key, batch["x"].shape[:-1])
            return jnp.mean(jnp.square(batch["x"] @ (params["w"] - target) - noise))

        return Task(
            init=lambda key: {"w": 0.1 * jax.random.normal(key, (3,))},
            loss=loss,
            sample_batch=sample_batch,
            metrics=lambda params, batch: {"loss": loss(params, jax.random.key(0), batch)},
        )

    return TaskFamily(
        name=name,
        data=data,
        sample=lambda key: jax.random.normal(key, (3,)),
        task=task,
        uninformed_loss=3.0,
        eval_batch=lambda data, split: dict(data[split]),
    )


def constant_target_family(start: float = 0.0, uninformed_loss: float = 4.0) -> TaskFamily:
    """loss = (w - target)^2 with the target 1 for training and 0 on held-out data; its training is solved by hand."""

    def task(config, data):
        return Task(
            init=lambda key: {"w": jnp.float32(start)},
            loss=lambda params, key, batch: jnp.mean(jnp.square(params["w"] - batch["target"])),
            sample_batch=lambda key, split, shape: {"target": jnp.full(shape, data[split]["target"])},
            metrics=lambda params, batch: {},
        )

    data = {"train": {"target": jnp.float32(1)}, "outer_valid": {"target": jnp.float32(0)}}
    return TaskFamily("constant", data, lambda key: {}, task, uninformed_loss, lambda data, split: {})


def watching_family() -> TaskFamily:
    """The loss is the number of examples in the batch over 100, plus 1 if its key was made of the key of the batch."""

    def task(config, data):
        def loss(params, key, batch):
            was_reused = jax.random.uniform(key) == jnp.ravel(batch["made_of_key"])[0]
            return 0 * params["w"] + batch["made_of_key"].size / 100 + was_reused.astype(jnp.float32)

        return Task(
            init=lambda key: {"w": jnp.float32(0)},
            loss=loss,
            # The key of a worker, as `data_parallel` makes it.
            sample_batch=lambda key, split, shape: {
                "made_of_key": jnp.full(shape, jax.random.uniform(jax.random.fold_in(key, 0)))
            },
            metrics=lambda params, batch: {},
        )

    data = {split: {"x": np.zeros(1)} for split in ("train", "outer_valid")}
    return TaskFamily("watching", data, lambda key: {}, task, 1.0, lambda data, split: {})
