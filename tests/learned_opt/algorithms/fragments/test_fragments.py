"""Communication by fragments against NumPy loops, and against local SGD where the fragment is all there is."""

import numpy as np
import optax
import pytest

from learned_opt.algorithms.fragments.greedy_fragments import greedy_fragments
from learned_opt.algorithms.fragments.streaming_diloco import streaming_diloco
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.round import dense_bytes
from learned_opt.algorithms.server import diloco
from tests.learned_opt.algorithms.quadratics import (
    NUM_PARAMS,
    PARAMS,
    assert_close,
    draw_batches,
    gradient,
    start,
    train,
)

WORKERS, STEPS, ETA = 2, 3, 0.1
BATCHES = draw_batches(7, WORKERS, STEPS)
SGD = optax.sgd(ETA)
# The tensors of 1, 4 and 1 elements, each a fragment.
FRAGMENTS = [slice(0, 1), slice(1, 5), slice(5, 6)]


def numpy_path(choose, a, b, delay=0, alpha=0.0):
    x, models = start(), np.tile(start(), (WORKERS, 1))
    momentum, pending, path, chosen = np.zeros(NUM_PARAMS), None, [], []
    for t, batches in enumerate(BATCHES):
        for k, worker in enumerate(batches):
            for step in range(STEPS):
                if step == delay and pending is not None:
                    models[k, pending] = alpha * models[k, pending] + (1 - alpha) * x[pending]
                models[k] = models[k] - ETA * gradient(models[k], worker[step])
        fragment = choose(t, x - models)
        part = FRAGMENTS[fragment]
        delta = x[part] - models[:, part].mean(axis=0)
        momentum[part] = b * momentum[part] + delta
        x = x.copy()
        x[part] -= a * (delta + b * momentum[part])
        pending = part
        path.append(x)
        chosen.append(fragment)
    return path, chosen


@pytest.mark.parametrize(("delay", "alpha"), [(0, 0.0), (2, 0.0), (1, 0.5)])
def test_streaming_diloco_against_a_loop(delay, alpha):
    path, chosen = numpy_path(lambda t, moved: t % 3, 0.7, 0.9, delay, alpha)
    algorithm = streaming_diloco(SGD, 3, diloco(0.7, 0.9), num_delay_steps=delay, alpha=alpha)
    found, _, infos = train(algorithm, BATCHES)
    assert_close(found, path)
    assert [int(info.diagnostics["fragment"]) for info in infos] == chosen
    assert infos[0].losses.shape == (WORKERS, STEPS)


def test_one_fragment_without_delay_is_diloco():
    local_opt = optax.sgd(ETA, 0.9)
    found, _, _ = train(streaming_diloco(local_opt, 1), BATCHES)
    np.testing.assert_array_equal(found, train(local_sgd(local_opt, diloco()), BATCHES)[0])


def test_greedy_fragments_against_a_loop():
    def largest(t, moved):
        del t
        return int(np.argmax([np.sqrt(np.mean(np.sum(moved[:, part] ** 2, axis=1))) for part in FRAGMENTS]))

    path, chosen = numpy_path(largest, 0.7, 0.9)
    found, _, infos = train(greedy_fragments(SGD, 3, diloco(0.7, 0.9)), BATCHES)
    assert_close(found, path)
    assert [int(info.diagnostics["fragment"]) for info in infos] == chosen
    assert len(set(chosen)) > 1 and chosen != [t % 3 for t in range(len(BATCHES))]


def test_a_round_sends_its_share():
    dense = dense_bytes(PARAMS)
    assert streaming_diloco(SGD, 3).bytes_sent(PARAMS) == dense // 3
    assert greedy_fragments(SGD, 3).bytes_sent(PARAMS) == dense // 3 + 3 * 4


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="num_fragments=4: use 1 to 3"):
        streaming_diloco(SGD, 4).init(PARAMS)
    with pytest.raises(ValueError, match="num_delay_steps=-1: use at least 0"):
        streaming_diloco(SGD, 2, num_delay_steps=-1)
    with pytest.raises(ValueError, match="num_delay_steps=3: the batches have 3 local steps; use at most 2"):
        train(streaming_diloco(SGD, 2, num_delay_steps=3), BATCHES)
