"""Meta-losses of an unroll against a problem whose training is solved by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.base import LocalAlgorithm
from meta_train.estimators.objective import LOSS_CEILING
from meta_train.estimators.unroll import make_unroll
from tests.meta_train.toy_families import constant_target_family

UNINFORMED_LOSS = 4.0


def run(split, start=0.0, scale=1.0, local_learning_rate: float | None = 0.125):
    """Meta-losses of two truncations of three rounds, K = 2, H = 2; theta is the server's learning rate."""
    family = constant_target_family(start, UNINFORMED_LOSS)

    def algorithm(theta) -> LocalAlgorithm:
        server = optax.sgd(theta[0])
        return local_sgd(optax.sgd(local_learning_rate), server) if local_learning_rate else data_parallel(server)

    unroll = make_unroll(
        algorithm,
        family,
        num_workers=2,
        num_local_steps=2,
        batch_size=3,
        truncation_length=3,
        meta_loss_split=split,
    )
    assert unroll.truncation_length == 3
    theta = jnp.asarray([scale])
    state = unroll.reset(theta, jax.random.key(0), family.data)
    step, losses, clamped = jax.jit(unroll.step), [], []
    for seed in range(2):
        state, info = step(theta, state, jax.random.key(seed), family.data)
        losses.append(info.losses)
        clamped.append(int(info.num_clamped))
    return np.concatenate(losses), clamped


def errors(start, scale):
    """w - 1 at the start of each local step and after each round: one step multiplies it by 3/4."""
    error, local, after = start - 1.0, [], []
    for _ in range(6):
        local.append([error, 0.75 * error])
        error += scale * (0.75**2 - 1) * error
        after.append(error)
    return np.asarray(local), np.asarray(after)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_training_meta_loss_is_the_mean_of_local_minibatch_losses(scale):
    losses, clamped = run("train", start=0.5, scale=scale)
    local, _ = errors(0.5, scale)
    np.testing.assert_allclose(losses, np.mean(local**2, axis=1) / UNINFORMED_LOSS, rtol=1e-5)
    assert clamped == [0, 0]


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_held_out_meta_loss_is_that_of_the_new_parameters(scale):
    losses, clamped = run("outer_valid", start=0.5, scale=scale)
    _, after = errors(0.5, scale)
    np.testing.assert_allclose(losses, (after + 1) ** 2 / UNINFORMED_LOSS, rtol=1e-5)
    assert clamped == [0, 0]


def test_a_single_machine_optimizer_is_given_the_gradient_itself():
    losses, clamped = run("train", start=0.5, scale=0.125, local_learning_rate=None)
    before = -0.5 * 0.75 ** np.arange(6)
    np.testing.assert_allclose(losses, before**2 / UNINFORMED_LOSS, rtol=1e-5)
    assert clamped == [0, 0]


def test_diverged_training_counts_as_the_ceiling():
    losses, clamped = run("train", start=0.5, scale=1e30)
    assert losses[0] < LOSS_CEILING
    np.testing.assert_array_equal(losses[1:], LOSS_CEILING)
    assert clamped == [2, 3]


def test_workers_that_cannot_be_shared_out():
    with pytest.raises(ValueError, match="worker_devices=3: use a divisor of num_workers=4"):
        make_unroll(
            lambda theta: data_parallel(optax.sgd(1.0)),
            constant_target_family(),
            num_workers=4,
            num_local_steps=1,
            batch_size=1,
            truncation_length=1,
            meta_loss_split="train",
            worker_devices=3,
        )
