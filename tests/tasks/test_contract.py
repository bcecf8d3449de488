"""What every task family promises, checked for each entry of `FAMILIES`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tasks.base import SPLITS, TaskFamily
from tasks.suites import FAMILIES, make_family


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> TaskFamily:
    return make_family(request.param)


def start(family: TaskFamily, data, key, batch_shape=(4,)):
    """A sampled task with parameters and a batch."""
    config_key, init_key, batch_key = jax.random.split(key, 3)
    task = family.task(family.sample(config_key), data)
    return task, task.init(init_key), task.sample_batch(batch_key, "train", batch_shape)


def start_compiled(family: TaskFamily, key, batch_shape):
    """The same outside jit, but compiled as one program rather than operation by operation."""
    build = jax.jit(lambda data, key: start(family, data, key, batch_shape)[1:])
    config = family.sample(jax.random.split(key, 3)[0])
    return family.task(config, family.data), *build(family.data, key)


def test_loss_and_gradient_are_finite_and_start_near_the_uninformed_loss(family):
    def value_and_grad(data, key):
        task, params, batch = start(family, data, key, (256,))
        return jax.value_and_grad(task.loss)(params, key, batch)

    loss, grad = jax.jit(value_and_grad)(family.data, jax.random.key(0))
    assert loss.shape == () and loss.dtype == jnp.float32
    assert 0.5 < loss / family.uninformed_loss < 2.0
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(grad))
    assert all((g != 0).any() for g in jax.tree.leaves(grad))


def test_everything_is_determined_by_the_key(family):
    build = jax.jit(lambda data, key: start(family, data, key)[1:])
    first, again, other = (build(family.data, jax.random.key(i)) for i in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    differs = jax.tree.map(lambda a, b: bool((a != b).any()), first, other)
    assert any(jax.tree.leaves(differs[0])) and any(jax.tree.leaves(differs[1]))


def test_samples_share_one_structure_and_vmap(family):
    keys = jax.random.split(jax.random.key(0), 3)
    configs = [family.sample(key) for key in keys]
    assert len({str(jax.tree.map(jax.typeof, config)) for config in configs}) == 1

    def loss(data, key):
        task, params, batch = start(family, data, key)
        return task.loss(params, key, batch)

    together = jax.jit(jax.vmap(loss, in_axes=(None, 0)))(family.data, keys)
    one_by_one = jnp.stack([jax.jit(loss)(family.data, key) for key in keys])
    np.testing.assert_allclose(together, one_by_one, rtol=1e-5)


def test_batches_have_the_asked_shape_and_the_splits_dtypes(family):
    task = family.task(family.sample(jax.random.key(0)), family.data)
    for split in SPLITS:
        batch = task.sample_batch(jax.random.key(0), split, (2, 3, 5))
        assert {leaf.shape[:3] for leaf in jax.tree.leaves(batch)} == {(2, 3, 5)}
        whole = family.eval_batch(family.data, split)
        spec = jax.tree.map(lambda leaf: (leaf.shape[3:], leaf.dtype), batch)
        assert spec == jax.tree.map(lambda leaf: (leaf.shape[1:], leaf.dtype), whole)
    with pytest.raises(ValueError, match="'validation'.*inner_valid"):
        task.sample_batch(jax.random.key(0), "validation", (1,))
    with pytest.raises(ValueError, match="'validation'.*inner_valid"):
        family.eval_batch(family.data, "validation")


def test_an_antithetic_pair_shares_one_unbatched_batch(family):
    """vmapped over what the batch does not depend on, the batch keeps no extra axis."""

    def pair(data, key, signs):
        def one(sign):
            task, params, batch = start(family, data, key)
            jax.tree.map(lambda leaf: shapes.append(leaf.shape), batch)
            perturbed = jax.tree.map(lambda p: p + sign * 0.01, params)
            return task.loss(perturbed, key, batch), batch

        return jax.vmap(one, out_axes=(0, None))(signs)

    shapes: list[tuple[int, ...]] = []
    losses, _ = jax.jit(pair)(family.data, jax.random.key(0), jnp.array([-1.0, 1.0]))
    assert losses.shape == (2,) and losses[0] != losses[1]


def test_no_dataset_hides_in_the_program(family):
    def loss(data, key):
        task, params, batch = start(family, data, key)
        return task.loss(params, key, batch)

    jaxpr = jax.make_jaxpr(loss)(family.data, jax.random.key(0))
    assert sum(np.size(const) for const in jaxpr.consts) < 1000


def test_gradient_agrees_with_finite_differences(family):
    """Along a random direction, in float64: the central difference errs by O(step^2)."""
    with jax.enable_x64(True):
        task, params, batch = start_compiled(family, jax.random.key(3), (8,))
        flat, unravel = ravel_pytree(jax.tree.map(lambda p: p.astype(jnp.float64), params))
        batch = jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, batch)
        direction = jax.random.normal(jax.random.key(4), flat.shape, jnp.float64)
        loss = jax.jit(lambda flat: task.loss(unravel(flat), jax.random.key(5), batch))
        step = 1e-6
        difference = (loss(flat + step * direction) - loss(flat - step * direction)) / (2 * step)
        assert difference.dtype == jnp.float64
        np.testing.assert_allclose(jax.grad(loss)(flat) @ direction, difference, rtol=1e-5)


def test_metrics_are_means_over_the_batch(family):
    task, params, batch = start_compiled(family, jax.random.key(0), (6,))
    metrics = jax.jit(task.metrics)
    whole = metrics(params, batch)
    assert set(whole) >= {"loss"}
    halves = [metrics(params, jax.tree.map(lambda x, i=i: x[i : i + 3], batch)) for i in (0, 3)]
    for name, value in whole.items():
        np.testing.assert_allclose(value, (halves[0][name] + halves[1][name]) / 2, rtol=1e-5)
    np.testing.assert_allclose(whole["loss"], task.loss(params, jax.random.key(0), batch), rtol=1e-5)


def test_unknown_family_names_the_near_ones():
    with pytest.raises(ValueError, match="'fmnist8_mlp23': did you mean fmnist8_mlp32"):
        make_family("fmnist8_mlp23")
