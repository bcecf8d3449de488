import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.theory.two_layer_linear import conserved_quantity, two_layer_linear


def test_start_is_orthonormal_with_the_stated_scales():
    family = two_layer_linear(num_inputs=6, num_outputs=5, width=4, u_scale=0.5, v_scale=2.0)
    task = family.task(family.sample(jax.random.key(0)), family.data)
    params = jax.jit(task.init)(jax.random.key(1))
    assert params["u"].shape == (5, 4) and params["v"].shape == (6, 4)
    np.testing.assert_allclose(params["u"].T @ params["u"], 0.25 * np.eye(4), atol=1e-5)
    np.testing.assert_allclose(params["v"].T @ params["v"], 4.0 * np.eye(4), atol=1e-5)
    metrics = jax.jit(task.metrics)(params, family.eval_batch(family.data, "test"))
    assert metrics["balancedness_drift"] < 1e-5


def test_small_steps_conserve_the_quantity_and_sign_steps_do_not():
    """Gradient descent over a fixed time drifts in proportion to its step: the flow does not drift at all."""
    family = two_layer_linear(num_inputs=5, num_outputs=4, width=3, u_scale=0.7, v_scale=0.4)
    config = family.sample(jax.random.key(0))

    def drift(data, step, num_steps, sign):
        task = family.task(config, data)
        batch = family.eval_batch(data, "train")

        def descend(_, params):
            gradient = jax.grad(task.loss)(params, jax.random.key(0), batch)
            return jax.tree.map(lambda p, g: p - step * (jnp.sign(g) if sign else g), params, gradient)

        params = jax.lax.fori_loop(0, num_steps, descend, task.init(jax.random.key(1)))
        return task.metrics(params, batch)

    run = jax.jit(drift, static_argnums=3)
    coarse, fine, signed = (
        run(family.data, 0.2, 50, False),
        run(family.data, 0.02, 500, False),
        run(family.data, 0.01, 100, True),
    )
    assert fine["loss"] < 0.1
    assert 0.05 < fine["balancedness_drift"] / coarse["balancedness_drift"] < 0.2
    assert signed["balancedness_drift"] > 10 * coarse["balancedness_drift"]


def test_metrics_are_the_written_out_formulas():
    family = two_layer_linear(num_inputs=5, num_outputs=4, width=3)
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    u, v = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    params = {"u": jnp.asarray(u[:4]), "v": jnp.asarray(v)}
    batch = task.sample_batch(jax.random.key(1), "train", (7,))
    truth, x = np.asarray(config["truth"], np.float64), np.asarray(batch["x"], np.float64)
    np.testing.assert_allclose(np.linalg.norm(truth), 1, rtol=1e-6)
    errors = [u[:4] @ v.T @ row - truth @ row for row in x]
    q = u[:4].T @ u[:4] - v.T @ v
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], 0.5 * np.mean(np.sum(np.square(errors), -1)), rtol=1e-5)
    np.testing.assert_allclose(metrics["relative_error"], np.linalg.norm(u[:4] @ v.T - truth), rtol=1e-5)
    np.testing.assert_allclose(metrics["balancedness_drift"], np.linalg.norm(q), rtol=1e-5)
    np.testing.assert_allclose(conserved_quantity(params), q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arguments, message", [({"width": 17}, "width=17"), ({"v_scale": 0.0}, "v_scale=0.0")])
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        two_layer_linear(**arguments)
