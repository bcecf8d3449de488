"""Every rival builds, takes a round on the toy task at traced hyper-parameters, and follows the schedule."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.compare.grids import settings
from eval.compare.participants import named_contender
from eval.compare.rivals.algorithms import RIVALS
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


@pytest.mark.parametrize("name", ["qsr", "norm_test", "consensus_steps"])
def test_the_schedule_is_over_rounds_where_their_length_is_chosen(name):
    """In the last round the workers' rate is that of the schedule's end, however few steps have been taken."""
    protocol = dataclasses.replace(TOY, schedule="linear", num_rounds=3)
    setting = settings(RIVALS[name](protocol).grid)[0]
    algorithm = simulate(RIVALS[name](protocol).make(setting), protocol.num_workers)
    state, slope = algorithm.init({"w": jnp.zeros(2)}), jnp.ones(2)
    loss = lambda params, key, batch: slope @ params["w"] + 0 * batch[0]  # noqa: E731
    round_fn = jax.jit(functools.partial(algorithm.round, loss))
    moves = []
    for i in range(protocol.num_rounds):
        before = algorithm.params(state)["w"]
        state, info = round_fn(state, jax.random.key(i), jnp.zeros(BATCH_SHAPE))
        moves.append((before - algorithm.params(state)["w"]) / info.diagnostics["num_local_steps"])
    np.testing.assert_allclose(moves, np.outer([1, 2 / 3, 1 / 3], [setting["local_lr"]] * 2), rtol=1e-4)


def test_a_model_of_one_tensor_is_one_fragment():
    algorithm = RIVALS["streaming_diloco"](TOY).make({"local_lr": 0.5, "server_lr": 0.7, "momentum": 0.9})
    one, two = {"a": jnp.zeros(6)}, {"a": jnp.zeros(6), "b": jnp.zeros(6)}
    assert algorithm.bytes_sent(one) == algorithm.bytes_sent(two) == 24
    assert len(algorithm.init(one).shared.server_states) == 1


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("quantized_diloco,bits=3", "bits=3: use one of 2, 4, 8, 32"),
        ("sparse_loco,k=5000", "k=5000: use 1 to chunk_size=4096"),
        ("streaming_diloco,num_fragments=0", "num_fragments=0: use at least 1"),
        ("dpsgd,topology=rng", "topology='rng': did you mean 'ring'"),
        ("qg_dsgdm,topology=social_network", "num_workers=2: use 32"),
        ("dpsgd,bits=3", "has no argument 'bits'"),
    ],
)
def test_settings_that_are_not_there_are_named_before_any_run(reference, message):
    with pytest.raises(ValueError, match=message):
        named_contender(reference, TOY)
