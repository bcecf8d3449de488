import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.images.contrastive import NUM_NEGATIVES, alignment_and_uniformity, contrastive
from tasks.families.images.self_supervised import two_views
from tests.tasks.generated_data import noisy, random_images


def slow_loss(first, second, sharpness):
    n = len(first)
    near = [np.exp(-sharpness * np.sum((first[i] - first[(i - s) % n]) ** 2)) for i in range(n) for s in range(1, 9)]
    return np.mean(np.sum((first - second) ** 2, axis=1)) + np.mean(near)


def test_loss_is_the_slow_loop():
    first, second = np.random.default_rng(0).standard_normal((2, 12, 4)).astype(np.float32)
    assert NUM_NEGATIVES == 8
    found = jax.jit(alignment_and_uniformity, static_argnums=2)(jnp.asarray(first), jnp.asarray(second), 0.3)
    np.testing.assert_allclose(found, slow_loss(first, second, 0.3), rtol=1e-5)


def test_constant_opposite_and_lonely_features():
    """Equal features cost 1, opposite views 4 more; an image alone has nothing to be far from."""
    same = jnp.broadcast_to(jnp.asarray([1.0, 0.0]), (6, 2))
    assert alignment_and_uniformity(same, same, 2.0) == 1
    assert alignment_and_uniformity(same, -same, 2.0) == 5
    assert alignment_and_uniformity(same[:1], same[:1], 2.0) == 0


def test_the_task_compares_the_two_views_of_each_image_on_the_sphere():
    family = contrastive(random_images((8, 8, 1)), (6,), 4)
    task = family.task({}, family.data)
    params = noisy(jax.jit(task.init)(jax.random.key(0)), 0.2)
    batch = family.eval_batch(family.data, "test")
    w = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    views = np.asarray(jax.jit(two_views)(batch["image"], batch["seed"]), np.float64).reshape(40, -1)
    h = np.maximum(views @ w["Dense_0"]["kernel"] + w["Dense_0"]["bias"], 0)
    z = h @ w["Dense_1"]["kernel"] + w["Dense_1"]["bias"]
    z = z / np.sqrt(np.sum(z**2, axis=1, keepdims=True) + 1e-6)
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], slow_loss(z[:20], z[20:], 2.0), rtol=1e-4)
    assert set(metrics) == {"loss", "spread", "neighbour_accuracy"} and family.uninformed_loss == 1


@pytest.mark.parametrize(("arguments", "says"), [({"size": 0}, "size=0"), ({"sharpness": 0.0}, "sharpness=0")])
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        contrastive(random_images((8, 8, 1)), **arguments)
