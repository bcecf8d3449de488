"""Bytes, gradients and simulated seconds by hand."""

import numpy as np
import pytest

from eval.scores.network import Network, slow_workers
from eval.scores.spending import bytes_received, bytes_sent, gradients, seconds
from tests.eval.made_up import contender
from tests.eval.toy import TOY

# K = 2 workers, H = 2 steps; curves of two seeds after rounds 2 and 4.
CURVE = np.array([[3.0, 2.0], [3.0, 1.0]])
COST = {"bytes_received": 500, "peak_bytes": 1000, "gradients": 2.0, "waits": 1.0}
ROUNDS = np.array([2, 4])
PLAIN = contender("plain", CURVE, rounds=ROUNDS, cost=COST)


def test_an_algorithm_of_fixed_rounds():
    assert bytes_sent(PLAIN).tolist() == [[2000, 4000]] * 2
    assert bytes_received(PLAIN).tolist() == [[1000, 2000]] * 2
    assert gradients(PLAIN, TOY).tolist() == [[8, 16]] * 2
    network = Network(latency=0.5, bandwidth=100.0, download_bandwidth=50.0, gradient_seconds=0.25)
    np.testing.assert_allclose(seconds(PLAIN, TOY, network), [[2 * (0.5 + 10 + 10 + 0.5), 84]] * 2)


def test_what_an_algorithm_chose_is_what_it_pays_for():
    counts = {"communications": np.array([[4, 5], [2, 10]]), "num_local_steps": np.array([[2, 4], [1, 2]])}
    chosen = contender("chosen", CURVE, rounds=ROUNDS, cost=COST, counts=counts)
    assert bytes_sent(chosen).tolist() == [[4000, 5000], [2000, 10000]]
    assert gradients(chosen, TOY).tolist() == [[4, 8], [2, 4]]
    network = Network(latency=0.5, bandwidth=1e9, gradient_seconds=1.0)
    np.testing.assert_allclose(seconds(chosen, TOY, network), [[4.0, 6.5], [2.0, 7.0]], rtol=1e-4)


def test_messages_within_a_round_have_a_latency_each():
    often = contender("often", CURVE, rounds=ROUNDS, cost={**COST, "peak_bytes": 250})
    np.testing.assert_allclose(seconds(often, TOY, Network(latency=1.0, bandwidth=1e12)), [[8.0, 16.0]] * 2)


def test_results_of_earlier_versions_have_no_more_than_bytes_sent():
    before = contender("before", CURVE, rounds=ROUNDS)
    assert bytes_received(before).tolist() == bytes_sent(before).tolist()
    assert gradients(before, TOY).tolist() == [[8, 16]] * 2


def test_the_slowest_is_waited_for():
    network = Network(latency=0.0, bandwidth=1e12, gradient_seconds=1.0, slow_down=0.4, recover=0.5, slow_factor=3.0)
    slow = slow_workers(4, TOY.num_workers, 0.4, 0.5)
    eager = contender("eager", CURVE, rounds=ROUNDS, cost={**COST, "waits": 0.0})
    for who, is_late in ((PLAIN, slow.any(axis=1)), (eager, slow.all(axis=1))):
        expected = np.cumsum(2 * np.where(is_late, 3, 1))[[1, 3]]
        np.testing.assert_allclose(seconds(who, TOY, network), [expected] * 2)
    assert slow.any() and not slow.all()


def test_workers_are_slow_in_bursts():
    slow = slow_workers(20000, 4, 0.05, 0.25)
    # In the long run 1 in 6, in bursts of four rounds; standard errors of about 0.003 and 0.06.
    assert slow.mean() == pytest.approx(0.05 / 0.3, abs=0.015)
    bursts = np.sum(slow[1:] & ~slow[:-1])
    assert slow.sum() / bursts == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latency", -1.0),
        ("bandwidth", 0.0),
        ("download_bandwidth", 0.0),
        ("gradient_seconds", -1.0),
        ("slow_down", 1.5),
        ("recover", -0.1),
        ("slow_factor", 0.5),
    ],
)
def test_mistakes_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field}={value}: use "):
        Network(**{field: value})
