"""Every published optimizer against the updates that its published implementation returned.

Edge cases have fewer updates than the others: they are filled up to the same length, so that one compiled program
serves all courses of one architecture and size, whatever its multipliers.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.architectures import from_config
from learned_opt.per_parameter import mlp
from tests.learned_opt.published import recordings

CASES = recordings.cases()
RATES = ("exp_mult", "step_mult", "learning_rate", "output_scale", "decay_strength")
LENGTH = 6
EAGER = [case for case in CASES if str(case) in ("learnable_adam-C", "nn_adam-C", "celo_released-A", "celo2-M-edge")]

AS_IF_LARGE = [
    case for case in CASES if str(case) in ("celo2_base-A", "celo2_base-B", "celo_released-C", "hyper_v2_small-C")
]


def take_out_rates(config):
    """(config without its rates, rates); of a wrapped optimizer, those of the one inside."""
    if "base" in config:
        base, rates = take_out_rates(config["base"])
        return {**config, "base": base}, rates
    # Of AdafacMLPLOpt, only the factor of the step may be an array.
    names = ("step_mult",) if config["architecture"] == "adafac_mlp_lopt" else RATES
    rates = {name: config[name] for name in names if name in config}
    return {name: value for name, value in config.items() if name not in rates}, rates


def put_in_rates(config, rates):
    return {**config, "base": put_in_rates(config["base"], rates)} if "base" in config else {**config, **rates}


@functools.cache
def compiled(config_without_rates):
    config = json.loads(config_without_rates)

    @jax.jit
    def run(theta, rates, params, inputs):
        tx = from_config(put_in_rates(config, rates)).transform(theta, num_steps=recordings.NUM_STEPS)

        def step(carry, given):
            params, state = carry
            gradients, loss, is_valid = given
            updates, state = tx.update(gradients, state, params, value=loss, is_valid=is_valid)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(step, (params, tx.init(params)), inputs)[1]

    return run


def test_all_runs_are_here():
    assert len({case[:2] for case in CASES}) == 35
    assert len(CASES) == 64


@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiled_updates(case):
    lopt, theta = learned_opt.import_weights(
        case.kind, recordings.theta_of(case), arguments=recordings.arguments_of(case)
    )
    course = recordings.course_of(case)
    inputs = (course.gradients, course.losses, course.is_valid)
    filled = jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[-1:], LENGTH - len(x), axis=0)]), inputs)
    config, rates = take_out_rates(lopt.config)
    found = compiled(json.dumps(config, sort_keys=True))(theta, rates, course.params, filled)
    recordings.assert_follows(case, course, [x[: len(course.losses)] for x in found])


@pytest.mark.parametrize("case", AS_IF_LARGE, ids=str)
def test_written_out_as_for_large_tensors(case, monkeypatch):
    monkeypatch.setattr(mlp, "SMALLEST_WRITTEN_OUT", 0)
    lopt, theta = learned_opt.import_weights(case.kind, recordings.theta_of(case), recordings.arguments_of(case))
    course, tx = recordings.course_of(case), lopt.transform(theta, num_steps=recordings.NUM_STEPS)
    params, update = course.params, jax.jit(tx.update)
    state, found = tx.init(params), []
    for t in range(len(course.losses)):
        updates, state = update([g[t] for g in course.gradients], state, params, value=course.losses[t])
        params = optax.apply_updates(params, updates)
        found.append(params)
    recordings.assert_follows(case, course, [np.stack(x) for x in zip(*found, strict=True)])


@pytest.mark.parametrize("case", EAGER, ids=str)
def test_updates_one_operation_at_a_time(case):
    lopt, theta = learned_opt.import_weights(case.kind, recordings.theta_of(case), recordings.arguments_of(case))
    tx = lopt.transform(theta, num_steps=recordings.NUM_STEPS)
    course = recordings.course_of(case)
    params = [jnp.asarray(p) for p in course.params]
    state, found = tx.init(params), []
    for t in range(2):
        updates, state = tx.update([g[t] for g in course.gradients], state, params, value=course.losses[t])
        params = optax.apply_updates(params, updates)
        found.append(params)
    recordings.assert_follows(case, course, [np.stack(x) for x in zip(*found, strict=True)])


@pytest.mark.parametrize("kind", ["lopt_a", "lagg_a"])
def test_server_optimizers_read_the_published_sign(kind):
    # Fed what one worker did, -gradient, both are AdafacMLPLOpt on that gradient.
    case = next(case for case in CASES if str(case) == "adafac_mlp_lopt-C")
    arguments = {**recordings.arguments_of(case), "num_grads": 1}
    lopt, theta = learned_opt.import_weights(kind, recordings.theta_of(case), arguments)
    tx, course = lopt.transform(theta), recordings.course_of(case)
    params = course.params
    update = jax.jit(tx.update)
    state, found = tx.init(params), []
    for t in range(2):
        after_minus_before = [g[t] for g in course.gradients]
        pseudo_gradient = [-g for g in after_minus_before]
        workers = [g[None] for g in pseudo_gradient]
        updates, state = update(pseudo_gradient, state, params, worker_updates=workers)
        params = optax.apply_updates(params, updates)
        found.append(params)
    recordings.assert_follows(case, course, [np.stack(x) for x in zip(*found, strict=True)])


def test_meta_parameter_counts():
    def count(lopt):
        return sum(x.size for x in jax.tree.leaves(jax.eval_shape(lopt.init, jax.random.key(0))))

    assert count(learned_opt.hyper_v2()) == 162_305
    assert count(learned_opt.hyper_v2(lstm_hidden_size=512, num_mlps=256)) == 2_320_385
    assert count(learned_opt.celo()) == 37_089
    assert count(learned_opt.celo_adam()) == 36_865
    assert count(learned_opt.celo2()) == count(learned_opt.celo2_base()) == 347
    assert count(learned_opt.learnable_adam()) == 4
