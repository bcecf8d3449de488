"""Inner training uses every key once, and draws batches of the size that was asked for."""

from collections import Counter

import jax
import jax.numpy as jnp
import optax
import pytest

from learned_opt.algorithms.local_sgd import local_sgd
from meta_train.estimators.unroll import make_unroll
from tests.noisy_family import noisy_family, uses, watched

NUM_WORKERS, NUM_LOCAL_STEPS, BATCH_SIZE, TRUNCATION = 2, 3, 5, 2
NUM_TRUNCATIONS = 2
NUM_ROUNDS = TRUNCATION * NUM_TRUNCATIONS
LOCAL_LOSSES = NUM_ROUNDS * NUM_WORKERS * NUM_LOCAL_STEPS


@pytest.mark.parametrize(
    ("split", "objective", "held_out"),
    [("train", "mean", 0), ("outer_valid", "mean", NUM_ROUNDS), ("outer_valid", "final", 2)],
)
def test_every_key_is_used_once_and_batches_have_their_size(split, objective, held_out):
    seen = []
    family = noisy_family(seen)
    unroll = make_unroll(
        lambda theta, num_rounds: watched(local_sgd(optax.sgd(0.1), optax.sgd(1.0)), seen),
        family,
        num_workers=NUM_WORKERS,
        num_local_steps=NUM_LOCAL_STEPS,
        batch_size=BATCH_SIZE,
        truncation_length=TRUNCATION,
        meta_loss_split=split,
        objective=objective,
    )
    state, step = unroll.reset(jnp.zeros(0), jax.random.key(0), family.data, jnp.int32(6)), jax.jit(unroll.step)
    for truncation in range(NUM_TRUNCATIONS):
        state, _ = step(jnp.zeros(0), state, jax.random.key(truncation), family.data)
    keys = uses(seen, "")
    assert len(keys) == len(set(keys))
    expected = {"round": NUM_ROUNDS, "batch of 30 from train": NUM_ROUNDS, "loss": LOCAL_LOSSES + held_out}
    # A held-out batch is as large as those of all workers in one local step.
    expected |= {"batch of 10 from outer_valid": held_out} if held_out else {}
    assert Counter(what for what, _ in seen) == expected
