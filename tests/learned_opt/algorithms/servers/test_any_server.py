"""What a server sets holds under every algorithm that takes one: rates of the workers, an average to evaluate."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.adaptive.norm_test import norm_test
from learned_opt.algorithms.adaptive.qsr import qsr
from learned_opt.algorithms.controls.lookahead import two_loops
from learned_opt.algorithms.corrections.feddyn import feddyn
from learned_opt.algorithms.corrections.fedprox import fedprox
from learned_opt.algorithms.corrections.fedspeed import fedspeed
from learned_opt.algorithms.corrections.scaffold import scaffold
from learned_opt.algorithms.fragments.greedy_fragments import greedy_fragments
from learned_opt.algorithms.fragments.streaming_diloco import streaming_diloco
from learned_opt.algorithms.loss_weighted_averaging import loss_weighted_averaging
from learned_opt.algorithms.palsgd import palsgd
from learned_opt.algorithms.post_local_sgd import post_local_sgd
from learned_opt.algorithms.stragglers.late_workers import local_sgd_without_late_workers
from learned_opt.algorithms.zeroth_order.fzoos import fzoos
from tests.learned_opt.algorithms.quadratics import KEY, PARAMS, draw_batches, flat, loss_fn

SGD, STEPS = optax.sgd(0.1), 2
WITH_A_SERVER = {
    "post_local_sgd": lambda server: post_local_sgd(SGD, 1, server),
    "two_loops": lambda server: two_loops(SGD, server, STEPS),
    "fedprox": lambda server: fedprox(SGD, server_opt=server),
    "scaffold": lambda server: scaffold(SGD, server),
    "feddyn": lambda server: feddyn(SGD, server_opt=server),
    "fedspeed": lambda server: fedspeed(SGD, server_opt=server),
    "palsgd": lambda server: palsgd(optax.sgd, 0.1, server_opt=server),
    "qsr": lambda server: qsr(SGD, lambda step: jnp.float32(0.1), 0.1, 1, server),
    "norm_test": lambda server: norm_test(SGD, server_opt=server),
    "streaming_diloco": lambda server: streaming_diloco(SGD, 3, server, num_delay_steps=1),
    "greedy_fragments": lambda server: greedy_fragments(SGD, 2, server),
    "loss_weighted_averaging": lambda server: loss_weighted_averaging(SGD, server_opt=server),
    "late_workers": lambda server: local_sgd_without_late_workers(SGD, server),
    "fzoos": lambda server: fzoos(SGD, num_features=10, num_points=4, num_around=1, server_opt=server),
}


class Fields(NamedTuple):
    local_rates: Any
    averaged_params: Any


def server_with(rate, average):
    """Plain averaging that sets one rate, and evaluates `average` everywhere, or the parameters themselves."""

    def init(params):
        averaged = () if average is None else jax.tree.map(lambda p: jnp.full(jnp.shape(p), average), params)
        return Fields(jax.tree.map(lambda p: jnp.float32(rate), params), averaged)

    return optax.GradientTransformation(
        init, lambda updates, state, params=None: (jax.tree.map(jnp.negative, updates), state)
    )


@pytest.mark.parametrize("average", [None, 5.0])
@pytest.mark.parametrize("name", WITH_A_SERVER)
def test_workers_of_rate_zero_stay_and_the_average_is_evaluated(name, average):
    algorithm = learned_opt.simulate(WITH_A_SERVER[name](server_with(0.0, average)), 2)
    batches = jnp.asarray(draw_batches(1, 2, STEPS)[0])
    state, _ = jax.jit(lambda state: algorithm.round(loss_fn, state, KEY, batches))(algorithm.init(PARAMS))
    expected = flat(PARAMS) if average is None else np.full(flat(PARAMS).shape, average, np.float32)
    np.testing.assert_array_equal(flat(algorithm.params(state)), expected)
