"""Costs of a round by hand, for the parameters of a small model: 6 numbers in 3 tensors, 24 bytes in full."""

import jax.numpy as jnp
import optax
import pytest

import learned_opt
from learned_opt.algorithm_table import ALGORITHMS
from learned_opt.algorithms.gossip.topology import complete, one_peer_exponential, ring
from learned_opt.algorithms.post_local_sgd import synchronous_at_first
from learned_opt.algorithms.round_cost import round_cost
from learned_opt.algorithms.server import diloco
from learned_opt.algorithms.stragglers.gradient_coding import cyclic

PARAMS = {"a": jnp.zeros(()), "b": jnp.zeros((2, 2)), "c": jnp.zeros(1)}
DENSE, K, H = 24, 8, 4
SGD = optax.sgd(0.1)
TWO_BITS = (1 + 1 + 1) + 3 * 2 * 4


def make(name, *arguments, **settings):
    return ALGORITHMS[name].function(*arguments, **settings)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        # (sent, received, at once, gradients, state bytes a parameter)
        (make("local_sgd", SGD, optax.sgd(1.0)), (DENSE, DENSE, DENSE, H, 0)),
        (make("local_sgd", optax.adam(0.1), diloco()), (DENSE, DENSE, DENSE, H, 12 + 4 / 6)),
        (make("post_local_sgd", SGD, 3), (DENSE, DENSE, DENSE, H, 4 / 6)),
        # Seven messages of 2 bits are longer than the mean in full; three of them are not, see below.
        (make("quantized_diloco", SGD, 2), (TWO_BITS, DENSE, TWO_BITS, H, 8)),
        (make("palsgd", optax.sgd, 0.1, probability=0.25), (DENSE, DENSE, DENSE, 3, 4)),
        (make("scaffold", SGD), (2 * DENSE, 2 * DENSE, 2 * DENSE, H, 8)),
        (make("feddyn", SGD), (DENSE, DENSE, DENSE, H, 4)),
        (make("fedspeed", SGD), (DENSE, DENSE, DENSE, 2 * H, 4)),
        # The fragments are a, b and c; a matrix at once, a third in the mean. Own model, momenta and two counts beside.
        (make("streaming_diloco", SGD, 3), (8, 8, 16, H, 8 + 8 / 6)),
        (make("greedy_fragments", SGD, 3), (8 + 12, 8 + 12, 16, H, 8 + 8 / 6)),
        (make("dpsgd", SGD, ring(K)), (2 * DENSE, 2 * DENSE, 2 * DENSE, H, 4 / 6)),
        (make("dpsgd", SGD, complete(K)), (7 * DENSE, 7 * DENSE, 7 * DENSE, H, 4 / 6)),
        (make("dpsgd", SGD, one_peer_exponential(K)), (DENSE, DENSE, DENSE, H, 4 / 6)),
        (make("noloco", SGD), (2 * DENSE, 2 * DENSE, 2 * DENSE, H, 4)),
        (make("data_parallel", SGD), (DENSE, DENSE, DENSE, H, 0)),
        (make("synchronous", SGD, H), (H * DENSE, H * DENSE, DENSE, H, 0)),
        (make("gpa", SGD, H), (H * DENSE, H * DENSE, DENSE, H, 4)),
        (make("diff2", SGD, 4), (DENSE, DENSE, DENSE, 7, 8 + 4 / 6)),
        (make("coded_data_parallel", SGD, cyclic(K, 2)), (DENSE + 4, DENSE, DENSE + 4, 3 * H, 1 / 6)),
        (make("fzoos", SGD, num_features=10), (DENSE + 40, DENSE + 40, DENSE + 40, 0, None)),
    ],
)
def test_by_hand(algorithm, expected):
    found = round_cost(algorithm, PARAMS, K, H)
    *exact, state = expected
    assert found[:4] == tuple(exact)
    assert state is None or found.state_bytes_per_parameter == pytest.approx(state)


def test_short_messages_of_all_others_are_received_in_the_place_of_a_mean():
    algorithm = make("sparse_loco", SGD, k=1, chunk_size=4)
    # One element of each tensor, its place in 2 bits where there are several, and a codebook of four numbers.
    sent = (0 + 1 + 16) + (1 + 1 + 16) + (0 + 1 + 16)
    assert round_cost(algorithm, {**PARAMS, "d": jnp.zeros(1000)}, 2, H).bytes_received == algorithm.bytes_sent(
        {**PARAMS, "d": jnp.zeros(1000)}
    )
    assert round_cost(algorithm, PARAMS, 2, H)[:2] == (sent, min(sent, DENSE))


def test_a_single_worker_communicates_nothing():
    assert round_cost(make("scaffold", SGD), PARAMS, 1, H)[:4] == (0, 0, 0, H)


def test_what_is_around_an_algorithm_keeps_its_cost():
    inner = make("palsgd", optax.sgd, 0.1, probability=0.25)
    for outer in (synchronous_at_first(inner, 1), learned_opt.simulate(inner, K)):
        assert outer.gradients(H) == 3 and outer.bytes_received is inner.bytes_received


def test_who_waits_for_the_slowest():
    waiting = {name for name in ("local_sgd_without_late_workers", "local_sgd") if _of_sgd(name).waits}
    assert waiting == {"local_sgd"} and not make("coded_data_parallel", SGD, cyclic(4, 1)).waits


def _of_sgd(name):
    return make(name, SGD, optax.sgd(1.0))


@pytest.mark.parametrize(("num_workers", "num_local_steps"), [(0, 1), (1, 0)])
def test_mistakes_are_named(num_workers, num_local_steps):
    with pytest.raises(ValueError, match="num_(workers|local_steps)=0: use at least 1"):
        round_cost(_of_sgd("local_sgd"), PARAMS, num_workers, num_local_steps)
