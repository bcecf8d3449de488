"""Late workers: how often the chain makes them, what a mean without them is, and codes that do without them."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.compression.quantize import quantize
from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.server import diloco
from learned_opt.algorithms.stragglers.gilbert_elliott import GilbertElliott, next_state, participation
from learned_opt.algorithms.stragglers.gradient_coding import (
    coded_data_parallel,
    cyclic,
    decoding,
    fractional_repetition,
)
from learned_opt.algorithms.stragglers.late_workers import late_workers, local_sgd_without_late_workers
from tests.learned_opt.algorithms.quadratics import KEY, assert_close, draw_batches, gradient, start, train

WORKERS, STEPS, ETA = 4, 2, 0.1
BATCHES = draw_batches(5, WORKERS, STEPS)
NO_CHAIN: Any = 0.5
SGD = optax.sgd(ETA)
NEVER, OFTEN = GilbertElliott(0.0, 1.0), GilbertElliott(0.5, 0.5)


def test_the_chain_is_slow_as_often_and_as_long_as_it_should():
    chain, num_rounds, num_workers = GilbertElliott(0.1, 0.4), 300, 200

    def one_round(is_slow, key):
        is_slow = next_state(chain, key, is_slow)
        return is_slow, is_slow

    _, history = jax.lax.scan(one_round, jnp.zeros(num_workers, bool), jax.random.split(KEY, num_rounds))
    history = np.asarray(history)[50:]
    assert history.mean() == pytest.approx(0.1 / 0.5, abs=0.01)
    begins = history[1:] & ~history[:-1]
    # Rounds that are slow over bursts that begin.
    assert history[1:].sum() / begins.sum() == pytest.approx(1 / 0.4, rel=0.05)


def test_participation_is_drawn_anew_every_round():
    chain, before = participation(0.25), jnp.arange(4000) % 2 == 0
    is_slow = np.asarray(next_state(chain, KEY, before))
    # Standard errors of 0.01, whether or not a worker took part before.
    assert is_slow[::2].mean() == pytest.approx(0.75, abs=0.03)
    assert is_slow[1::2].mean() == pytest.approx(0.75, abs=0.03)
    with pytest.raises(ValueError, match="share=0.0: use more than 0 and at most 1"):
        participation(0.0)


def local_deltas(x, batches):
    ends = []
    for worker in batches:
        y = x
        for batch in worker:
            y = y - ETA * gradient(y, batch)
        ends.append(y)
    return x - np.asarray(ends)


def test_the_mean_is_over_those_in_time():
    found, states, _ = train(local_sgd_without_late_workers(SGD, optax.sgd(0.9), OFTEN), BATCHES)
    x, numbers = start(), []
    for batches, state, path in zip(BATCHES, states, found, strict=True):
        is_here = ~np.asarray(state.worker.upload_state.is_slow)
        deltas = local_deltas(x, batches)
        x = x - 0.9 * (deltas[is_here].mean(axis=0) if is_here.any() else 0.0)
        assert_close(path, x)
        numbers.append(is_here.sum())
    assert len(set(numbers)) > 1


def test_a_server_that_reads_the_workers_finds_the_mean_in_the_place_of_a_late_one():
    def read(updates, state, params=None, *, worker_updates=None, **extra):
        return jax.tree.map(lambda u: -u, updates), jax.tree.map(lambda w, s: w, worker_updates, state)

    def room_for_all(params):
        return jax.tree.map(lambda p: jnp.zeros((WORKERS, *np.shape(p))), params)

    reader = optax.GradientTransformationExtraArgs(room_for_all, read)
    _, states, _ = train(local_sgd_without_late_workers(SGD, reader, OFTEN), BATCHES)
    x = start()
    for batches, state in zip(BATCHES, states, strict=True):
        is_slow = np.asarray(state.worker.upload_state.is_slow)
        deltas = local_deltas(x, batches)
        if not is_slow.all():
            deltas[is_slow] = deltas[~is_slow].mean(axis=0)
            assert_close(np.asarray(state.shared.server_state["b"]).reshape(WORKERS, 4), deltas[:, 1:5])
        x = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.shared.params)]).astype(np.float64)


def test_when_all_are_late_nothing_arrives():
    found, _, _ = train(local_sgd_without_late_workers(SGD, chain=GilbertElliott(1.0, 0.0)), BATCHES[:2])
    np.testing.assert_array_equal(found, np.stack([start(), start()]).astype(np.float32))


def test_without_stragglers_it_is_local_sgd_also_after_a_compression():
    found, _, _ = train(local_sgd_without_late_workers(SGD, diloco(), NEVER), BATCHES)
    np.testing.assert_array_equal(found, train(local_sgd(SGD, diloco()), BATCHES)[0])
    compression = quantize(4).transform
    found, _, _ = train(local_sgd(SGD, diloco(), optax.chain(compression, late_workers(NEVER))), BATCHES)
    assert_close(found, train(local_sgd(SGD, diloco(), compression), BATCHES)[0])


CODES = [
    (fractional_repetition(6, 1), 1),
    (fractional_repetition(6, 2), 2),
    (cyclic(6, 1), 1),
    (cyclic(5, 2), 2),
    (cyclic(7, 3), 3),
    (cyclic(4, 0), 0),
]


@pytest.mark.parametrize(("code", "num_stragglers"), CODES)
def test_any_workers_but_s_decode_the_sum(code, num_stragglers):
    num_workers = len(code)
    parts = np.random.default_rng(0).normal(size=(num_workers, 3))
    decode = jax.jit(decoding)
    for late in itertools.combinations(range(num_workers), num_stragglers):
        is_here = np.ones(num_workers, bool)
        is_here[list(late)] = False
        factors = np.asarray(decode(jnp.asarray(code, jnp.float32), jnp.asarray(is_here)))
        np.testing.assert_array_equal(factors[list(late)], 0)
        # Float32, and equations of condition up to a thousand.
        np.testing.assert_allclose(factors @ (code @ parts), parts.sum(axis=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("code", "num_stragglers"), CODES)
def test_a_worker_has_one_part_more_than_there_are_stragglers(code, num_stragglers):
    np.testing.assert_array_equal(np.count_nonzero(code, axis=1), num_stragglers + 1)


def test_one_straggler_more_than_a_code_bears_spoils_it():
    code = fractional_repetition(4, 1)
    factors = decoding(jnp.asarray(code, jnp.float32), jnp.asarray([False, False, True, True]))
    np.testing.assert_allclose(factors @ code, [0, 0, 1, 1], atol=1e-6)


@pytest.mark.parametrize("code", [fractional_repetition(WORKERS, 0), cyclic(WORKERS, 0), fractional_repetition(4, 1)])
def test_without_stragglers_it_is_data_parallel(code):
    found, _, infos = train(coded_data_parallel(optax.sgd(ETA, 0.9), code, NEVER), BATCHES)
    expected, _, expected_infos = train(data_parallel(optax.sgd(ETA, 0.9)), BATCHES)
    assert_close(found, expected)
    assert_close(infos[-1].losses, expected_infos[-1].losses)


@pytest.mark.parametrize("make", [fractional_repetition, cyclic])
def test_rounds_with_few_late_workers_are_exact(make):
    algorithm = coded_data_parallel(SGD, make(WORKERS, 1), GilbertElliott(0.1, 1.0))
    batches = draw_batches(12, WORKERS, STEPS)
    found, _, infos = train(algorithm, batches)
    num_late = [int(info.diagnostics["num_late"]) for info in infos]
    good = num_late.index(2) if 2 in num_late else len(num_late)
    assert 1 in num_late[:good]
    expected, _, _ = train(data_parallel(SGD), batches)
    np.testing.assert_allclose(found[:good], expected[:good], rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cyclic(4, 4), "num_stragglers=4: use 0 to num_workers - 1 = 3"),
        (lambda: fractional_repetition(4, -1), "num_stragglers=-1: use 0 to num_workers - 1 = 3"),
        (
            lambda: fractional_repetition(8, 2),
            r"num_workers=8: use a multiple of num_stragglers \+ 1 = 3, or the cyclic",
        ),
        (lambda: coded_data_parallel(SGD, np.ones((2, 3))), r"code has shape \(2, 3\): use \[workers, workers\]"),
        (lambda: coded_data_parallel(SGD, np.zeros((4, 4))), "code: its rows do not add up to ones"),
        (lambda: late_workers(GilbertElliott(2.0, 0.5)), "slow_down=2.0: use a probability, 0 to 1"),
        (
            lambda: coded_data_parallel(SGD, cyclic(4, 1), NO_CHAIN),
            r"chain=0.5: use GilbertElliott\(slow_down, recover\)",
        ),
        (lambda: train(coded_data_parallel(SGD, cyclic(3, 1)), BATCHES), "code is for 3 workers and there are 4"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
