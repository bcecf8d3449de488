"""The learning rate of gradient steps, found by trying algorithms whose rate is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eval.compare.contenders import contender
from eval.diagnostics.sgd_rate import sgd_rates
from learned_opt.algorithms.server import diloco, fedavg
from tests.eval.toy import TOY

PARAMS = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(3)}
ROUNDS = np.array([1, 3, 6])


def rates(server, local=None, **changes):
    protocol = dataclasses.replace(TOY, **changes)
    made = contender("c", protocol, lambda h: server, {}, None if local is None else lambda h: local)
    return sgd_rates(made.make({}), PARAMS, protocol, ROUNDS)


def test_local_sgd_has_its_workers_rate_whatever_the_server_does():
    np.testing.assert_allclose(rates(diloco(0.7, 0.9), optax.sgd(0.3)), 0.3, rtol=1e-5)


def test_data_parallel_sgd_has_its_own():
    np.testing.assert_allclose(rates(optax.sgd(0.2)), 0.2, rtol=1e-5)


@pytest.mark.parametrize(("server", "local"), [(fedavg(), optax.adam(0.1)), (optax.sgd(0.1, 0.9), None)])
def test_other_steps_have_none(server, local):
    # Adam raises a float to the power of an integer.
    with jax.numpy_dtype_promotion("standard"):
        assert np.isnan(rates(server, local)).all()


def test_the_schedule_is_in_it():
    # Six rounds of two local steps: round r begins at step 2 (r - 1) of 12.
    expected = 0.3 * (1 - np.array([0, 4, 10]) / 12)
    np.testing.assert_allclose(rates(fedavg(), optax.sgd(0.3), schedule="linear"), expected, rtol=1e-5)
    expected = 0.2 * (1 - np.array([0, 2, 5]) / 6)
    np.testing.assert_allclose(rates(optax.sgd(0.2), schedule="linear"), expected, rtol=1e-5)
