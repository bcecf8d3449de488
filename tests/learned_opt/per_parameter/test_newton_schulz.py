"""Orthogonal steps, against singular value decompositions by NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.per_parameter.newton_schulz import BLOCK_ROWS, newton_schulz, orthogonal_of_equal_norm


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (5, 5), (1, 4)])
def test_singular_values_move_towards_one_and_their_vectors_stay(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    left, values, right = np.linalg.svd(x, full_matrices=False)
    found = np.asarray(newton_schulz(jnp.asarray(x)))
    projected = left.T @ found @ right.T
    np.testing.assert_allclose(projected - np.diag(np.diag(projected)), 0, atol=1e-4)
    # The polynomial has no fixed point: five times takes all but tiny singular values between 0.68 and 1.13.
    large = values / np.linalg.norm(values) > 0.05
    assert np.all((np.diag(projected)[large] > 0.65) & (np.diag(projected)[large] < 1.2))


def test_each_tensor_keeps_its_norm_and_vectors_stay():
    rng = np.random.default_rng(1)
    tensors = [rng.normal(size=s).astype(np.float32) for s in [(4, 6), (3,), (), (2, 3, 4), (4, 6)]]
    tensors[4] *= 1e-3
    found = orthogonal_of_equal_norm([jnp.asarray(x) for x in tensors])
    for x, y in zip(tensors, found, strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(np.linalg.norm(y), np.linalg.norm(x), rtol=1e-5)
    np.testing.assert_array_equal(found[1], tensors[1])
    np.testing.assert_array_equal(found[2], tensors[2])
    as_matrix = orthogonal_of_equal_norm([jnp.asarray(tensors[3].reshape(6, 4))])[0]
    np.testing.assert_array_equal(np.asarray(found[3]).reshape(6, 4), as_matrix)
    together, alone = found[4], orthogonal_of_equal_norm([jnp.asarray(tensors[4])])[0]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge_steps_keep_their_direction(scale):
    x = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32)
    (expected,) = orthogonal_of_equal_norm([jnp.asarray(x)])
    (found,) = orthogonal_of_equal_norm([jnp.asarray(np.float32(scale) * x)])
    np.testing.assert_allclose(np.asarray(found) / np.float32(scale), expected, rtol=1e-3, atol=1e-6)


def test_zeros_stay_zeros():
    np.testing.assert_array_equal(orthogonal_of_equal_norm([jnp.zeros((3, 2)), jnp.zeros((0, 2))])[0], 0)


@pytest.mark.parametrize("is_tall", [False, True])
def test_larger_matrices_are_orthogonal_in_blocks(is_tall):
    rows = BLOCK_ROWS + 4
    x = np.random.default_rng(3).normal(size=(rows, 2 * rows)).astype(np.float32)
    (found,) = orthogonal_of_equal_norm([jnp.asarray(x.T if is_tall else x)])
    found = np.asarray(found).T if is_tall else np.asarray(found)
    each = rows // 2
    halves = [np.asarray(newton_schulz(jnp.asarray(half))) for half in (x[:each], x[each:])]
    expected = np.concatenate(halves)
    expected *= np.linalg.norm(x) / np.linalg.norm(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
