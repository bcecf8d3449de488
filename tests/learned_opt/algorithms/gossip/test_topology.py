"""Mixing matrices: their sums, their spectral gaps against a table, exact averages, and mistakes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.algorithms.gossip.mixing import consensus_distance, make_mixing, mix_with_neighbours
from learned_opt.algorithms.gossip.topology import (
    TOPOLOGIES,
    check_weights,
    complete,
    num_neighbours,
    one_peer_exponential,
    ring,
    social_network,
    spectral_gap,
    static_exponential,
    torus,
)

ANY_SIZE = [make for name, make in TOPOLOGIES.items() if name != "social_network"]


@pytest.mark.parametrize("num_workers", [1, 2, 3, 6, 8, 13])
@pytest.mark.parametrize("make", ANY_SIZE)
def test_matrices_are_doubly_stochastic_and_connected(make, num_workers):
    weights = make(num_workers)
    check_weights(weights)
    assert weights.min() >= 0


@pytest.mark.parametrize(
    ("make", "gaps"),
    [
        (ring, {8: 0.195, 16: 0.051, 32: 0.013, 64: 0.003}),
        (torus, {8: 0.5, 16: 0.4, 32: 0.117, 64: 0.117}),
        (static_exponential, {8: 0.5, 16: 0.4, 32: 1 / 3, 64: 0.286}),
        (complete, {8: 1, 16: 1, 32: 1, 64: 1}),
    ],
)
def test_spectral_gaps_are_the_known_ones(make, gaps):
    for num_workers, gap in gaps.items():
        assert spectral_gap(make(num_workers)) == pytest.approx(gap, abs=5e-4)


@pytest.mark.parametrize("num_workers", [8, 11])
def test_the_gap_of_a_ring_and_of_a_torus_in_closed_form(num_workers):
    angle = 2 * np.pi / num_workers
    assert spectral_gap(ring(num_workers)) == pytest.approx(1 - (1 + 2 * np.cos(angle)) / 3)
    # 3 rows: (1 + 2 cos a + 2 cos b) / 5, largest at a = 0 or b = 0.
    columns = 2 * np.pi / num_workers
    assert spectral_gap(torus(3 * num_workers, 3)) == pytest.approx(1 - (3 + 2 * np.cos(columns)) / 5)


def test_the_social_network_is_the_known_one():
    weights = social_network()
    edges = np.count_nonzero(weights[0] - np.diag(np.diag(weights[0]))) / 2
    assert (edges, num_neighbours(weights)) == (89, 14)
    assert spectral_gap(weights) == pytest.approx(0.082, abs=5e-4)


@pytest.mark.parametrize("num_workers", [2, 4, 8, 16])
def test_one_peer_exponential_graphs_average_exactly_after_a_logarithmic_number_of_steps(num_workers):
    weights = one_peer_exponential(num_workers)
    assert len(weights) == np.log2(num_workers)
    assert num_neighbours(weights) == 1
    mixing = make_mixing(weights)
    values = jnp.asarray(np.random.default_rng(0).normal(size=(num_workers, 3)), jnp.float32)

    def communicate(value):
        for t in range(len(weights)):
            value, _ = mix_with_neighbours(mixing, jnp.int32(t), value)
        return value

    found = jax.jit(jax.vmap(communicate, axis_name="workers"))(values)
    np.testing.assert_allclose(found, np.broadcast_to(values.mean(axis=0), found.shape), rtol=1e-5, atol=1e-6)
    assert spectral_gap(weights) == pytest.approx(1)


@pytest.mark.parametrize("make", [ring, torus, static_exponential, one_peer_exponential])
def test_an_average_is_a_product_with_the_matrix_of_its_turn(make):
    mixing, weights = make_mixing(make(6)), make(6)
    values = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    for t in range(4):
        found = jax.vmap(lambda value, t=t: mix_with_neighbours(mixing, jnp.int32(t), value)[0], axis_name="workers")(
            values
        )
        np.testing.assert_allclose(found, weights[t % len(weights)] @ values, rtol=1e-5, atol=1e-6)


def test_what_is_not_a_number_reaches_neighbours_alone():
    mixing = make_mixing(ring(6))
    values = jnp.zeros(6).at[1].set(jnp.nan)
    found = jax.vmap(lambda value: mix_with_neighbours(mixing, jnp.int32(0), value)[0], axis_name="workers")(values)
    assert np.isnan(found).tolist() == [True, True, True, False, False, False]


def test_consensus_distance_against_numpy():
    values = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    everyone = {"a": values[:, :3], "b": values[:, 3]}
    expected = np.mean(np.sum((values - values.mean(axis=0)) ** 2, axis=1))
    np.testing.assert_allclose(consensus_distance(everyone), expected, rtol=1e-6)


@pytest.mark.usefixtures("unchecked_annotations")
def test_weights_may_be_lists():
    weights: Any = [[[0.5, 0.5], [0.5, 0.5]]]
    mixing = make_mixing(weights)
    assert mixing.bytes_sent({"w": np.zeros(5)}) == 20


def test_neighbours_that_are_sent_to():
    sizes = {ring: 2, torus: 3, complete: 7, static_exponential: 3, one_peer_exponential: 1}
    assert {make: num_neighbours(make(8)) for make in sizes} == sizes
    assert make_mixing(ring(8)).bytes_sent({"w": np.zeros(5)}) == 2 * 20


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ring(8)[0], r"shape \(8, 8\): use \[period, workers, workers\]"),
        (lambda: 0.9 * ring(4), "weights: row . of matrix 0 sums to 0.9: use rows and columns that sum to 1"),
        (lambda: np.asarray([[[1.0, 0.0], [1.0, 0.0]]]), "weights: column 0 of matrix 0 sums to 2"),
        (lambda: np.full((1, 2, 2), np.nan), "sums to nan"),
        (lambda: ring, r"use an array \[period, workers, workers\], as topology.ring\(8\) returns"),
        (lambda: np.kron(np.eye(2), ring(3)[0])[None], "nothing of worker 3 ever reaches worker 0: use a connected"),
    ],
)
def test_what_does_not_average_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        check_weights(make())


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torus(8, 3), "num_rows=3: use a divisor of num_workers=8"),
        (lambda: social_network(8), "num_workers=8: use 32"),
        (lambda: ring(0), "num_workers=0: use at least 1"),
        (
            lambda: ring(2.5),  # pyright: ignore[reportArgumentType]
            "num_workers=2.5: use a whole number",
        ),
    ],
)
def test_sizes_that_are_not_there_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
