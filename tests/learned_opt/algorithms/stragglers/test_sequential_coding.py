"""Selective repeat: which lateness it bears with how short a code; its gradients are those of B rounds before."""

import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.stragglers.gilbert_elliott import GilbertElliott
from learned_opt.algorithms.stragglers.gradient_coding import cyclic, decoding, fractional_repetition
from learned_opt.algorithms.stragglers.sequential_coding import sequential_coded_data_parallel, who_repeats
from tests.learned_opt.algorithms.quadratics import assert_close, draw_batches, gradient, start, train

WORKERS, ETA = 4, 0.1


def slow_repeats(has_arrived, num_stragglers):
    """By a loop."""
    lacking, chosen = len(has_arrived) - num_stragglers - sum(has_arrived), []
    for arrived in has_arrived:
        chosen.append(not arrived and lacking > 0)
        lacking -= chosen[-1]
    return chosen


def test_who_repeats_against_a_loop():
    for has_arrived in itertools.product([False, True], repeat=5):
        for num_stragglers in range(5):
            found = who_repeats(jnp.asarray(has_arrived), num_stragglers)
            assert found.tolist() == slow_repeats(has_arrived, num_stragglers)


def arrivals(late, delay, num_stragglers):
    """Who has arrived of every round's messages when they are decoded, [rounds - delay, n]; late: [rounds, n]."""
    pending, decoded = [np.ones(late.shape[1], bool)] * delay, []
    for is_late in late:
        repeats = np.asarray(slow_repeats(list(pending[0]), num_stragglers))
        decoded.append(pending[0] | (repeats & ~is_late))
        pending = [*pending[1:], ~repeats & ~is_late]
    return np.asarray(decoded[delay:])


def is_bursty(late, delay, window, most):
    """Whether in any `window` rounds at most `most` workers are late, each within `delay` rounds of its first."""
    for first in range(len(late) - window + 1):
        inside = late[first : first + window]
        places = [np.flatnonzero(column) for column in inside.T if column.any()]
        if len(places) > most or any(place[-1] - place[0] >= delay for place in places):
            return False
    return True


@pytest.mark.parametrize(("delay", "window", "most", "num_rounds"), [(1, 2, 2, 4), (1, 3, 3, 4), (2, 3, 2, 4)])
def test_any_lateness_of_the_kind_leaves_enough_to_decode(delay, window, most, num_rounds):
    num_stragglers = -(-delay * most // (window - 1 + delay))
    assert num_stragglers < most, "a code without repeats would do"
    rows = np.asarray(list(itertools.product([False, True], repeat=WORKERS)))
    worst = 0
    for rounds in itertools.product(range(len(rows)), repeat=num_rounds):
        late = rows[list(rounds)]
        if (late.sum(axis=1) <= most).all() and is_bursty(late, delay, window, most):
            decoded = arrivals(late, delay, num_stragglers)
            worst = max(worst, int((~decoded).sum(axis=1).max()))
    # No more are missing than the code bears, and somewhere as many.
    assert worst == num_stragglers


def delayed(batches, delay):
    """Gradient descent on the gradients of `delay` rounds before."""
    x, path, gradients = start(), [], []
    for batch in batches:
        gradients.append(np.mean([gradient(x, own.reshape(-1, own.shape[-1])) for own in batch], axis=0))
        if len(gradients) > delay:
            x = x - ETA * gradients[-1 - delay]
        path.append(x)
    return np.asarray(path)


@pytest.mark.parametrize(("code", "delay"), [(cyclic(WORKERS, 1), 1), (fractional_repetition(WORKERS, 1), 2)])
def test_without_late_workers_it_is_the_gradient_of_before(code, delay):
    batches = draw_batches(5, WORKERS, 2)
    never = GilbertElliott(0.0, 1.0)
    found, _, infos = train(sequential_coded_data_parallel(optax.sgd(ETA), code, delay, never), batches)
    assert_close(found, delayed(batches, delay))
    assert not any(int(info.diagnostics["num_repeated"]) for info in infos)


def test_late_workers_beyond_the_code_are_made_up_for():
    """Late in one round and never in two running, as the chain has it; exact wherever the loop says it can be."""
    batches, code = draw_batches(12, WORKERS, 2), fractional_repetition(WORKERS, 1)
    algorithm = sequential_coded_data_parallel(optax.sgd(ETA), code, 1, GilbertElliott(0.4, 1.0))
    found, states, infos = train(algorithm, batches)
    late = np.asarray([state.worker.is_slow for state in states])
    repeated = [int(info.diagnostics["num_repeated"]) for info in infos]
    decoded = arrivals(late, 1, 1)
    exact = [np.allclose(np.asarray(decoding(jnp.asarray(code), jnp.asarray(a))) @ code, 1, atol=1e-4) for a in decoded]
    good = 1 + (exact.index(False) if False in exact else len(exact))
    assert any(late[t].sum() > 1 for t in range(good - 1)), "a code without repeats would do"
    assert sum(repeated[:good]) > 0
    np.testing.assert_allclose(found[:good], delayed(batches, 1)[:good], rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sequential_coded_data_parallel(optax.sgd(ETA), cyclic(4, 1), 0), "delay=0"),
        (lambda: sequential_coded_data_parallel(optax.sgd(ETA), np.ones((2, 3))), r"code has shape \(2, 3\)"),
        (
            lambda: train(sequential_coded_data_parallel(optax.sgd(ETA), cyclic(3, 1)), draw_batches(1, WORKERS, 2)),
            "code is for 3 workers and there are 4",
        ),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
