"""`mup` and `as_server`, and what optimizers say that are not told what they need."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.architectures import from_config

PARAMS = {"w": jnp.asarray([[1.0, -2.0, 0.5], [0.3, 0.1, 4.0]]), "b": jnp.asarray([0.5, 0.0, -1.0])}
GRADIENTS = {"w": jnp.asarray([[0.1, 0.2, -0.3], [1.0, 0.0, 2.0]]), "b": jnp.asarray([-1.0, 3.0, 0.2])}
SGD = learned_opt.learnable_sgd(0.5)
THETA = SGD.init(jax.random.key(0))
HORIZON = ("hyper_v2", "celo", "celo_adam")
LOSS = (*HORIZON, "rnn_mlp_lopt")


def first_update(lopt, theta=THETA, gradients=GRADIENTS, **extra) -> Any:
    tx = lopt.transform(theta)
    return tx.update(gradients, tx.init(PARAMS), PARAMS, **extra)[0]


@pytest.mark.parametrize("multipliers", [{"w": 0.25, "b": 2.0}, [2.0, 0.25], np.asarray([2.0, 0.25])])
def test_mup_multiplies_every_tensor_by_its_own(multipliers):
    # Leaves are in the order of their names: b, w.
    expected = {"w": -0.5 * 0.25 * GRADIENTS["w"], "b": -0.5 * 2 * GRADIENTS["b"]}
    for updates in (
        first_update(learned_opt.mup(SGD, multipliers)),
        first_update(learned_opt.mup(SGD), multipliers=multipliers),
        first_update(learned_opt.mup(SGD, [7.0, 7.0]), multipliers=multipliers),
    ):
        for name, update in updates.items():
            np.testing.assert_allclose(update, expected[name], rtol=1e-6)


def test_mup_clips_the_global_norm_and_counts_nan_as_zero():
    updates = first_update(learned_opt.mup(SGD, [1.0, 1.0], clip_norm=1.0))
    np.testing.assert_allclose(optax.tree.norm(updates), 0.5, rtol=1e-6)
    broken = {**GRADIENTS, "b": jnp.asarray([jnp.nan, 1.0, 1.0])}
    updates = first_update(learned_opt.mup(SGD, [1.0, 1.0], zero_nan=True), gradients=broken)
    np.testing.assert_allclose(updates["b"], [0, -0.5, -0.5], rtol=1e-6)


@pytest.mark.parametrize("multipliers", [None, [1.0], {"w": 1.0}, [1.0, [2.0, 3.0]], "ab"])
def test_multipliers_that_do_not_fit_are_named(multipliers):
    with pytest.raises(ValueError, match=r"multipliers=.*tensor"):
        first_update(learned_opt.mup(SGD), multipliers=multipliers)


def test_a_server_takes_the_mean_pseudo_gradient_as_its_gradient():
    lopt = learned_opt.as_server(learned_opt.celo2(learning_rate=0.1, adam_rank=-1))
    assert lopt.reads == "mean"
    tx = lopt.transform(lopt.init(jax.random.key(3)))

    def loss(params, key, batch):
        del key
        return jnp.sum(jnp.square(params["w"] @ jnp.mean(batch, axis=0)) + jnp.sum(params["b"]))

    algorithm = learned_opt.simulate(learned_opt.local_sgd(optax.sgd(0.01), tx), 2)
    batches = jax.random.normal(jax.random.key(1), (2, 3, 4, 3))
    state = algorithm.init(PARAMS)
    state, _ = jax.jit(algorithm.round, static_argnums=0)(loss, state, jax.random.key(2), batches)
    locals_ = []
    for worker in range(2):
        params = PARAMS
        for step in range(3):
            gradient = jax.grad(loss)(params, None, batches[worker, step])
            params = jax.tree.map(lambda p, g: p - 0.01 * g, params, gradient)
        locals_.append(params)
    pseudo_gradient = jax.tree.map(lambda x, *y: x - sum(y) / 2, PARAMS, *locals_)
    updates: Any = tx.update(pseudo_gradient, tx.init(PARAMS), PARAMS)[0]
    for name, found in algorithm.params(state).items():
        np.testing.assert_allclose(found, PARAMS[name] + updates[name], atol=1e-4)
        # Every step of Celo2 has the size of its learning rate.
        np.testing.assert_allclose(np.sqrt(np.mean(np.square(found - PARAMS[name]))), 0.1, rtol=1e-2)


def test_wrappers_are_rebuilt_from_their_config():
    lopt = learned_opt.as_server(learned_opt.mup(learned_opt.hyper_v2(lstm_hidden_size=4), [1.0, 2.0]))
    rebuilt = from_config(lopt.config)
    assert rebuilt.config == lopt.config and rebuilt.reads == "mean"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: learned_opt.as_server(learned_opt.lopt_a()), "lopt_a is a server optimizer already"),
        (lambda: from_config({"architecture": "mup", "base": {"architecture": "celo3"}}), "celo3"),
        (lambda: learned_opt.celo(phase=3), "phase=3"),
        (lambda: learned_opt.celo2(adam_form="adamw"), "adam_form='adamw'"),
        (lambda: learned_opt.celo2(adam_paths="("), r"adam_paths='\('"),
        (lambda: learned_opt.hyper_v2(num_mlps=0), "num_mlps=0"),
        (lambda: learned_opt.learnable_sgd(initial_lr=0.0), "initial_lr=0.0: use a number above 0"),
        (lambda: learned_opt.learnable_adam(initial_beta1=1.0), "initial_beta1=1.0: use a number below 1"),
    ],
)
def test_odd_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", HORIZON)
@pytest.mark.parametrize("num_steps", [None, 0])
def test_a_missing_horizon_is_named(name, num_steps):
    lopt = getattr(learned_opt, name)()
    with pytest.raises(ValueError, match=f"num_steps={num_steps}"):
        lopt.transform({}, num_steps=num_steps)


@pytest.mark.parametrize("wrapper", [learned_opt.mup, learned_opt.as_server])
def test_a_missing_horizon_is_named_through_a_wrapper_and_a_file(wrapper, tmp_path):
    lopt = wrapper(learned_opt.celo())
    theta = lopt.init(jax.random.key(0))
    path = tmp_path / "celo.safetensors"
    learned_opt.save(path, lopt, theta)
    for use in (lambda: lopt.transform(theta), lambda: learned_opt.load(path)):
        with pytest.raises(ValueError, match="num_steps=None: celo reads .* pass num_steps=updates"):
            use()


@pytest.mark.parametrize("name", LOSS)
def test_a_missing_loss_is_named(name):
    lopt = getattr(learned_opt, name)()
    tx = lopt.transform(lopt.init(jax.random.key(0)), num_steps=10)
    with pytest.raises(ValueError, match=f"value=None: {name} reads the loss"):
        tx.update(GRADIENTS, tx.init(PARAMS), PARAMS)


@pytest.mark.parametrize("name", ["nn_adam", "lagg_set", *LOSS])
def test_a_donated_state_takes_nothing_else_with_it(name):
    lopt = getattr(learned_opt, name)()
    theta = lopt.init(jax.random.key(0))
    tx = lopt.transform(theta, num_steps=10)
    params = {"w": PARAMS["w"]}
    state = tx.init(params)
    jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)(state)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((theta, params)))
