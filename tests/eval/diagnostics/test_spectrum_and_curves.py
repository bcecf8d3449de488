"""Spectra of pseudo-gradients against NumPy's decomposition, and numbers of whole curves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.diagnostics.curve_numbers import early_peak, slope_on_log_round
from eval.diagnostics.pseudo_gradient_spectrum import interference_gap, pseudo_gradient_rank


@jax.jit
def spectrum(updates):
    return pseudo_gradient_rank(updates), interference_gap(updates)


def of_two(first, second):
    """Rank and gap of two workers' 6 x 3 matrices; a vector beside them does not count."""
    return spectrum({"w": jnp.float32([first, second]), "b": jnp.ones((2, 7))})


def test_the_rank_counts_equal_singular_values():
    orthonormal = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 3)))[0]
    assert of_two(orthonormal, orthonormal) == pytest.approx((3, 0), rel=1e-3, abs=1e-5)
    one = np.outer(np.arange(1, 7.0), [1.0, 2.0, -1.0])
    assert of_two(one, 3 * one) == pytest.approx((1, 0), rel=2e-3, abs=2e-3)


def test_the_gap_of_workers_that_are_apart_or_cancel():
    one, other = np.zeros((2, 6, 3))
    one[0, 0], other[1, 1] = 1, 1
    # Directions of their own: the mean's nuclear norm is that of its parts together, nothing is lost.
    assert of_two(one, other) == pytest.approx((2, 0), abs=1e-5)
    assert of_two(one, -one)[1] == pytest.approx(1)
    assert np.isnan(spectrum({"b": jnp.ones((2, 3))})).all()
    assert np.isnan(of_two(one, np.nan * one)).all()


def test_both_by_numpys_decomposition():
    rng = np.random.default_rng(1)
    updates = {"a": rng.normal(size=(4, 5, 3)), "b": rng.normal(size=(4, 2, 2, 6))}
    matrices = [updates["a"], updates["b"].reshape(4, 4, 6)]
    singular = lambda x: np.linalg.svd(x, compute_uv=False)  # noqa: E731
    mean = [singular(m.mean(axis=0)) for m in matrices]
    gap = 1 - sum(s.sum() for s in mean) / sum(singular(m).sum(axis=-1).mean() for m in matrices)
    rank = sum(np.sum(s) ** 2 for s in mean) / sum(np.sum(s**2) for s in mean)
    found = spectrum({name: jnp.float32(leaf) for name, leaf in updates.items()})
    assert found == pytest.approx((rank, gap), rel=1e-4)


def test_the_early_peak_is_the_largest_value_of_the_first_half():
    rounds = np.array([10, 20, 40, 60, 80])
    values = np.array([[1.0, np.nan, 5.0, 9.0, 2.0], [3.0, 2.0, 1.0, 9.0, 9.0], [np.nan] * 5], np.float32)
    assert early_peak(rounds, values) == pytest.approx((5 + 3) / 2)
    assert np.isnan(early_peak(rounds, values[2:]))


def test_the_slope_on_the_logarithm_of_the_round():
    rounds = np.array([1, 3, 10, 30, 100])
    curve = np.array([0.3 + 2 * np.log(rounds), 4 * np.log(rounds)], np.float32)
    curve[0, 1] = np.nan
    assert slope_on_log_round(rounds, curve) == pytest.approx(3, rel=1e-5)
    assert np.isnan(slope_on_log_round(rounds[:1], curve[:, :1]))
