"""The meta-step: traced once, reproducible, resumable, and safe from non-finite meta-gradients."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.base import LearnedOptimizer
from meta_train.estimators.base import EstimatorInfo, GradientEstimator
from meta_train.estimators.particle_mesh import make_particle_mesh
from meta_train.estimators.pes import pes
from meta_train.estimators.truncation import log_uniform_length
from meta_train.estimators.unroll import make_unroll
from meta_train.runs.state_arrays import from_arrays, to_arrays
from meta_train.trainer import meta_trainer
from tasks.base import Task, TaskFamily


def regression_family():
    """Linear regression with a new target per task, on resident inputs."""
    inputs = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    data = {split: {"x": inputs} for split in ("train", "outer_valid")}

    def task(target, data):
        def sample_batch(key, split, batch_shape):
            rows = jax.random.randint(key, batch_shape, 0, 64)
            return {"x": data[split]["x"][rows]}

        def loss(params, key, batch):
            noise = 0.1 * jax.random.normal(key, batch["x"].shape[:-1])
            return jnp.mean(jnp.square(batch["x"] @ (params["w"] - target) - noise))

        return Task(
            init=lambda key: {"w": 0.1 * jax.random.normal(key, (3,))},
            loss=loss,
            sample_batch=sample_batch,
            metrics=lambda params, batch: {"loss": loss(params, jax.random.key(0), batch)},
        )

    return TaskFamily(
        name="regression",
        data=data,
        sample=lambda key: jax.random.normal(key, (3,)),
        task=task,
        uninformed_loss=3.0,
        eval_batch=lambda data, split: dict(data[split]),
    )


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's AdamW raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


class Counter:
    """A constant learning rate that counts how often it is traced."""

    def __init__(self):
        self.calls = 0

    def __call__(self, step):
        del step
        self.calls += 1
        return jnp.float32(1e-2)


@functools.cache
def regression_trainer():
    family = regression_family()
    lopt = learned_opt.lagg_a(num_workers=2, hidden_size=2, hidden_layers=1, nominal="average")
    unroll = make_unroll(
        lambda theta: local_sgd(optax.sgd(0.05), lopt.transform(theta)),
        family,
        num_workers=2,
        num_local_steps=2,
        batch_size=4,
        truncation_length=2,
        meta_loss_split="train",
    )
    mesh = make_particle_mesh(8)
    estimator = pes(
        unroll,
        log_uniform_length(2, 6, 2),
        num_pairs=8,
        truncation_length=2,
        sigma=0.05,
        mesh=mesh,
    )
    counter = Counter()
    trainer = meta_trainer(
        lopt,
        estimator,
        family.data,
        learning_rate=counter,
        weight_decay=1e-4,
        max_gradient_norm=1.0,
        average_decay=0.9,
        mesh=mesh,
    )
    return trainer, counter


def walk(trainer, state, num_steps):
    infos = []
    for _ in range(num_steps):
        state, info = trainer.step(state)
        infos.append(jax.tree.map(np.asarray, info))
    return state, infos


def test_meta_step_compiles_once(caplog):
    trainer, counter = regression_trainer()
    state = trainer.init(jax.random.key(0))
    with jax.log_compiles():
        state, _ = trainer.step(state)
        first, traced = len(caplog.records), counter.calls
        walk(trainer, state, 3)
    compiled = [r for r in caplog.records if "step_fn" in r.getMessage()]
    assert any("step_fn" in r.getMessage() for r in caplog.records[:first]), (
        "nothing was compiled in the first step: this test no longer sees compilations"
    )
    assert traced > 0 and counter.calls == traced
    assert all(r in caplog.records[:first] for r in compiled)


def test_same_seed_same_bits():
    trainer, _ = regression_trainer()
    one = walk(trainer, trainer.init(jax.random.key(3)), 3)
    other = walk(trainer, trainer.init(jax.random.key(3)), 3)
    chex.assert_trees_all_equal(to_arrays(one[0]), to_arrays(other[0]))
    chex.assert_trees_all_equal(one[1], other[1])
    third, _ = walk(trainer, trainer.init(jax.random.key(4)), 3)
    assert np.any(third.theta["mlp"]["w0"] != one[0].theta["mlp"]["w0"])


def test_restored_state_continues_identically():
    trainer, _ = regression_trainer()
    state, _ = walk(trainer, trainer.init(jax.random.key(5)), 2)
    saved = {name: np.array(array) for name, array in to_arrays(state).items()}
    state, infos = walk(trainer, state, 3)
    restored = from_arrays(saved, trainer.init(jax.random.key(6)))
    again, infos_again = walk(trainer, restored, 3)
    chex.assert_trees_all_equal(to_arrays(again), to_arrays(state))
    chex.assert_trees_all_equal(infos_again, infos)


def test_info_of_a_healthy_run():
    trainer, _ = regression_trainer()
    state, infos = walk(trainer, trainer.init(jax.random.key(0)), 4)
    assert state.step == 4
    for info in infos:
        assert 0 < info.meta_loss < 1.5 and np.isfinite(info.gradient_norm)
        assert info.num_skipped == 0 and info.gradient_norm > 0
        np.testing.assert_allclose(info.learning_rate, 1e-2, rtol=1e-6)
    # Every offset of the decays is reached by the meta-gradient, every weight by AdamW.
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.theta))
    assert np.any(state.theta["mlp"]["w1"]) and np.any(state.theta["momentum_decays"])


def scripted(gradients, average_decay=0.9, weight_decay=0.1):
    """A trainer of a theta of ones whose meta-gradients are given, one per step."""
    script = jnp.asarray(gradients, jnp.float32)

    def estimate(theta, state, key, meta_step, data):
        del key, data
        gradient = {"a": jnp.full_like(theta["a"], 1.0), "b": script[meta_step]}
        return gradient, state + 1, EstimatorInfo(*[jnp.float32(0)] * len(EstimatorInfo._fields))

    lopt = LearnedOptimizer(
        lambda key: {"a": jnp.ones(2), "b": jnp.ones(3)},
        lambda theta: optax.with_extra_args_support(optax.identity()),
        {},
    )
    return meta_trainer(
        lopt,
        GradientEstimator(lambda theta, key, data: jnp.int32(0), estimate),
        {},
        learning_rate=optax.constant_schedule(0.1),
        weight_decay=weight_decay,
        max_gradient_norm=1.0,
        average_decay=average_decay,
        mesh=make_particle_mesh(1),
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_non_finite_meta_gradients_never_reach_theta(bad):
    good = [1.0, 2.0, 3.0]
    trainer = scripted([good, [1.0, bad, 2.0], [bad, bad, bad], good])
    state, _ = walk(trainer, trainer.init(jax.random.key(0)), 1)
    before = jax.tree.map(np.array, (state.theta, state.theta_average, state.opt_state))
    for in_row in (1, 2):
        state, (info,) = walk(trainer, state, 1)
        assert info.num_skipped == 1 and info.num_skipped_in_row == in_row
        chex.assert_trees_all_equal((state.theta, state.theta_average, state.opt_state), before)
    assert state.step == 3 and state.estimator_state == 3
    state, (info,) = walk(trainer, state, 1)
    assert info.num_skipped == 0 and state.num_skipped_in_row == 0
    assert np.all(state.theta["b"] != before[0]["b"])
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.theta))


def test_each_meta_step_gets_its_own_data():
    lopt = LearnedOptimizer(
        lambda key: {"a": jnp.zeros(2)}, lambda theta: optax.with_extra_args_support(optax.identity()), {}
    )

    def estimate(theta, state, key, meta_step, data):
        info = EstimatorInfo(*[jnp.float32(0)] * len(EstimatorInfo._fields))
        return {"a": jnp.full_like(theta["a"], data)}, state, info

    trainer = meta_trainer(
        lopt,
        GradientEstimator(lambda theta, key, data: jnp.int32(0), estimate),
        jnp.float32(0),
        data_at=lambda meta_step: jnp.float32(10 + meta_step),
        learning_rate=optax.constant_schedule(0.1),
        weight_decay=0.0,
        max_gradient_norm=1e9,
        average_decay=0.0,
        mesh=make_particle_mesh(1),
    )
    state, infos = walk(trainer, trainer.init(jax.random.key(0)), 2)
    saved = {name: np.array(array) for name, array in to_arrays(state).items()}
    _, again = walk(trainer, from_arrays(saved, trainer.init(jax.random.key(1))), 2)
    norms = [float(info.gradient_norm) for info in infos + again]
    np.testing.assert_allclose(norms, np.sqrt(2) * np.asarray([10, 11, 12, 13]), rtol=1e-6)


def test_adamw_on_clipped_gradients_and_running_average():
    gradients = np.asarray([[3.0, 0.0, -4.0], [0.1, 0.2, 0.3], [9.0, 9.0, 9.0]])
    trainer = scripted(gradients, average_decay=0.15)
    state, infos = walk(trainer, trainer.init(jax.random.key(0)), 3)
    theta = np.ones(5)
    average, m, v = theta.copy(), np.zeros(5), np.zeros(5)
    for t, row in enumerate(gradients):
        g = np.concatenate([np.ones(2), row])
        norm = np.linalg.norm(g)
        np.testing.assert_allclose(infos[t].gradient_norm, norm, rtol=1e-5)
        g = g / max(norm, 1.0)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        corrected = m / (1 - 0.9 ** (t + 1)), v / (1 - 0.999 ** (t + 1))
        step = corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        theta = theta - 0.1 * (step + 0.1 * theta)
        decay = min(0.15, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * theta
    found = np.concatenate([state.theta["a"], state.theta["b"]])
    np.testing.assert_allclose(found, theta, rtol=1e-5)
    found = np.concatenate([state.theta_average["a"], state.theta_average["b"]])
    np.testing.assert_allclose(found, average, rtol=1e-5)
