"""Optimizers as baselines by one rule: a round at a traced rate, the schedule, what is evaluated, what is charged."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from eval.compare.baselines import BASELINES, GROUPS
from eval.compare.rivals.optimizers import OPTIMIZER_BASELINES, OWN_BASELINES, RANGES
from learned_opt.algorithms.round import simulate
from learned_opt.algorithms.round_cost import round_cost
from learned_opt.optimizers.table import OPTIMIZERS
from tests.eval.toy import TOY, toy_family

FAMILY = toy_family()
TASK = FAMILY.task({}, {"train": FAMILY.data["train"]})


@pytest.fixture(autouse=True)
def as_users_have_it():
    # optax's Adam raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def two_rounds(name, schedule, rate):
    """(evaluated parameters, trained ones) after two rounds."""
    protocol = dataclasses.replace(TOY, schedule=schedule, num_rounds=2, eval_every=2)

    @jax.jit
    def run(key, rate):
        driven = simulate(BASELINES[name](protocol).make({"lr": rate}), protocol.num_workers)
        state = driven.init(TASK.init(key))
        for i in range(2):
            shape = (protocol.num_workers, protocol.num_local_steps, protocol.batch_size)
            batches = TASK.sample_batch(jax.random.fold_in(key, i), "train", shape)
            state, _ = driven.round(TASK.loss, state, key, batches)
        return driven.params(state), state.shared.params

    return run(jax.random.key(0), jnp.float32(rate))


def distance(x, y):
    return max(float(jnp.max(jnp.abs(a - b))) for a, b in zip(*map(jax.tree.leaves, (x, y)), strict=True))


@pytest.mark.parametrize("name", ["dp_nadamw", "dp_sam", "dp_schedule_free_adamw"])
def test_the_schedule_is_the_optimizers_own(name):
    steady, trained = two_rounds(name, "constant", 0.1)
    decaying, _ = two_rounds(name, "linear", 0.1)
    assert distance(steady, decaying) > 1e-3
    assert (distance(steady, trained) > 1e-4) == (name == "dp_schedule_free_adamw")


def test_gradients_beyond_the_first_are_charged():
    params = TASK.init(jax.random.key(0))
    costs = {
        name: round_cost(BASELINES[name](TOY).make({"lr": 0.1}), params, 2, 4) for name in ("dp_asgd", "dp_sa_sam")
    }
    assert costs["dp_asgd"].gradients == 4 and costs["dp_sa_sam"].gradients == 12
    for field in ("bytes_sent", "bytes_received"):
        assert getattr(costs["dp_sa_sam"], field) == 3 * getattr(costs["dp_asgd"], field) > 0
    assert costs["dp_sa_sam"].peak_bytes == costs["dp_asgd"].peak_bytes


def test_every_optimizer_is_a_baseline():
    named = {f"dp_{name}" for name in OPTIMIZERS if name not in OWN_BASELINES}
    assert named == set(OPTIMIZER_BASELINES) < set(GROUPS["optimizers"]) <= set(BASELINES)
    assert not named & set(GROUPS["all"]) and set(RANGES) <= set(OPTIMIZERS)
