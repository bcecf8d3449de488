"""A curriculum is an order of the data: the algorithm itself, on examples in that order."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.curriculum import dealt, pacing, with_curriculum
from learned_opt.algorithms.gossip.dpsgd import dpsgd
from learned_opt.algorithms.gossip.topology import ring
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.post_local_sgd import synchronous_at_first
from tests.learned_opt.algorithms.quadratics import CURVATURE, NUM_PARAMS, assert_close, draw_batches, start, train

ROUNDS, WORKERS, STEPS, BATCH = 3, 3, 2, 4
SIZE = STEPS * BATCH
BATCHES = draw_batches(ROUNDS, WORKERS, STEPS, BATCH)
PLAIN = local_sgd(optax.sgd(0.1), optax.sgd(1.0))


def everything(t):
    return jnp.float32(1.0)


def by_hand(share, hardest_first):
    """The path of plain averaging on examples that NumPy ranks, round by round."""
    x, path, orders = start(), [], []
    for t, batches in enumerate(BATCHES):
        ordered = []
        for worker in batches:
            examples = worker.reshape(SIZE, NUM_PARAMS)
            losses = 0.5 * np.sum(CURVATURE[None] * (x[None] - examples) ** 2, axis=1)
            ranking = np.argsort(-losses if hardest_first else losses)
            ranking = np.resize(ranking[: int(np.ceil(share(t) * SIZE))], SIZE)
            ordered.append(examples[ranking].reshape(STEPS, BATCH, NUM_PARAMS))
        orders.append(ordered)
        ends = []
        for worker in ordered:
            y = x
            for batch in worker:
                y = y - 0.1 * CURVATURE * (y - batch.mean(axis=0))
            ends.append(y)
        x = np.mean(ends, axis=0)
        path.append(x)
    return path


@pytest.mark.parametrize("order", ["easy", "hard"])
def test_against_a_loop(order):
    shares = [0.25, 0.6, 1.0]
    found, _, infos = train(with_curriculum(PLAIN, lambda t: jnp.asarray(shares)[t], order), BATCHES)
    assert_close(found, by_hand(lambda t: shares[t], order == "hard"))
    assert infos[0].losses.shape == (WORKERS, STEPS)


def test_examples_in_no_order_are_all_there():
    """With steps so small that the order does not count, their mean does."""
    slow = local_sgd(optax.sgd(1e-4), optax.sgd(1.0))
    found, _, _ = train(with_curriculum(slow, everything, "random"), BATCHES)
    expected, _, _ = train(slow, BATCHES)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    other, _, _ = train(with_curriculum(slow, lambda t: jnp.float32(0.2), "random"), BATCHES)
    assert np.abs(other - expected).max() > 1e-5


def test_it_goes_around_gossip_too_and_needs_a_model():
    found, states, _ = train(with_curriculum(dpsgd(optax.sgd(0.1), ring(WORKERS)), everything), BATCHES)
    assert np.isfinite(found).all() and int(states[-1].shared.num_rounds) == ROUNDS
    with pytest.raises(ValueError, match="has no field params: put the curriculum around the algorithm itself"):
        train(with_curriculum(synchronous_at_first(PLAIN, 1), everything), BATCHES)
    train(synchronous_at_first(with_curriculum(PLAIN, everything), 1), BATCHES[:1])


@pytest.mark.parametrize(("share", "expected"), [(0.5, [3, 1, 3, 1]), (0.6, [3, 1, 0, 3]), (0.0, [3] * 4)])
def test_what_is_left_out_is_replaced_by_what_is_not(share, expected):
    assert dealt(jnp.array([3, 1, 0, 2]), jnp.float32(share)).tolist() == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("linear", [0.2, 0.4, 0.6]), ("quadratic", [0.2, 0.25, 0.4]), ("root", [0.2, 0.6, 0.766]), ("step", [0.2] * 3)],
)
def test_shares_by_hand(shape, expected):
    share = pacing(20, first_share=0.2, until=0.8, shape=shape)
    found = [float(share(jnp.int32(t))) for t in (0, 4, 8, 16, 19)]
    np.testing.assert_allclose(found, [*expected, 1, 1], atol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pacing(10, first_share=0.0), "first_share=0.0: use more than 0 and at most 1"),
        (lambda: pacing(10, until=1.5), "until=1.5: use more than 0"),
        (lambda: pacing(10, shape="log"), "shape='log': use one of linear"),
        (lambda: with_curriculum(PLAIN, everything, "esy"), "order='esy': use one of easy, hard, random"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bytes_and_gradients_are_those_of_the_algorithm():
    algorithm = with_curriculum(PLAIN, everything)
    assert algorithm.bytes_sent is PLAIN.bytes_sent and jax.tree.structure(algorithm.gradients(3)).num_leaves == 1
