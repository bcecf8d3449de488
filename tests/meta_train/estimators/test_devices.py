"""Particles and workers over devices: one hash on every layout."""

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.round import WORKER_DEVICES
from learned_opt.optimizers import LOCAL_OPTIMIZERS
from meta_train.estimators.base import Particles
from meta_train.estimators.pairs import pair_estimator
from meta_train.estimators.particle_mesh import PARTICLES, make_particle_mesh, map_particles
from meta_train.estimators.pes import PES
from meta_train.estimators.truncation import log_uniform_length
from meta_train.estimators.unroll import make_unroll
from meta_train.flat_theta import flat_form
from meta_train.runs.state_arrays import to_arrays
from tasks.networks.attention import SelfAttention
from tests.meta_train.toy_families import regression_family

LAYOUTS = [
    (4, 2),
    *(pytest.param(layout, marks=pytest.mark.slow) for layout in [(2, 1), (4, 1), (8, 1), (1, 2), (2, 4)]),
]


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's Adam raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


def mesh_over(num_particles, particle_devices, worker_devices=1):
    """As in a process that sees no more devices than these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_device_count", lambda: particle_devices * worker_devices)
        mesh = make_particle_mesh(num_particles, worker_devices)
    assert dict(mesh.shape) == {PARTICLES: particle_devices, WORKER_DEVICES: worker_devices}
    return mesh


@functools.cache
def estimates(particle_devices, worker_devices, local_optimizer="sgd"):
    """Two meta-gradients and what is carried between them, on so many of the devices."""
    mesh = mesh_over(8, particle_devices, worker_devices)
    family, lopt = regression_family(), learned_opt.lopt_a(hidden_size=2, hidden_layers=1, nominal="momentum")
    form = flat_form(lopt)
    local = LOCAL_OPTIMIZERS[local_optimizer](0.05)
    unroll = make_unroll(
        lambda theta, num_rounds: local_sgd(local, lopt.transform(form.unravel(theta))),
        family,
        num_workers=4,
        num_local_steps=2,
        batch_size=4,
        truncation_length=2,
        meta_loss_split="outer_valid",
        worker_devices=worker_devices,
    )
    estimator = pair_estimator(PES, unroll, log_uniform_length(2, 6, 2), Particles(8, mesh, sigma=0.05))
    theta, data = jax.device_put(
        (form.ravel(lopt.init(jax.random.key(1))), family.data), jax.NamedSharding(mesh, jax.P())
    )
    state = estimator.init(theta, jax.random.key(0), data)
    estimate, found = jax.jit(estimator.estimate), []
    for step in range(2):
        placed = jax.tree.map(lambda x: x.sharding, state)
        gradient, state, info = estimate(theta, state, jax.random.key(2 + step), jnp.int32(step), data)
        # Placed as it was, or the next step would compile again.
        assert jax.tree.all(
            jax.tree.map(lambda x, s: x.size == 0 or x.sharding.is_equivalent_to(s, x.ndim), state, placed)
        )
        found.append(to_arrays((gradient, state, info)))
    return found, state


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_layout_has_the_same_bits(layout):
    (expected, _), (found, _) = estimates(1, 1), estimates(*layout)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert ours[name].tobytes() == theirs[name].tobytes(), name


@pytest.mark.parametrize("layout", [(4, 2), pytest.param((1, 1), marks=pytest.mark.slow)], ids=str)
def test_local_states_lie_with_their_workers(layout):
    (expected, _), (found, state) = estimates(1, 1, local_optimizer="adam"), estimates(*layout, local_optimizer="adam")
    momentum = state.inner.round_state.worker.local_state[0].mu["w"]
    particles, workers = layout
    assert momentum.shape == (8, 2, 4, 3)
    assert {shard.data.shape for shard in momentum.addressable_shards} == {(8 // particles, 2, 4 // workers, 3)}
    for ours, theirs in zip(found, expected, strict=True):
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-4, atol=1e-5, err_msg=name)


def test_attention_has_the_same_bits_on_any_number_of_devices():
    """With jax.nn.softmax in it, one device and several differ."""
    hidden = np.random.default_rng(0).normal(size=(4, 4, 32, 16)).astype(np.float32)
    model = SelfAttention(num_heads=4, causal=True)
    params = jax.jit(model.init)(jax.random.key(0), hidden[0])

    def train(params, number, hidden):
        del number

        def step(params, example):
            def loss(params):
                return jnp.mean(jnp.square(jnp.asarray(model.apply(params, example[None]))))

            gradient = jax.grad(loss)(params)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), None

        return hidden, jax.lax.scan(step, params, hidden)[0]

    results = []
    for devices in (1, 2, 4):
        _, trained = jax.jit(map_particles(train, mesh_over(4, devices)), static_argnums=1)(params, 4, hidden)
        results.append(jax.device_get(trained))
    for other in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, results[0], other)


def test_wrong_layouts_are_named():
    with pytest.raises(ValueError, match="worker_devices=9: use at most the 8 devices"):
        make_particle_mesh(8, 9)


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize("task", ["fmnist8_mlp32", "fmnist8_cnn", "markov_transformer"])
@pytest.mark.parametrize("local", ["sgd,learning_rate=0.1", "adam,learning_rate=0.01"])
def test_one_hash_in_processes_of_1_to_16_devices(task, local):
    """Whole meta-steps of the real trainer, in processes that see that many devices."""
    hashes = {}
    # For Adam see `meta_train.estimators.particle_mesh`.
    over_particles = (2, 4, 8, 16) if local.startswith("adam") else (1, 2, 4, 8, 16)
    # Fewer workers on a device are smaller matrix products, which XLA may sum in another order; an MLP's it does not.
    over_workers = ((2, 2), (8, 4)) if task == "fmnist8_mlp32" else ()
    for devices, worker_devices in (*((n, 1) for n in over_particles), *over_workers):
        changes = {"task": task, "local_optimizer": local, "worker_devices": worker_devices}
        command = [sys.executable, "-m", "tests.meta_train.device_hash", str(devices), json.dumps(changes)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found, used = json.loads(done.stdout.splitlines()[-1])
        assert used == devices
        hashes[devices, worker_devices] = found
    assert len(set(hashes.values())) == 1, hashes
