"""Gossip algorithms against NumPy loops of the published rules, and against what they are in their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.auto_diloco import auto_diloco
from learned_opt.algorithms.gossip.consensus_control import consensus_control
from learned_opt.algorithms.gossip.dpsgd import dpsgd
from learned_opt.algorithms.gossip.noloco import draw_partners, noloco
from learned_opt.algorithms.gossip.qg_adam import qg_adam
from learned_opt.algorithms.gossip.quasi_global import qg_dsgdm
from learned_opt.algorithms.gossip.topology import complete, one_peer_exponential, ring
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.round import dense_bytes
from learned_opt.architectures.lagg_a import lagg_a
from tests.learned_opt.algorithms.quadratics import (
    KEY,
    NUM_PARAMS,
    PARAMS,
    assert_close,
    draw_batches,
    gradient,
    start,
    train,
)

WORKERS, STEPS, ETA = 4, 2, 0.1
BATCHES = draw_batches(4, WORKERS, STEPS)
ALIKE = draw_batches(4, WORKERS, 1, alike=True)
SGD = optax.sgd(ETA)


def local_ends(models, batches):
    """Each worker's model after its local steps of SGD."""
    ends = []
    for y, worker in zip(models, batches, strict=True):
        for batch in worker:
            y = y - ETA * gradient(y, batch)
        ends.append(y)
    return np.asarray(ends)


def all_alike():
    return np.broadcast_to(start(), (WORKERS, NUM_PARAMS))


@pytest.mark.parametrize("weights", [ring(WORKERS), one_peer_exponential(WORKERS)])
def test_dpsgd_against_a_loop(weights):
    models, path, distances = all_alike(), [], []
    for t, batches in enumerate(BATCHES):
        models = local_ends(models, batches)
        distances.append(np.mean(np.sum((models - models.mean(axis=0)) ** 2, axis=1)))
        models = weights[t % len(weights)] @ models
        path.append(models.mean(axis=0))
    found, states, infos = train(dpsgd(SGD, weights), BATCHES)
    assert_close(found, path)
    assert_close(states[-1].worker.params["b"].reshape(WORKERS, 4), models[:, 1:5])
    assert_close([info.diagnostics["consensus_distance"] for info in infos], distances)


def test_dpsgd_on_the_complete_graph_is_local_sgd():
    local_opt = optax.sgd(ETA, 0.9)
    found, _, _ = train(dpsgd(local_opt, complete(WORKERS)), BATCHES)
    assert_close(found, train(local_sgd(local_opt, optax.sgd(1.0)), BATCHES)[0])


def quasi_global_loop(weights, batches_of_rounds, beta, mu, decay):
    models, momenta, path = all_alike(), np.zeros((WORKERS, NUM_PARAMS)), []
    for t, batches in enumerate(batches_of_rounds):
        ends = []
        for y, m_hat, worker in zip(models, momenta, batches, strict=True):
            for batch in worker:
                g = gradient(y, batch) + decay * y
                m = beta * m_hat + g
                y = y - ETA * (g + beta * m)
            ends.append(y)
        new = weights[t % len(weights)] @ np.asarray(ends)
        moved = (models - new) / (ETA * batches.shape[1])
        momenta = mu * momenta + (1 - mu) * moved
        models = new
        path.append(models.mean(axis=0))
    return path, momenta


def test_a_round_of_rate_zero_keeps_the_quasi_global_momentum():
    """A warm-up begins so; the models' moves are then divided by nothing."""
    rates = jnp.float32([0.0, ETA, 0.0, ETA])
    path, states, _ = train(qg_dsgdm(lambda t: rates[t], ring(WORKERS)), BATCHES)
    assert np.isfinite(path).all() and not np.any(states[0].worker.momentum["b"])
    jax.tree.map(np.testing.assert_array_equal, states[1].worker.momentum, states[2].worker.momentum)


def test_a_server_optimizer_on_every_worker_against_a_loop():
    models, momenta, path = all_alike(), np.zeros((WORKERS, NUM_PARAMS)), []
    for batches in BATCHES:
        moved = models - ring(WORKERS)[0] @ local_ends(models, batches)
        momenta = 0.5 * momenta + moved
        models = models - 0.7 * momenta
        path.append(models.mean(axis=0))
    found, _, _ = train(dpsgd(SGD, ring(WORKERS), optax.sgd(0.7, 0.5)), BATCHES)
    assert_close(found, path)


@pytest.mark.parametrize("server", [optax.sgd(1.0), auto_diloco()])
def test_server_optimizers_on_the_complete_graph_are_those_of_local_sgd(server):
    """That of `auto_diloco` sets the workers' rates too, and what is evaluated."""
    expected, _, _ = train(local_sgd(SGD, server), BATCHES)
    found, _, _ = train(dpsgd(SGD, complete(WORKERS), server), BATCHES)
    assert_close(found, expected)


def test_a_server_that_reads_every_worker_has_none_to_read_in_gossip():
    lopt = lagg_a(num_workers=WORKERS, hidden_size=4)
    algorithm = dpsgd(SGD, ring(WORKERS), lopt.transform(lopt.init(KEY)))
    with pytest.raises(ValueError, match="worker_updates"):
        train(algorithm, BATCHES)


@pytest.mark.parametrize("num_local_steps", [1, 2])
def test_quasi_global_momentum_against_a_loop(num_local_steps):
    batches = BATCHES[:, :, :num_local_steps]
    path, momenta = quasi_global_loop(ring(WORKERS), batches, 0.8, 0.7, 0.1)
    found, states, _ = train(qg_dsgdm(ETA, ring(WORKERS), beta=0.8, mu=0.7, weight_decay=0.1), batches)
    assert_close(found, path)
    assert_close(states[-1].worker.momentum["b"].reshape(WORKERS, 4), momenta[:, 1:5])


def test_quasi_global_momentum_of_zero_is_dpsgd():
    algorithm = qg_dsgdm(ETA, ring(WORKERS), beta=0.0, weight_decay=0.0)
    assert_close(train(algorithm, BATCHES)[0], train(dpsgd(SGD, ring(WORKERS)), BATCHES)[0])


def test_quasi_global_momentum_of_workers_that_are_alike_is_centralised():
    """One worker, whose momentum is built from how its own parameters move."""
    found, _, _ = train(qg_dsgdm(ETA, complete(WORKERS)), ALIKE)
    assert_close(found, train(qg_dsgdm(ETA, complete(1)), ALIKE[:, :1])[0])


def test_the_learning_rate_may_be_a_schedule_over_rounds():
    found, _, _ = train(qg_dsgdm(lambda t: jnp.where(t < 2, ETA, 0.0) + 1e-8, ring(WORKERS)), BATCHES)
    constant, _, _ = train(qg_dsgdm(ETA, ring(WORKERS)), BATCHES)
    assert_close(found[:2], constant[:2])
    assert_close(found[2], found[3])


def test_qg_adam_against_a_loop():
    b1, b2, eps = 0.8, 0.9, 1e-8
    weights, models = ring(WORKERS), all_alike()
    means, seconds, path = np.zeros((WORKERS, NUM_PARAMS)), np.zeros((WORKERS, NUM_PARAMS)), []
    for t, batches in enumerate(BATCHES):
        ends = []
        for k, y in enumerate(models):
            for batch in batches[k]:
                g = gradient(y, batch)
                m = (b1 * means[k] + (1 - b1) * g) / (1 - b1 ** (t + 1))
                v = (b2 * seconds[k] + (1 - b2) * g**2) / (1 - b2 ** (t + 1))
                y = y - ETA * m / (np.sqrt(v) + eps)
            ends.append(y)
        new = weights[0] @ np.asarray(ends)
        direction = (models - new) / np.linalg.norm(models - new, axis=1, keepdims=True)
        means = b1 * means + (1 - b1) * direction
        seconds = b2 * seconds + (1 - b2) * direction**2
        models = new
        path.append(models.mean(axis=0))
    assert_close(train(qg_adam(ETA, weights, b1=b1, b2=b2), BATCHES)[0], path)


def test_the_first_step_of_qg_adam_is_adams():
    """The gradient enters the first moment with weight 1 - b1; with weight 1 the step would be ten times as long."""
    found, _, _ = train(qg_adam(ETA, complete(1)), BATCHES[:1, :1, :1])
    g = gradient(start(), BATCHES[0, 0, 0])
    assert_close(found[0], start() - ETA * np.sign(g))


def test_noloco_against_a_loop():
    a, b, c = 0.6, 0.5, 0.3
    models, momenta, path = all_alike(), np.zeros((WORKERS, NUM_PARAMS)), []
    for t, batches in enumerate(BATCHES):
        moved = local_ends(models, batches) - models
        partners = np.asarray(draw_partners(jax.random.fold_in(jax.random.fold_in(KEY, t), WORKERS), WORKERS))
        new = []
        for i, j in enumerate(partners):
            together = (models[i] + models[j]) / 2
            momenta[i] = b * momenta[i] + a * (moved[i] + moved[j]) / 2 + c * (together - models[i])
            new.append(models[i] + momenta[i])
        models = np.asarray(new)
        path.append(models.mean(axis=0))
    found, states, _ = train(noloco(SGD, a, b, c), BATCHES)
    assert_close(found, path)
    assert_close(states[-1].worker.params["b"].reshape(WORKERS, 4), models[:, 1:5])


def test_noloco_of_two_workers_is_heavy_ball():
    found, states, _ = train(noloco(SGD, 0.7, 0.5), BATCHES[:, :2])
    assert_close(found, train(local_sgd(SGD, optax.sgd(0.7, 0.5)), BATCHES[:, :2])[0])
    np.testing.assert_array_equal(*states[-1].worker.params["b"])


@pytest.mark.parametrize("num_workers", [1, 2, 5, 8])
def test_partners_are_pairs(num_workers):
    seen = set()
    for seed in range(20):
        partners = np.asarray(draw_partners(jax.random.key(seed), num_workers))
        np.testing.assert_array_equal(partners[partners], np.arange(num_workers))
        assert np.sum(partners == np.arange(num_workers)) == num_workers % 2
        seen.add(tuple(partners))
    assert len(seen) > 1 or num_workers < 3


def test_consensus_control_without_a_target_is_dpsgd():
    found, _, infos = train(consensus_control(SGD, ring(WORKERS), jnp.inf), BATCHES)
    assert_close(found, train(dpsgd(SGD, ring(WORKERS)), BATCHES)[0])
    assert [int(info.diagnostics["communications"]) for info in infos] == [1] * len(BATCHES)


def test_consensus_control_of_a_target_of_zero_averages_as_often_as_it_may():
    _, states, infos = train(consensus_control(SGD, ring(WORKERS), 0.0, max_communications=3), BATCHES)
    assert [int(info.diagnostics["communications"]) for info in infos] == [3] * len(BATCHES)
    assert int(states[-1].shared.num_communications) == 3 * len(BATCHES)


def test_consensus_control_on_the_complete_graph_needs_one_average():
    _, _, infos = train(consensus_control(SGD, complete(WORKERS), 1e-3), BATCHES)
    assert [int(info.diagnostics["communications"]) for info in infos] == [1] * len(BATCHES)


def test_consensus_control_against_a_loop():
    fraction, decay, weights = 0.3, 0.9, ring(8)
    batches_of_rounds = draw_batches(5, 8, STEPS)
    models, move = np.broadcast_to(start(), (8, NUM_PARAMS)), 0.0
    path, counts = [], []
    for t, batches in enumerate(batches_of_rounds):
        ends = local_ends(models, batches)
        move = decay * move + (1 - decay) * np.sqrt(np.mean(np.sum((ends - models) ** 2, axis=1)))
        target, count = fraction * move / (1 - decay ** (t + 1)), 0
        while count == 0 or np.sqrt(np.mean(np.sum((ends - ends.mean(axis=0)) ** 2, axis=1))) > target:
            ends, count = weights[0] @ ends, count + 1
        models = ends
        path.append(models.mean(axis=0))
        counts.append(count)
    found, _, infos = train(consensus_control(SGD, weights, fraction, decay=decay), batches_of_rounds)
    assert_close(found, path)
    assert [int(info.diagnostics["communications"]) for info in infos] == counts
    assert len(set(counts)) > 1


def test_bytes():
    dense = dense_bytes(PARAMS)
    assert dpsgd(SGD, ring(8)).bytes_sent(PARAMS) == 2 * dense
    assert dpsgd(SGD, one_peer_exponential(8)).bytes_sent(PARAMS) == dense
    assert noloco(SGD).bytes_sent(PARAMS) == 2 * dense


@pytest.mark.parametrize("make", [lambda w: dpsgd(SGD, w), lambda w: qg_dsgdm(ETA, w), lambda w: qg_adam(ETA, w)])
def test_mistakes_are_named_before_any_round(make):
    with pytest.raises(ValueError, match="row . of matrix 0 sums to 0.5"):
        make(0.5 * ring(4))
    with pytest.raises(ValueError, match="weights are for 8 workers and there are 4: use the topology of 4"):
        train(make(ring(8)), BATCHES)


def test_no_communications_are_named():
    with pytest.raises(ValueError, match="max_communications=0: use at least 1"):
        consensus_control(SGD, ring(4), max_communications=0)
