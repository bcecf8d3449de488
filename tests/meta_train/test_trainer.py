"""A whole meta-trainer on a small problem: traced once, reproducible, resumable, and its schedule."""

import functools

import chex
import jax
import numpy as np
import pytest

from meta_train import trainer as trainer_module
from meta_train.config import MetaTrainConfig
from meta_train.references import Given
from meta_train.runs.state_arrays import from_arrays, to_arrays
from meta_train.trainer import build_trainer, warmup_cosine
from tests.meta_train.toy_families import regression_family

CONFIG = MetaTrainConfig(
    task="regression",
    optimizer="lagg_a,hidden_size=2,hidden_layers=1,nominal=average",
    num_workers=2,
    num_local_steps=2,
    batch_size=4,
    local_optimizer="sgd,learning_rate=0.05",
    num_tasks=8,
    sigma=0.05,
    truncation_length=2,
    min_unroll_length=2,
    max_unroll_length=6,
    meta_learning_rate=1e-2,
    final_meta_learning_rate=1e-2,
    warmup_steps=0,
)


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's AdamW raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.cache
def regression_trainer():
    """The trainer, and a list that grows whenever its learning rate is traced."""
    traced = []

    def watched(config):
        schedule = warmup_cosine(config)
        return lambda step: traced.append(step) or schedule(step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, "warmup_cosine", watched)
        return build_trainer(CONFIG, Given(families={"regression": regression_family()})), traced


def walk(trainer, state, num_steps):
    infos = []
    for _ in range(num_steps):
        state, info = trainer.step(state)
        infos.append(jax.tree.map(np.asarray, info))
    return state, infos


def test_meta_step_compiles_once(caplog):
    trainer, traced = regression_trainer()
    state = trainer.init(jax.random.key(0))
    with jax.log_compiles():
        state, _ = trainer.step(state)
        first, count = len(caplog.records), len(traced)
        walk(trainer, state, 3)
    compiled = [r for r in caplog.records if "meta_step" in r.getMessage()]
    assert any("meta_step" in r.getMessage() for r in caplog.records[:first]), (
        "nothing was compiled in the first step: this test no longer sees compilations"
    )
    assert count > 0 and len(traced) == count
    assert all(r in caplog.records[:first] for r in compiled)


def test_same_seed_same_bits():
    trainer, _ = regression_trainer()
    one = walk(trainer, trainer.init(jax.random.key(3)), 3)
    other = walk(trainer, trainer.init(jax.random.key(3)), 3)
    chex.assert_trees_all_equal(to_arrays(one[0]), to_arrays(other[0]))
    chex.assert_trees_all_equal(one[1], other[1])
    third, _ = walk(trainer, trainer.init(jax.random.key(4)), 3)
    assert np.any(third.theta != one[0].theta)


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
        assert 0 < info.estimate.meta_loss < 1.5 and np.isfinite(info.gradient_norm)
        assert info.num_skipped == 0 and info.gradient_norm > 0 and info.by_component == {}
        np.testing.assert_allclose(info.learning_rate, 1e-2, rtol=1e-6)
    # Every offset of the decays is reached by the meta-gradient, every weight by AdamW.
    theta = trainer.unravel(state.theta)
    assert np.all(np.isfinite(state.theta))
    assert np.any(theta["mlp"]["w1"]) and np.any(theta["momentum_decays"])


def test_learning_rate_of_the_meta_steps():
    config = MetaTrainConfig(meta_learning_rate=2.0, final_meta_learning_rate=0.5, warmup_steps=10, meta_steps=110)
    schedule = warmup_cosine(config)
    steps = np.asarray([0, 5, 10, 60, 110, 500])
    done = np.clip((steps - 10) / 100, 0, 1)
    expected = np.where(steps < 10, 2.0 * steps / 10, 0.5 + 1.5 * 0.5 * (1 + np.cos(np.pi * done)))
    np.testing.assert_allclose([np.asarray(schedule(step)) for step in steps], expected, rtol=1e-5, atol=1e-7)
