"""What a user writes outside the repository: a task and a learned optimizer, each in a file."""

from pathlib import Path

TASK = '''
import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import SPLITS, Task, TaskFamily


def line(slope=2.0):
    """y = slope x with noise in x; one parameter."""
    x = np.linspace(-1, 1, 32, dtype=np.float32)
    data = {split: {"x": x, "y": slope * x} for split in SPLITS}

    def task(config, data):
        def sample_batch(key, split, shape):
            rows = jax.random.randint(key, shape, 0, 32)
            return {name: jnp.asarray(leaf)[rows] for name, leaf in data[split].items()}

        def loss(params, key, batch):
            noise = 0.1 * jax.random.normal(key, batch["x"].shape)
            return jnp.mean(jnp.square(params["w"] * (batch["x"] + noise) - batch["y"]))

        return Task(
            init=lambda key: {"w": jax.random.normal(key)},
            loss=loss,
            sample_batch=sample_batch,
            metrics=lambda params, batch: {"loss": loss(params, jax.random.key(0), batch)},
        )

    return TaskFamily("line", data, lambda key: {}, task, slope**2 / 3, lambda data, split: dict(data[split]))


def no_family():
    return {"slope": 2.0}
'''

OPTIMIZER = '''
import jax.numpy as jnp
import optax

import learned_opt


def learned_rate(rate=0.5):
    """Server SGD whose learning rate is learned."""

    def transform(theta, num_steps=None):
        return optax.with_extra_args_support(optax.sgd(jnp.exp(theta["log_rate"][0])))

    return learned_opt.LearnedOptimizer(
        init=lambda key: {"log_rate": jnp.log(jnp.asarray([rate]))},
        transform=transform,
        config={"architecture": "learned_rate", "rate": rate},
    )


def broken():
    steps = 0
    return learned_rate(1 / steps)


def no_optimizer():
    return optax.sgd(0.1)


def nameless():
    return learned_rate()._replace(config={"rate": 0.5})
'''

PRESET = '''
from meta_train.config import MetaTrainConfig


def mine():
    """My recipe."""
    return MetaTrainConfig(preset="mine", meta_steps=3)
'''

SMALL = (
    "--num-workers=2",
    "--num-local-steps=2",
    "--batch-size=4",
    "--local-optimizer=sgd,learning_rate=0.1",
    "--num-tasks=2",
    "--truncation-length=2",
    "--min-unroll-length=2",
    "--max-unroll-length=6",
    "--warmup-steps=1",
    "--checkpoint-every=2",
)
"""Flags of a run that is over in seconds."""


def write_files(folder: Path) -> None:
    """Writes my_task.py, my_opt.py and my_preset.py."""
    (folder / "my_task.py").write_text(TASK)
    (folder / "my_opt.py").write_text(OPTIMIZER)
    (folder / "my_preset.py").write_text(PRESET)
