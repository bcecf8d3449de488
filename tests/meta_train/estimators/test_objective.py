"""Which losses of a truncation count: means by hand, clipping, and what an unroll returns for each objective."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.local_sgd import local_sgd
from meta_train.estimators.objective import LOSS_CEILING, OBJECTIVES, clip_loss, counted_losses
from meta_train.estimators.unroll import make_unroll
from tests.meta_train.estimators.test_unroll import UNINFORMED_LOSS, errors
from tests.meta_train.toy_families import constant_target_family


def expected(objective, losses):
    weights = {
        "mean": np.ones(len(losses)),
        "final": np.eye(len(losses))[-1] * len(losses),
        "linear": np.arange(1, len(losses) + 1) * 2 / (len(losses) + 1),
    }[objective]
    np.testing.assert_allclose(np.mean(weights), 1)
    return np.mean(weights * losses)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_means(objective):
    losses = np.asarray([8.0, 4.0, 2.0, 1.0], np.float32)
    counted, num_clamped = counted_losses(objective, jnp.asarray(losses), 16.0)
    np.testing.assert_allclose(jnp.mean(counted), expected(objective, losses / 16), rtol=1e-6)
    assert int(num_clamped) == 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_clipped_before_they_are_weighted(objective):
    losses = jnp.asarray([0.1, jnp.nan, 0.2, jnp.inf])
    counted, num_clamped = counted_losses(objective, losses, 1.0)
    clipped = np.asarray([0.1, LOSS_CEILING, 0.2, LOSS_CEILING])
    np.testing.assert_allclose(jnp.mean(counted), expected(objective, clipped), rtol=1e-6)
    assert int(num_clamped) == (1 if objective == "final" else 2)


def test_clip_loss():
    losses = jnp.asarray([0.3, jnp.nan, jnp.inf, 99.0, 0.0, LOSS_CEILING, -0.1])
    clipped, count = clip_loss(losses)
    np.testing.assert_allclose(clipped, [0.3, *[LOSS_CEILING] * 3, 0.0, LOSS_CEILING, 0.0], rtol=1e-6)
    assert count == 4


def test_unknown_objective():
    with pytest.raises(ValueError, match="objective='last': use mean, final or linear"):
        counted_losses("last", jnp.ones(3), 1.0)


@pytest.mark.parametrize("split", ["train", "outer_valid"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_unroll_returns_the_objective(objective, split):
    family = constant_target_family(0.5)
    unroll = make_unroll(
        lambda theta, num_rounds: local_sgd(optax.sgd(0.125), optax.sgd(1.0)),
        family,
        num_workers=2,
        num_local_steps=2,
        batch_size=3,
        truncation_length=6,
        meta_loss_split=split,
        objective=objective,
    )
    state = unroll.reset(jnp.zeros(0), jax.random.key(0), family.data, jnp.int32(6))
    _, info = jax.jit(unroll.step)(jnp.zeros(0), state, jax.random.key(1), family.data)
    local, after = errors(0.5, 1.0)
    losses = np.mean(local**2, axis=1) if split == "train" else (after + 1) ** 2
    np.testing.assert_allclose(jnp.mean(info.losses), expected(objective, losses / UNINFORMED_LOSS), rtol=1e-5)


def test_rematerialised_rounds_have_the_same_gradient():
    family = constant_target_family(0.5)

    def gradient(rematerialise):
        unroll = make_unroll(
            lambda theta, num_rounds: local_sgd(optax.sgd(0.125), optax.sgd(theta[0])),
            family,
            num_workers=2,
            num_local_steps=2,
            batch_size=3,
            truncation_length=3,
            meta_loss_split="train",
            rematerialise=rematerialise,
        )

        def loss(theta):
            state = unroll.reset(theta, jax.random.key(0), family.data, jnp.int32(6))
            return jnp.mean(unroll.step(theta, state, jax.random.key(1), family.data)[1].losses)

        jaxpr = str(jax.make_jaxpr(jax.grad(loss))(jnp.asarray([0.8])))
        assert ("remat" in jaxpr or "checkpoint" in jaxpr) == rematerialise
        return jax.jit(jax.grad(loss))(jnp.asarray([0.8]))

    np.testing.assert_allclose(gradient(True), gradient(False), rtol=1e-6)
