"""Fifty meta-steps on a tiny mixture make every architecture better at the tasks of the mixture."""

import jax
import numpy as np
import pytest

from learned_opt.architectures import ARCHITECTURES
from meta_train.component import Component
from meta_train.config import MetaTrainConfig
from meta_train.references import Given, find_optimizer
from meta_train.trainer import build_trainer
from meta_train.validation import build_validation
from tests.meta_train.toy_families import regression_family

GIVEN = Given(families={"one": regression_family("one"), "two": regression_family("two")})
WRAPPERS = ("as_server", "mup")
"""They take another optimizer."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in WRAPPERS])
def test_fifty_meta_steps_lower_the_loss(name):
    config = MetaTrainConfig(
        optimizer=name,
        components=(Component("one"), Component("two", batch_size=8)),
        validation=(Component("one"),),
        validate_every=1,
        num_workers=1,
        num_local_steps=1,
        batch_size=4,
        local_optimizer="sgd,learning_rate=0.1",
        num_tasks=16,
        sigma=0.05,
        truncation_length=5,
        min_unroll_length=5,
        max_unroll_length=20,
        meta_learning_rate=1e-2,
        final_meta_learning_rate=1e-3,
        warmup_steps=0,
        meta_steps=50,
    )
    # optax's AdamW raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        trainer = build_trainer(config, GIVEN)
        measure = build_validation(config, find_optimizer(config, GIVEN), GIVEN)
        state = trainer.init(jax.random.key(0))
        before = measure(np.asarray(state.theta))["valid_loss"]
        for _ in range(config.meta_steps):
            state, _ = trainer.step(state)
        assert measure(np.asarray(state.theta_average))["valid_loss"] < before
