"""What must hold on a GPU: the CPU's numbers, the same bits twice, and data that stay on the device.

`make gpu-check` runs these. Without a GPU they compare the CPU with itself, which shows that they work.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.architectures import ARCHITECTURES
from meta_train.config import MetaTrainConfig
from meta_train.runs.state_arrays import to_arrays
from meta_train.trainer import build_trainer
from tests import noisy_toy

pytestmark = [pytest.mark.gpu, pytest.mark.optimized]

NUM_WORKERS = 4
PARAMS = {"w": np.linspace(-1, 1, 20 * 300).reshape(20, 300).astype(np.float32), "b": np.ones(7, np.float32)}
SMALL = MetaTrainConfig(
    optimizer="lagg_a,nominal=momentum,hidden_size=4",
    num_workers=2,
    num_local_steps=2,
    batch_size=8,
    num_tasks=2,
    truncation_length=3,
    min_unroll_length=3,
    max_unroll_length=6,
)


@pytest.fixture(autouse=True)
def exact_products():
    """Float32 products as the CPU takes them, and optax's AdamW, which raises a float to an integer power."""
    with jax.default_matmul_precision("float32"), jax.numpy_dtype_promotion("standard"):
        yield


def pseudo_gradients(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: rng.normal(size=(NUM_WORKERS, *p.shape)).astype(np.float32), PARAMS)


def steps_of(lopt, device):
    """Three updates on one device."""
    with jax.default_device(device):
        tx = optax.with_extra_args_support(lopt.transform(lopt.init(jax.random.key(0)), num_steps=10))
        state, found = tx.init(PARAMS), []
        step = jax.jit(tx.update)
        for t in range(3):
            workers = pseudo_gradients(t)
            extra = {"worker_updates": workers} if lopt.reads == "workers" else {}
            mean = jax.tree.map(lambda w: w.mean(axis=0), workers)
            updates, state = step(mean, state, PARAMS, value=jnp.float32(1), **extra)
            found.append(jax.tree.map(np.asarray, updates))
        return found


# Wrappers leave the arithmetic to the optimizer inside.
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in ("as_server", "mup")])
def test_an_update_is_that_of_the_cpu(name):
    lopt = learned_opt.from_config({"architecture": name})
    if lopt.num_workers is not None:
        lopt = learned_opt.from_config(lopt.config | {"num_workers": NUM_WORKERS})
    found, expected = (steps_of(lopt, device) for device in (jax.devices()[0], jax.devices("cpu")[0]))
    for first, second in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        # Kernels add up the means of a tensor in another order.
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4 * np.abs(second).max())


def test_local_sgd_is_that_of_the_cpu():
    def losses_on(device):
        with jax.default_device(device):
            algorithm = learned_opt.simulate(learned_opt.local_sgd(optax.sgd(0.1), optax.sgd(1.0)), NUM_WORKERS)
            state = algorithm.init(noisy_toy.init(jax.random.key(0)))
            batches = noisy_toy.draw_batch(jax.random.key(1), (NUM_WORKERS, 5, 8))
            state, info = jax.jit(lambda s: algorithm.round(noisy_toy.loss_fn, s, jax.random.key(2), batches))(state)
            return np.asarray(info.losses)

    np.testing.assert_allclose(losses_on(jax.devices()[0]), losses_on(jax.devices("cpu")[0]), rtol=1e-4)


@pytest.mark.parametrize("estimator", ["pes", "truncated_backprop"])
def test_meta_steps_give_the_same_bits_twice_and_stay_on_the_device(estimator):
    trainer = build_trainer(dataclasses.replace(SMALL, estimator=estimator))

    def after_two_steps():
        state = trainer.init(jax.random.key(0))
        for _ in range(2):
            state, info = trainer.step(state)
        platforms = {device.platform for leaf in jax.tree.leaves(state) for device in leaf.devices()}
        assert platforms == {jax.devices()[0].platform} and np.isfinite(info.estimate.meta_loss)
        return to_arrays(state)

    first, second = after_two_steps(), after_two_steps()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)
