"""Every rival builds, takes a round on the toy task at traced hyper-parameters, and follows the schedule."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from eval.compare.grids import settings
from eval.compare.rivals import RIVALS
from learned_opt.algorithms.round import simulate
from tests.eval.toy import TOY, toy_family

FAMILY = toy_family()
TASK = FAMILY.task({}, {"train": FAMILY.data["train"]})
BATCH_SHAPE = (TOY.num_workers, TOY.num_local_steps, TOY.batch_size)


def two_rounds(name, schedule):
    """(key, hyper-parameters) -> parameters after two rounds."""
    protocol = dataclasses.replace(TOY, schedule=schedule)

    def run(key, hparams):
        algorithm = simulate(RIVALS[name](protocol).make(hparams), protocol.num_workers)
        state = algorithm.init(TASK.init(key))
        for i in range(2):
            batches = TASK.sample_batch(jax.random.fold_in(key, i), "train", BATCH_SHAPE)
            state, _ = algorithm.round(TASK.loss, state, key, batches)
        return algorithm.params(state)

    return run


@pytest.fixture(autouse=True)
def as_users_have_it():
    # optax's Adam raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("name", RIVALS)
def test_contract(name):
    contender = RIVALS[name](TOY)
    assert contender.name == name and contender.kind == "baseline"
    setting = settings(contender.grid)[0]
    traced = {field: jnp.float32(value) for field, value in setting.items()}
    params = TASK.init(jax.random.key(0))
    shapes = jax.eval_shape(two_rounds(name, "cosine"), jax.random.key(0), traced)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, params)
    assert contender.make(setting).bytes_sent(params) > 0


@pytest.mark.parametrize("name", ["fedyogi", "muloco", "snoo"])
def test_the_schedule_is_followed(name):
    """The three ways by which a rate enters: the server's step too, an algorithm's own rate, the workers' optimizer."""
    setting = settings(RIVALS[name](TOY).grid)[0]
    steady, decaying = (
        jax.jit(two_rounds(name, schedule))(jax.random.key(0), setting) for schedule in ("constant", "linear")
    )
    differences = [jnp.max(jnp.abs(x - y)) for x, y in zip(*map(jax.tree.leaves, (steady, decaying)), strict=True)]
    assert max(map(float, differences)) > 1e-5
