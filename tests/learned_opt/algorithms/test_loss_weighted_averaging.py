"""Loss-weighted averaging against a NumPy loop, and the plain mean where losses do not count."""

import numpy as np
import optax

from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.loss_weighted_averaging import loss_weighted_averaging
from learned_opt.algorithms.round import dense_bytes
from tests.learned_opt.algorithms.quadratics import (
    CURVATURE,
    PARAMS,
    assert_close,
    draw_batches,
    gradient,
    start,
    train,
)

WORKERS, STEPS, ETA = 3, 2, 0.1
BATCHES = draw_batches(4, WORKERS, STEPS)


def loss(x, batch):
    return np.mean(0.5 * np.sum(CURVATURE * (x - batch) ** 2, axis=1))


def test_against_a_loop():
    sharpness, x, path, effective = 0.5, start(), [], []
    for batches in BATCHES:
        ends, last_losses = [], []
        for worker in batches:
            y = x
            for step in range(STEPS):
                last_loss = loss(y, worker[step])
                y = y - ETA * gradient(y, worker[step])
            ends.append(y)
            last_losses.append(last_loss)
        weights = np.exp(-sharpness * np.asarray(last_losses))
        weights /= weights.sum()
        x = x + 0.8 * (weights @ np.asarray(ends) - x)
        path.append(x)
        effective.append(1 / np.sum(weights**2))
    found, _, infos = train(loss_weighted_averaging(optax.sgd(ETA), sharpness, optax.sgd(0.8)), BATCHES)
    assert_close(found, path)
    assert_close([info.diagnostics["effective_workers"] for info in infos], effective)
    assert min(effective) < 2.6


def test_losses_that_do_not_count_give_the_plain_mean():
    found, _, infos = train(loss_weighted_averaging(optax.sgd(ETA), 0.0), BATCHES)
    assert_close(found, train(local_sgd(optax.sgd(ETA), optax.sgd(1.0)), BATCHES)[0])
    assert_close(infos[0].diagnostics["effective_workers"], WORKERS)


def test_the_sharpest_weights_take_the_best_worker():
    found, _, _ = train(loss_weighted_averaging(optax.sgd(ETA), 1e6), BATCHES[:1])
    ends, losses = [], []
    for worker in BATCHES[0]:
        y = start() - ETA * gradient(start(), worker[0])
        losses.append(loss(y, worker[1]))
        ends.append(y - ETA * gradient(y, worker[1]))
    assert_close(found[0], ends[int(np.argmin(losses))])


def test_a_number_more_is_sent():
    assert loss_weighted_averaging(optax.sgd(ETA)).bytes_sent(PARAMS) == dense_bytes(PARAMS) + 4
