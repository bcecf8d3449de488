import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.theory.separable_logistic import separable_logistic


def test_metrics_are_the_written_out_formulas():
    family = separable_logistic(num_features=5, margin=0.3, num_train=40)
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    params = {"w": jax.random.normal(jax.random.key(1), (5,))}
    batch = family.eval_batch(family.data, "train")
    u, z, w = (np.asarray(leaf, np.float64) for leaf in (config["teacher"], batch["z"], params["w"]))
    np.testing.assert_allclose(np.linalg.norm(u), 1, rtol=1e-6)
    y = np.sign(z @ u)
    x = z + 0.3 * y[:, None] * u
    output = y * (x @ w)
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], np.log1p(np.exp(-output)).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["zero_one_error"], (output <= 0).mean())
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), metrics["loss"], rtol=1e-6)


def test_the_teacher_separates_every_split_with_the_margin():
    """Along s u every example has y x . w >= s margin: no error, and a loss below that of the margin alone."""
    family = separable_logistic(margin=0.1)
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    for split in SPLITS:
        metrics = jax.jit(task.metrics)({"w": 50 * config["teacher"]}, family.eval_batch(family.data, split))
        assert metrics["zero_one_error"] == 0
        assert 0 < metrics["loss"] < np.log1p(np.exp(-50 * 0.1))


def test_the_loss_of_a_separator_depends_on_its_length_and_the_error_does_not():
    """Zero error is compatible with a loss next to that of a constant guess, and the loss falls with the length."""
    family = separable_logistic()
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    batch = family.eval_batch(family.data, "train")
    scaled = jax.jit(jax.vmap(lambda s: task.metrics({"w": s * config["teacher"]}, batch)))(
        jnp.array([1e-3, 1.0, 100.0])
    )
    assert (scaled["zero_one_error"] == 0).all()
    np.testing.assert_allclose(scaled["loss"][0], family.uninformed_loss, rtol=2e-3)
    assert scaled["loss"][0] > scaled["loss"][1] > 100 * scaled["loss"][2]


@pytest.mark.parametrize(
    "arguments, message", [({"num_features": 0}, "num_features=0"), ({"margin": 0.0}, "margin=0.0")]
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        separable_logistic(**arguments)
