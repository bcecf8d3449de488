"""SparseLoCo and quantized DiLoCo against a NumPy loop, and in the limits in which nothing is compressed."""

import numpy as np
import optax
import pytest

from learned_opt.algorithms.compression.quantized_diloco import quantized_diloco
from learned_opt.algorithms.compression.sparse_loco import sparse_loco
from learned_opt.algorithms.local_sgd import local_sgd
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

WORKERS, STEPS = 3, 2
BATCHES = draw_batches(4, WORKERS, STEPS)


def test_sparse_loco_against_a_loop():
    a, decay, x, residuals, path = 0.8, 0.9, start(), np.zeros((WORKERS, NUM_PARAMS)), []
    tensors = [slice(0, 1), slice(1, 5), slice(5, 6)]
    for batches in BATCHES:
        messages = np.zeros((WORKERS, NUM_PARAMS))
        for k, worker in enumerate(batches):
            y = x
            for step in range(STEPS):
                y = y - 0.1 * gradient(y, worker[step])
            residuals[k] = decay * residuals[k] + (x - y)
            for tensor in tensors:
                # One chunk of each tensor, the two largest.
                largest = np.argsort(-np.abs(residuals[k, tensor]))[:2] + tensor.start
                messages[k, largest] = residuals[k, largest]
            residuals[k] -= messages[k]
        x = x - a * messages.mean(axis=0)
        path.append(x)
    found, states, _ = train(sparse_loco(optax.sgd(0.1), a, k=2, bits=32, decay=decay), BATCHES)
    assert_close(found, path)
    assert_close(states[-1].worker.upload_state.residual["b"].reshape(WORKERS, 4), residuals[:, 1:5])


def test_all_elements_in_full_without_memory_are_local_sgd():
    found, _, _ = train(sparse_loco(optax.sgd(0.1), 0.8, k=4096, bits=32, decay=0.0), BATCHES)
    assert_close(found, train(local_sgd(optax.sgd(0.1), optax.sgd(0.8)), BATCHES)[0])


@pytest.mark.parametrize("feeds_back", [False, True])
def test_numbers_in_full_are_diloco(feeds_back):
    found, _, _ = train(quantized_diloco(optax.sgd(0.1), 32, feeds_back=feeds_back), BATCHES)
    assert_close(found, train(local_sgd(optax.sgd(0.1), diloco()), BATCHES)[0])


def test_error_feedback_brings_two_bits_nearer_to_all_of_them():
    exact = train(local_sgd(optax.sgd(0.05), diloco(0.3, 0.0)), draw_batches(30, WORKERS, STEPS))[0][-1]

    def distance(feeds_back):
        algorithm = quantized_diloco(optax.sgd(0.05), 2, feeds_back=feeds_back, learning_rate=0.3, momentum=0.0)
        return np.linalg.norm(train(algorithm, draw_batches(30, WORKERS, STEPS))[0][-1] - exact)

    assert distance(True) < 0.5 * distance(False)


def test_sizes_are_those_of_the_uploads():
    # Tensors of 1, 4 and 1 elements: 4 bits each, packed by tensor, and two ends of a range.
    assert quantized_diloco(optax.sgd(0.1), 4).bytes_sent(PARAMS) == (1 + 2 + 1) + 3 * 8
    # Two of four with 2 + 2 bits, one of one with 2 + 0 bits; four means for each tensor.
    assert sparse_loco(optax.sgd(0.1), k=2).bytes_sent(PARAMS) == (1 + 2 + 1) - 1 + 1 + 3 * 16
