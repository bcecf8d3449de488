from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.equations.pinn_adversarial import pinn_adversarial
from tasks.families.equations.pinn_burgers import burgers_residual, pinn_burgers
from tasks.networks.physics_informed import CoordinateNetwork
from tests.tasks.generated_data import noisy

MODEL = CoordinateNetwork((6,), lower=(0.0, -1.0), upper=(1.0, 1.0))


def start(num_candidates):
    family = pinn_adversarial(num_candidates, (6,))
    task = family.task({}, family.data)
    return family, task, noisy(jax.jit(task.init)(jax.random.key(0)), 0.5)


@pytest.mark.slow
def test_one_candidate_is_the_plain_network():
    family, task, params = start(1)
    plain = pinn_burgers((6,))
    batch = task.sample_batch(jax.random.key(1), "train", (16,))
    plain_task = plain.task({}, plain.data)
    expected = jax.jit(plain_task.metrics)(params, {leaf: batch[leaf] for leaf in plain.data["train"]})
    np.testing.assert_allclose(jax.jit(task.loss)(params, jax.random.key(0), batch), expected["loss"], rtol=1e-5)
    found = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose([found[name] for name in expected], list(expected.values()), rtol=1e-5)


def test_points_are_chosen_in_proportion_to_their_squared_residual():
    family, task, params = start(4)
    row = jax.tree.map(lambda leaf: jnp.asarray(leaf[5:6]), dict(family.data["train"]))

    @jax.jit
    def measured(params, row, keys):
        def u(points) -> Any:
            return MODEL.apply({"params": params}, points)

        edges = u(jnp.concatenate([row["initial"], row["boundary"]]))
        misfit = (edges[0] - row["u_initial"][0]) ** 2 + edges[1] ** 2
        squares = burgers_residual(u, row["candidates"])[0] ** 2
        losses = jax.vmap(lambda key: task.loss(params, key, row))(keys)
        return misfit, squares, losses, task.metrics(params, row)["loss"]

    misfit, squares, losses, expected = measured(params, row, jax.random.split(jax.random.key(0), 4000))
    chosen = np.argmin(np.abs(np.asarray(losses - misfit)[:, None] - squares[None]), axis=1)
    np.testing.assert_allclose(losses - misfit, squares[chosen], rtol=1e-3, atol=1e-6)
    share = np.asarray(squares / squares.sum())
    assert share.max() > 0.35
    # Four standard errors of a share over 4,000 draws.
    np.testing.assert_allclose(np.bincount(chosen, minlength=4) / 4000, share, atol=4 * 0.5 / 4000**0.5)
    np.testing.assert_allclose(expected, misfit + (share * squares).sum(), rtol=1e-5)


def test_candidates_are_uniform_and_hold_the_interior_point():
    data = pinn_adversarial(3).data
    for split in SPLITS:
        candidates = data[split]["candidates"]
        np.testing.assert_array_equal(candidates[:, 0], data[split]["interior"])
        t, x = candidates[:, 1:].reshape(-1, 2).T
        # Standard errors over 4,096 points at least: 0.005 and 0.009.
        np.testing.assert_allclose([t.mean(), x.mean()], [0.5, 0], atol=0.035)
        assert 0 <= t.min() and t.max() <= 1 and -1 <= x.min() and x.max() <= 1


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_candidates=0"):
        pinn_adversarial(0)
    with pytest.raises(ValueError, match="hidden_sizes"):
        pinn_adversarial(hidden_sizes=(32, 0))
