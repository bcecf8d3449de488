"""Phases: some leaves of theta are trained, and the rest keeps its bits."""

import dataclasses

import jax
import numpy as np
import pytest

from learned_opt.architectures.celo import celo
from learned_opt.architectures.lagg_set import lagg_set
from learned_opt.checkpoint import save
from meta_train.config import MetaTrainConfig
from meta_train.flat_theta import trained_entries
from meta_train.references import Given
from meta_train.trainer import build_lopt, build_trainer
from tests.meta_train.toy_families import regression_family

CONFIG = MetaTrainConfig(
    task="regression",
    optimizer="lopt_a,hidden_size=2",
    num_workers=2,
    num_local_steps=2,
    batch_size=4,
    num_tasks=8,
    truncation_length=2,
    min_unroll_length=2,
    max_unroll_length=4,
    warmup_steps=0,
    train_only="mlp/w0,momentum",
)
GIVEN = Given(families={"regression": regression_family()})


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's AdamW raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("estimator", ["pes", pytest.param("truncated_backprop", marks=pytest.mark.slow)])
def test_other_leaves_keep_their_bits(estimator):
    trainer = build_trainer(dataclasses.replace(CONFIG, estimator=estimator), GIVEN)
    state = trainer.init(jax.random.key(0))
    start = jax.tree.map(np.array, trainer.unravel(state.theta))
    for _ in range(3):
        state, _ = trainer.step(state)
    for vector in (state.theta, state.theta_average):
        now = jax.tree.map(np.array, trainer.unravel(vector))
        moved = {
            jax.tree_util.keystr(path, simple=True, separator="/")
            for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(start), jax.tree.leaves(now), strict=True)
            if old.tobytes() != new.tobytes()
        }
        assert moved == {"mlp/w0", "momentum_decays"}
    if estimator == "pes":
        # What is not trained is not perturbed, and adds no noise.
        trained = trained_entries(trainer.lopt, CONFIG.train_only)
        assert trained is not None
        assert np.count_nonzero(state.particles["regression"].accumulator[0]) <= np.sum(trained)


def test_entries_of_a_controller():
    lopt = lagg_set()
    theta = lopt.init(jax.random.key(0))
    marked = trained_entries(lopt, "controller")
    assert marked is not None and trained_entries(lopt, " ") is None
    sizes = [leaf.size for leaf in jax.tree.leaves(theta["controller"])]
    # Leaves come in the order of their names, in which the controller is first.
    assert marked.sum() == sum(sizes) and marked[: sum(sizes)].all()
    assert marked.size == sum(leaf.size for leaf in jax.tree.leaves(theta))


def test_phases_of_celo_go_on_from_each_other(tmp_path):
    first = celo(phase=1)
    save(tmp_path / "first.safetensors", first, first.init(jax.random.key(0)))
    config = dataclasses.replace(
        CONFIG, optimizer="celo,phase=2", initial_theta=str(tmp_path / "first.safetensors"), train_only="rnn_params"
    )
    lopt = build_lopt(config)
    assert lopt.config["phase"] == 2
    jax.tree.map(np.testing.assert_array_equal, lopt.init(jax.random.key(1)), first.init(jax.random.key(0)))
    with pytest.raises(ValueError, match="make the settings equal or choose another file"):
        build_lopt(dataclasses.replace(config, optimizer="celo,hidden_size=8"))
