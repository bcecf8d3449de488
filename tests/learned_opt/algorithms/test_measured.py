"""What the workers sent, as it is handed to those who measure it, against the step that the server makes of it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.adaptive.qsr import qsr
from learned_opt.algorithms.corrections.feddyn import feddyn
from learned_opt.algorithms.corrections.scaffold import scaffold
from learned_opt.algorithms.curriculum import with_curriculum
from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.loss_weighted_averaging import loss_weighted_averaging
from learned_opt.algorithms.measured import measured
from learned_opt.algorithms.post_local_sgd import synchronous_at_first
from learned_opt.algorithms.round import simulate
from tests.learned_opt.algorithms.quadratics import draw_batches, flat, start, train

WORKERS = 3
BATCHES = draw_batches(1, WORKERS, 2)
SGD = optax.sgd(0.1)
PLAIN = local_sgd(SGD, optax.sgd(1.0))


def sent_of_a_round(algorithm):
    """Messages [workers, elements] of the first round, and the parameters after it."""
    found, _, infos = train(measured(algorithm, lambda sent: {"sent": sent}), BATCHES)
    assert np.array_equal(found, train(algorithm, BATCHES)[0])
    return jax.vmap(flat)(infos[0].diagnostics["sent"]), found[0]


@pytest.mark.parametrize(
    "algorithm",
    [
        PLAIN,
        scaffold(SGD),
        feddyn(SGD),
        qsr(SGD, 0.1, 0.0, 1),
        loss_weighted_averaging(SGD, 0.0),
        with_curriculum(PLAIN, lambda t: jnp.float32(0.5)),
        synchronous_at_first(PLAIN, 0),
    ],
)
def test_the_server_takes_the_mean_of_what_was_sent(algorithm):
    sent, after = sent_of_a_round(algorithm)
    assert sent.shape == (WORKERS, start().size) and np.std(sent, axis=0).min() > 0
    np.testing.assert_allclose(start() - np.mean(sent, axis=0), after, rtol=1e-5, atol=1e-6)


def test_an_algorithm_without_messages_to_one_average_stays_as_it_is():
    algorithm = data_parallel(SGD)
    assert measured(algorithm, lambda sent: {"sent": sent}) is algorithm


def test_all_workers_at_once_are_not_measured_once_more():
    driven: Any = simulate(PLAIN, WORKERS)
    assert driven.measured is None and measured(driven, lambda sent: {}).round is driven.round
