import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.images.barlow_twins import barlow_twins, redundancy_reduction
from tasks.families.images.self_supervised import two_views
from tests.tasks.generated_data import noisy, random_images


def slow_loss(first, second, redundancy):
    a, b = (((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)) for z in (first, second))
    total = 0.0
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            c = np.mean(a[:, i] * b[:, j])
            total += (1 - c) ** 2 if i == j else redundancy * c**2
    return total


def test_loss_is_the_slow_loop():
    first, second = np.random.default_rng(0).standard_normal((2, 30, 4)).astype(np.float32)
    found = jax.jit(redundancy_reduction, static_argnums=2)(jnp.asarray(first), jnp.asarray(second), 0.3)
    np.testing.assert_allclose(found, slow_loss(first.astype(np.float64), second.astype(np.float64), 0.3), rtol=1e-5)


def test_loss_of_whitened_equal_and_constant_features():
    """0 for uncorrelated features that agree, D for constant ones, redundancy D (D - 1) where all of them are one."""
    basis, _ = np.linalg.qr(
        np.concatenate([np.ones((40, 1)), np.random.default_rng(0).standard_normal((40, 4))], axis=1)
    )
    white = jnp.asarray(basis[:, 1:] * 40**0.5, jnp.float32)
    np.testing.assert_allclose(redundancy_reduction(white, white, 0.3), 0, atol=1e-6)
    np.testing.assert_allclose(redundancy_reduction(jnp.ones((40, 4)), jnp.ones((40, 4)), 0.3), 4, rtol=1e-6)
    copies = jnp.broadcast_to(white[:, :1], (40, 4))
    np.testing.assert_allclose(redundancy_reduction(copies, copies, 0.3), 0.3 * 4 * 3, rtol=1e-4)


def test_the_task_compares_the_two_views_of_each_image():
    family = barlow_twins(random_images((8, 8, 1)), hidden=6, size=4)
    task = family.task({}, family.data)
    params = noisy(jax.jit(task.init)(jax.random.key(0)), 0.2)
    batch = family.eval_batch(family.data, "test")
    w = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    views = np.asarray(jax.jit(two_views)(batch["image"], batch["seed"]), np.float64).reshape(40, -1)
    h = views @ w["Dense_0"]["kernel"]
    h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
    features = np.maximum(h, 0) @ w["Dense_1"]["kernel"] + w["Dense_1"]["bias"]
    expected = slow_loss(features[:20], features[20:], 1 / 4)
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-4)
    assert set(metrics) == {"loss", "spread", "neighbour_accuracy"} and family.uninformed_loss == 4


def test_number_of_parameters_and_bad_arguments():
    images = random_images((8, 8, 1))
    family = barlow_twins(images)
    params = jax.eval_shape(family.task({}, family.data).init, jax.random.key(0))
    assert sum(p.size for p in jax.tree.leaves(params)) == 64 * 64 + 64 * 32 + 32
    with pytest.raises(ValueError, match="redundancy=-0.1"):
        barlow_twins(images, redundancy=-0.1)
    with pytest.raises(ValueError, match="hidden=0"):
        barlow_twins(images, hidden=0)
    with pytest.raises(ValueError, match="size=1"):
        barlow_twins(images, size=1)
