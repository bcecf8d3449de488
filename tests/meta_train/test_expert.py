"""Expert supervision: the loss against NumPy, its limits, the schedule, and what a run with it does."""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.server import diloco
from meta_train.component import Component
from meta_train.config import MetaTrainConfig
from meta_train.config_checks import validate
from meta_train.expert import expert_share, imitation_loss, sets_workers, with_expert
from meta_train.references import Given, find_expert
from meta_train.runs.state_arrays import from_arrays, to_arrays
from meta_train.trainer import build_trainer
from tests.meta_train.toy_families import regression_family

CONFIG = MetaTrainConfig(
    task="regression",
    optimizer="adafac_mlp_lopt,hidden_size=2",
    num_workers=1,
    num_local_steps=1,
    batch_size=4,
    num_tasks=8,
    truncation_length=2,
    min_unroll_length=2,
    max_unroll_length=6,
    warmup_steps=0,
    expert="adam,learning_rate=0.05",
    expert_whole_steps=2,
    expert_last_step=4,
)
GIVEN = Given(families={"regression": regression_family()})


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's AdamW raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


def tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {name: (scale * rng.normal(size=shape)).astype(np.float32) for name, shape in (("w", (3, 4)), ("b", (4,)))}


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-12, 1e25])
def test_imitation_loss_against_its_definition(scale):
    own, right = tree(0, scale), tree(1)
    losses = []
    for name in own:
        u, e = own[name].astype(np.float64).ravel(), right[name].astype(np.float64).ravel()
        cosine = u @ e / (np.linalg.norm(u) * np.linalg.norm(e))
        ratio = abs(np.log(np.linalg.norm(u) / np.linalg.norm(e)))
        losses.append(0.7 * (1 - cosine) + 0.3 * min(ratio, 5) / 5)
    np.testing.assert_allclose(imitation_loss(own, right), np.mean(losses), rtol=1e-5)


def test_imitation_loss_of_odd_steps_is_bounded():
    right = tree(1)
    np.testing.assert_allclose(imitation_loss(right, right), 0, atol=1e-6)
    opposite = jax.tree.map(lambda x: -x, right)
    np.testing.assert_allclose(imitation_loss(opposite, right), 1.4, rtol=1e-6)
    nothing = jax.tree.map(jnp.zeros_like, right)
    np.testing.assert_allclose(imitation_loss(nothing, right), 1.0, rtol=1e-6)
    broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), right)
    np.testing.assert_allclose(imitation_loss(broken, right), 1.7, rtol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_steps_are_mixed_and_states_are_their_own(share):
    learned, expert = optax.sgd(0.1, momentum=0.9), optax.adam(0.01)
    both = with_expert(learned, expert, jnp.float32(share))
    params = tree(2)
    state, own_state, right_state = both.init(params), learned.init(params), expert.init(params)
    for seed in range(3):
        gradient = tree(seed)
        updates, state = both.update(gradient, state, params)
        own, own_state = learned.update(gradient, own_state, params)
        right, right_state = expert.update(gradient, right_state, params)
        chex.assert_trees_all_close(
            updates, jax.tree.map(lambda u, e: share * e + (1 - share) * u, own, right), rtol=1e-6
        )
        found: Any = state
        chex.assert_trees_all_equal(found.learned, own_state)
        chex.assert_trees_all_equal(found.expert, right_state)
        np.testing.assert_allclose(found.imitation, imitation_loss(own, right), rtol=1e-6)


def test_an_expert_without_a_share_does_not_matter():
    broken = optax.scale(float("nan"))
    updates, _ = with_expert(optax.sgd(0.1), broken, jnp.float32(0)).update(
        tree(0), with_expert(optax.sgd(0.1), broken, jnp.float32(0)).init(tree(1)), tree(1)
    )
    chex.assert_trees_all_close(updates, jax.tree.map(lambda g: -0.1 * g, tree(0)), rtol=1e-6)


def test_the_share_falls_linearly():
    found = [float(expert_share(jnp.int32(step), 10, 30)) for step in (0, 10, 15, 20, 30, 99)]
    np.testing.assert_allclose(found, [1, 1, 0.75, 0.5, 0, 0], rtol=1e-6)


def walk(trainer, state, num_steps):
    losses = []
    for _ in range(num_steps):
        state, info = trainer.step(state)
        losses.append(float(info.estimate.meta_loss))
    return state, losses


def params_of(state: Any) -> np.ndarray:
    """[pairs, signs, 3]."""
    return np.asarray(state.particles["regression"].inner.round_state.shared.params["w"])


def test_a_run_follows_the_expert_then_itself_and_resumes():
    trainer = build_trainer(CONFIG, GIVEN)
    state, losses = walk(trainer, trainer.init(jax.random.key(0)), 3)
    # While the expert takes the steps alone, both signs of every pair train alike.
    params = params_of(state)
    np.testing.assert_array_equal(params[:, 0], params[:, 1])
    saved = {name: np.array(array) for name, array in to_arrays(state).items()}
    state, rest = walk(trainer, state, 3)
    assert np.all(np.isfinite([*losses, *rest])) and np.any(params_of(state)[:, 0] != params_of(state)[:, 1])
    again, same = walk(trainer, from_arrays(saved, trainer.init(jax.random.key(9))), 3)
    assert same == rest
    chex.assert_trees_all_equal(to_arrays(again), to_arrays(state))
    inner: Any = state.particles["regression"].inner
    assert inner.round_state.shared.opt_state.imitation.shape == (8, 2)


@pytest.mark.slow
def test_imitation_is_learned():
    """The random theta of the published form comes nearer to its expert."""
    config = dataclasses.replace(
        CONFIG, expert_whole_steps=100, expert_last_step=200, sigma=0.1, meta_learning_rate=0.02, num_tasks=16
    )
    trainer = build_trainer(config, GIVEN)
    _, losses = walk(trainer, trainer.init(jax.random.key(0)), 60)
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:5])


def test_experts_by_reference():
    assert not sets_workers(find_expert("diloco")) and not sets_workers(find_expert("adam,learning_rate=0.1"))
    assert not sets_workers(diloco())
    validate(dataclasses.replace(CONFIG, task="fmnist8_mlp32"))
    components = (Component("fmnist8_mlp32", expert="sgd,learning_rate=0.1"), Component("fmnist8_cnn"))
    validate(dataclasses.replace(CONFIG, task="fmnist8_mlp32", expert=None, components=components))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expert": "adamm,learning_rate=0.1"}, "expert.*'adamm'.*did you mean 'adam'"),
        ({"expert": "adam"}, "expert: 'adam': .*learning_rate"),
        (
            {"expert": "auto_diloco"},
            "expert='auto_diloco': use one that leaves the workers' rates alone, such as diloco",
        ),
        ({"expert_last_step": 2}, "expert_last_step=2: use a meta-step after expert_whole_steps=2"),
        ({"expert": None}, "expert_last_step=4: name an expert"),
        ({"expert_whole_steps": -1}, "expert_whole_steps=-1: use at least 0"),
        ({"resume_probability": 1.0}, r"resume_probability=1.0: use a number in \[0, 1\)"),
        ({"resume_slots": 0}, "resume_slots=0: use 1 to 16"),
        ({"resume_probability": 0.8, "estimator": "full_es"}, "resume_probability=0.8: use 0 with estimator='full_es'"),
        ({"resume_probability": 0.8, "pairs_per_task": 2}, "pairs_per_task=2: use 1 with resume_probability=0.8"),
        (
            {"resume_probability": 0.8, "objective": "linear"},
            "objective='linear': use mean or final with a resume buffer",
        ),
        ({"train_only": "mpl"}, "train_only='mpl': no leaf of theta begins so; they are .*mlp/w0"),
    ],
)
def test_wrong_settings_are_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        validate(dataclasses.replace(CONFIG, task="fmnist8_mlp32", **changes))
    assert "\n" not in str(error.value)
