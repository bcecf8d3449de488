"""Post-local SGD is synchronous SGD up to its switch and local SGD after it."""

import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.measured import measured
from learned_opt.algorithms.post_local_sgd import post_local_sgd, synchronous_at_first
from learned_opt.algorithms.server import diloco
from tests.learned_opt.algorithms.quadratics import PARAMS, assert_close, draw_batches, gradient, start, train

WORKERS, STEPS = 2, 3
BATCHES = draw_batches(4, WORKERS, STEPS)


def test_against_a_loop_on_both_sides_of_the_switch():
    x, path = start(), []
    for t, batches in enumerate(BATCHES):
        if t < 2:
            for step in range(STEPS):
                x = x - 0.1 * np.mean([gradient(x, worker[step]) for worker in batches], axis=0)
        else:
            ends = []
            for worker in batches:
                y = x
                for step in range(STEPS):
                    y = y - 0.1 * gradient(y, worker[step])
                ends.append(y)
            x = np.mean(ends, axis=0)
        path.append(x)
    found, _, infos = train(post_local_sgd(optax.sgd(0.1), 2), BATCHES)
    assert_close(found, path)
    assert [int(info.diagnostics["communications"]) for info in infos] == [STEPS, STEPS, 1, 1]
    assert infos[0].losses.shape == infos[-1].losses.shape == (WORKERS, STEPS)


def test_without_synchronous_rounds_it_is_local_sgd():
    algorithm = local_sgd(optax.sgd(0.1, 0.9), diloco(0.7, 0.9))
    found, _, _ = train(synchronous_at_first(algorithm, 0), BATCHES)
    np.testing.assert_array_equal(found, train(algorithm, BATCHES)[0])


def test_the_server_steps_at_every_communication():
    # One worker, local SGD with learning rate 1, a server that counts: its step is that count.
    count = optax.GradientTransformation(
        lambda params: jnp.float32(0),
        lambda updates, state, params=None: (
            {name: 0 * update - (state + 1) for name, update in updates.items()},
            state + 1,
        ),
    )
    found, _, _ = train(post_local_sgd(optax.sgd(0.0), 1, count), draw_batches(2, 1, 3))
    np.testing.assert_allclose(found[0], start() - (1 + 2 + 3))
    np.testing.assert_allclose(found[1], start() - (1 + 2 + 3) - 4)


def test_what_is_measured_of_a_round_is_that_of_its_last_communication():
    def algorithm(measure):
        return measured(local_sgd(optax.sgd(0.1), optax.sgd(1.0)), measure)

    _, _, infos = train(synchronous_at_first(algorithm(lambda sent: {"sent": sent}), 1), BATCHES[:1])
    _, _, steps = train(algorithm(lambda sent: {"sent": sent["b"]}), np.swapaxes(BATCHES[:1], 0, 2))
    np.testing.assert_allclose(infos[0].diagnostics["sent"]["b"], steps[-1].diagnostics["sent"], rtol=1e-5)


def test_bytes_are_those_of_one_communication():
    assert post_local_sgd(optax.sgd(0.1), 2).bytes_sent(PARAMS) == local_sgd(optax.sgd(0.1), optax.sgd(1.0)).bytes_sent(
        PARAMS
    )
