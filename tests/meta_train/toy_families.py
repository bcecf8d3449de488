"""Inner problems that are small, and in which a lost, reused or shared key is seen: initial parameters, batches and
losses all depend on keys of their own."""

import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import SPLITS, Task, TaskFamily


def regression_family(name: str = "regression") -> TaskFamily:
    """Linear regression with a new target per task, on resident inputs."""
    inputs = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    data = {split: {"x": inputs} for split in SPLITS}

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
