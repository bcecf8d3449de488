"""Shortened rounds are local SGD on fewer batches; their lengths follow the published rules."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.adaptive.consensus_steps import consensus_steps
from learned_opt.algorithms.adaptive.norm_test import norm_test
from learned_opt.algorithms.adaptive.qsr import qsr
from learned_opt.algorithms.local_sgd import local_sgd
from tests.learned_opt.algorithms.quadratics import (
    KEY,
    PARAMS,
    assert_close,
    draw_batches,
    gradient,
    loss_fn,
    start,
    train,
)

WORKERS, STEPS, ETA = 3, 8, 0.1
BATCHES = draw_batches(6, WORKERS, STEPS)


def lengths(infos):
    return [int(info.diagnostics["num_local_steps"]) for info in infos]


def numpy_round(x, batches, num_steps, rates):
    """Ends of the workers after steps with the given learning rates."""
    ends = []
    for worker in batches:
        y = x
        for step in range(num_steps):
            y = y - rates[step] * gradient(y, worker[step])
        ends.append(y)
    return np.asarray(ends)


def test_qsr_against_a_loop():
    def schedule(step):
        return 0.2 / (1 + 0.25 * jnp.asarray(step, jnp.float32))

    growth, x, taken, path, expected = 0.25, start(), 0, [], []
    for batches in BATCHES:
        h = min(max(2, int(np.floor((growth / schedule(taken)) ** 2))), STEPS)
        x = numpy_round(x, batches, h, [schedule(taken + i) for i in range(h)]).mean(axis=0)
        taken += h
        path.append(x)
        expected.append(h)
    found, states, infos = train(qsr(optax.sgd(schedule), schedule, growth, 2), BATCHES)
    assert_close(found, path)
    assert lengths(infos) == expected
    assert len(set(expected)) > 2 and expected[-1] == STEPS
    assert int(states[-1].shared.num_steps) == taken


def test_qsr_that_does_not_grow_is_local_sgd_on_the_first_steps():
    local_opt = optax.sgd(ETA, 0.9)
    found, _, _ = train(qsr(local_opt, ETA, 0.0, 3), BATCHES)
    assert_close(found, train(local_sgd(local_opt, optax.sgd(1.0)), BATCHES[:, :, :3])[0])


def test_a_learning_rate_that_has_come_to_zero_takes_all_steps():
    _, _, infos = train(qsr(optax.sgd(ETA), lambda step: jnp.zeros(()), 0.1), BATCHES[:1])
    assert lengths(infos) == [STEPS]


def test_the_norm_test_against_a_loop():
    tolerance, x, h, path, expected = 0.35, start(), 1, [], []
    for batches in BATCHES:
        ends = numpy_round(x, batches, h, [ETA] * h)
        delta = x - ends
        variance = delta.var(axis=0, ddof=1).sum()
        x, taken = ends.mean(axis=0), h
        h = max(h, int(np.ceil(h * variance / (WORKERS * tolerance**2 * np.sum(delta.mean(axis=0) ** 2)))))
        h = min(h, STEPS)
        path.append(x)
        expected.append(taken)
    found, _, infos = train(norm_test(optax.sgd(ETA), tolerance), BATCHES)
    assert_close(found, path)
    assert lengths(infos) == expected
    assert len(set(expected)) > 2


def test_the_norm_test_of_an_infinite_tolerance_never_grows():
    found, _, infos = train(norm_test(optax.sgd(ETA), jnp.inf, 2), BATCHES)
    assert lengths(infos) == [2] * len(BATCHES)
    assert_close(found, train(local_sgd(optax.sgd(ETA), optax.sgd(1.0)), BATCHES[:, :, :2])[0])


def test_workers_that_are_alike_need_no_longer_rounds():
    alike = draw_batches(3, WORKERS, STEPS, alike=True)
    # Equal to rounding: the tolerance is far above it.
    assert lengths(train(norm_test(optax.sgd(ETA), 0.1, 2), alike)[2]) == [2, 2, 2]


def test_consensus_steps_against_a_loop():
    fraction, x, h, path, expected = 0.9, start(), STEPS, [], []
    for batches in BATCHES:
        ends = numpy_round(x, batches, h, [ETA] * h)
        expected.append(h)
        apart = np.sqrt(np.mean(np.sum((ends - ends.mean(axis=0)) ** 2, axis=1)))
        is_far = apart > fraction * np.linalg.norm(x - ends.mean(axis=0))
        h = max(h - 1, 1) if is_far else min(h + 1, STEPS)
        x = ends.mean(axis=0)
        path.append(x)
    found, _, infos = train(consensus_steps(optax.sgd(ETA), fraction), BATCHES)
    assert_close(found, path)
    assert lengths(infos) == expected and len(set(expected)) > 2


def test_consensus_steps_without_a_target_are_local_sgd():
    found, _, infos = train(consensus_steps(optax.sgd(ETA), jnp.inf), BATCHES)
    assert lengths(infos) == [STEPS] * len(BATCHES)
    assert_close(found, train(local_sgd(optax.sgd(ETA), optax.sgd(1.0)), BATCHES)[0])


def test_losses_after_the_last_step_repeat_it():
    _, _, infos = train(norm_test(optax.sgd(ETA), jnp.inf, 3), BATCHES)
    losses = np.asarray(infos[0].losses)
    assert np.all(losses[:, 3:] == losses[:, 2:3]) and np.all(losses[:, 1] != losses[:, 2])


def test_steps_that_are_not_taken_cost_nothing():
    """The gradient stands in a branch of a conditional, and not in a select of both."""
    algorithm = learned_opt.simulate(norm_test(optax.sgd(ETA)), WORKERS)
    jaxpr = jax.make_jaxpr(functools.partial(algorithm.round, loss_fn))(
        algorithm.init(PARAMS), KEY, jnp.asarray(BATCHES[0])
    )
    assert "cond[" in str(jaxpr)


@pytest.mark.parametrize(
    "make",
    [lambda: norm_test(optax.sgd(ETA), 0.5, 0), lambda: qsr(optax.sgd(ETA), lambda step: jnp.float32(ETA), 0.1, 0)],
)
def test_no_local_steps_are_named(make):
    with pytest.raises(ValueError, match="min_local_steps=0: use at least 1"):
        make()
