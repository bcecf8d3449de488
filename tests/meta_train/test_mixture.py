"""Several families in one run: the average of their meta-gradients, who takes part, and bits after a restart."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.base import LearnedOptimizer
from meta_train.component import Component
from meta_train.estimators.base import EstimatorInfo, GradientEstimator
from meta_train.estimators.particle_mesh import make_particle_mesh
from meta_train.flat_theta import flat_form
from meta_train.meta_optimizers import clipped_adamw
from meta_train.meta_update import meta_update
from meta_train.mixture import BuiltComponent, draw_components, mixture_trainer
from meta_train.runs.run import resume, run
from meta_train.runs.state_arrays import from_arrays, to_arrays
from meta_train.trainer import build_trainer
from tests.meta_train.toy_trainer import result_of, toy_config

DIRECTIONS = {"a": [1.0, 0.0, 0.0], "b": [0.0, 2.0, 0.0], "c": [0.0, 0.0, 4.0]}
WEIGHTS = {"a": 1.0, "b": 2.0, "c": 5.0}


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's AdamW raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


def scripted(scales=None, data_at=None, names="abc", max_gradient_norm=1e9, **settings):
    """A mixture whose component x estimates DIRECTIONS[x] times its data, and counts in its state how often it did;
    what is reported as its oldest age is a number made of the key that it was given."""
    lopt = LearnedOptimizer(
        lambda key: {"w": jnp.zeros(3)},
        lambda theta, num_steps=None: optax.with_extra_args_support(optax.identity()),
        {},
    )

    def component(name, scale):
        def estimate(theta, state, key, meta_step, data):
            info = EstimatorInfo(*[jnp.float32(ord(name))] * len(EstimatorInfo._fields))
            info = info._replace(max_age=jax.random.uniform(key))
            return jnp.asarray(DIRECTIONS[name]) * data, state + 1, info

        estimator = GradientEstimator(lambda theta, key, data: jnp.int32(0), estimate)
        return BuiltComponent(estimator, data_at or (lambda meta_step: jnp.float32(scale)), WEIGHTS[name])

    components = {name: component(name, (scales or {}).get(name, 1.0)) for name in names}
    rate = optax.constant_schedule(0.1)
    update = meta_update(clipped_adamw(rate, 0.0, max_gradient_norm), rate, 0.0, flat_form(lopt), make_particle_mesh(1))
    return mixture_trainer(lopt, components, update, **settings)


def first_moment(state):
    """AdamW's mean of gradients after the first meta-step, undone to the gradient it saw."""
    (mean,) = (leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state) if "mu" in str(path))
    return np.asarray(mean) / 0.1


def test_meta_gradient_is_the_weighted_mean():
    trainer = scripted()
    state, info = trainer.step(trainer.init(jax.random.key(0)))
    np.testing.assert_allclose(first_moment(state), [1 / 8, 2 * 2 / 8, 5 * 4 / 8], rtol=1e-5)
    np.testing.assert_allclose(info.gradient_norm, np.linalg.norm([1 / 8, 1 / 2, 5 / 2]), rtol=1e-5)
    assert {name: float(info.by_component[f"gradient_norm/{name}"]) for name in "abc"} == {"a": 1, "b": 2, "c": 4}
    assert {name: float(info.by_component[f"meta_loss/{name}"]) for name in "abc"} == {"a": 97, "b": 98, "c": 99}
    assert float(info.estimate.meta_loss) == 98 and float(info.estimate.num_clamped) == 97 * 3 + 3


def test_drawn_components_give_the_same_mean():
    """Over all draws, the meta-gradient of two of three members averages to that of all."""
    seen = {}
    for seed in range(40):
        trainer = scripted(components_per_step=2, seed=seed)
        drawn = tuple(draw_components(seed, 0, 3, 2))
        if drawn not in seen:
            state, info = trainer.step(trainer.init(jax.random.key(0)))
            seen[drawn] = first_moment(state)
            assert {k[-1] for k in info.by_component if k.startswith("meta_loss/")} == {"abc"[i] for i in drawn}
            assert [int(state.particles[name]) for name in "abc"] == [int(i in drawn) for i in range(3)]
        if len(seen) == 3:
            break
    np.testing.assert_allclose(np.mean(list(seen.values()), axis=0), [1 / 8, 2 * 2 / 8, 5 * 4 / 8], rtol=1e-5)


def test_draws_are_uniform_and_those_of_philox():
    counts = np.zeros(5)
    for step in range(5000):
        drawn = draw_components(3, step, 5, 2)
        assert len(set(drawn)) == 2 and drawn == sorted(drawn)
        counts[drawn] += 1
    assert np.all(np.abs(counts - 2000) < 4 * np.sqrt(5000 * 0.4 * 0.6))
    words = np.random.Philox(key=7, counter=11).random_raw(4)
    assert draw_components(7, 11, 4, 1) == [int(np.argmin(words))]


def keys_seen(trainer, num_steps):
    """Of every component, at every step, the number made of its key."""
    state, seen = trainer.init(jax.random.key(0)), []
    for _ in range(num_steps):
        state, info = trainer.step(state)
        seen.append(float(info.estimate.max_age))
    return seen


def test_components_have_keys_of_their_own():
    # One component is drawn a step, so its number is the one reported.
    mixture = scripted(components_per_step=1)
    root = mixture.init(jax.random.key(0)).key
    expected = []
    for step in range(6):
        (drawn,) = draw_components(0, step, 3, 1)
        expected.append(float(jax.random.uniform(jax.random.fold_in(jax.random.fold_in(root, step), drawn))))
    assert keys_seen(mixture, 6) == expected and len(set(expected)) == 6


def test_a_mixture_of_one_has_the_keys_of_the_meta_steps():
    alone = scripted(names="b")
    root = alone.init(jax.random.key(0)).key
    expected = [float(jax.random.uniform(jax.random.fold_in(root, step))) for step in range(3)]
    assert keys_seen(alone, 3) == expected
    state, info = alone.step(alone.init(jax.random.key(0)))
    np.testing.assert_allclose(first_moment(state), [0, 2, 0], rtol=1e-5)
    assert info.by_component == {} and list(state.particles) == ["b"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_component_that_is_not_finite_leaves_theta_alone(bad):
    trainer = scripted(scales={"b": bad})
    state, info = trainer.step(trainer.init(jax.random.key(0)))
    assert int(info.num_skipped) == 1 and not np.any(state.theta)


def test_the_draw_follows_a_restored_state():
    trainer = scripted(components_per_step=1)
    state = trainer.init(jax.random.key(0))
    for _ in range(3):
        state, _ = trainer.step(state)
    saved = {name: np.array(array) for name, array in to_arrays(state).items()}
    ahead = [trainer.step(state)]
    ahead.append(trainer.step(ahead[-1][0]))
    again = scripted(components_per_step=1)
    state = from_arrays(saved, again.init(jax.random.key(9)))
    for _, info in ahead:
        state, new = again.step(state)
        assert new.by_component.keys() == info.by_component.keys()


def test_each_meta_step_gets_its_own_data():
    """Also after a restart, and of the components that are drawn only."""
    asked = []

    def data_at(meta_step):
        asked.append(meta_step)
        return jnp.float32(meta_step)

    trainer = scripted(data_at=data_at, components_per_step=1)
    state = trainer.init(jax.random.key(0))
    asked.clear()
    for step in range(3):
        state, info = trainer.step(state)
        (drawn,) = draw_components(0, step, 3, 1)
        assert float(info.by_component[f"gradient_norm/{'abc'[drawn]}"]) == [1, 2, 4][drawn] * step
    saved = {name: np.array(array) for name, array in to_arrays(state).items()}
    trainer.step(from_arrays(saved, trainer.init(jax.random.key(1))))
    assert [step for step in asked if step] == [1, 2, 3]


TINY = {
    "optimizer": "lopt_a,hidden_size=4,nominal=momentum",
    "num_workers": 2,
    "num_local_steps": 1,
    "batch_size": 4,
    "num_tasks": 2,
    "truncation_length": 2,
    "min_unroll_length": 2,
    "max_unroll_length": 6,
    "meta_steps": 5,
    "checkpoint_every": 2,
    "components": (
        Component("quadratics32"),
        Component("quadratics32", name="adam", num_tasks=4, local_optimizer="adam,learning_rate=0.01"),
    ),
    "components_per_step": 1,
}


class _Killed(Exception):
    pass


def test_resumed_mixture_equals_the_uninterrupted(tmp_path):
    whole, resumed = (toy_config(tmp_path / name, **TINY) for name in ("whole", "resumed"))
    trainer = build_trainer(whole)
    run(whole, trainer)
    left = iter(range(3))

    def mortal(state):
        if next(left, None) is None:
            raise _Killed
        return trainer.step(state)

    with pytest.raises(_Killed):
        run(resumed, trainer._replace(step=mortal))
    resume(resumed.run_dir, build_trainer(resumed))
    step, bits, rows = result_of(Path(whole.run_dir))
    assert (step, bits, rows) == result_of(Path(resumed.run_dir))
    drawn = [[name[10:] for name in row if name.startswith("meta_loss/")] for row in rows]
    assert [["quadratics32_k2_h1", "adam"][i] for (i,) in (draw_components(0, s, 2, 1) for s in range(5))] == [
        name for (name,) in drawn
    ]
    assert any("particles/adam/inner/round_state/worker/local_state" in name for name in bits)
