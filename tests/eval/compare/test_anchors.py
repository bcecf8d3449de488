"""Anchors: an untrained anchored optimizer is its anchor, under any schedule; equal anchors take part once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.compare.anchors import anchors
from eval.compare.learned import learned
from eval.compare.participants import participants
from learned_opt.algorithms.round import simulate
from learned_opt.architectures.adafac_mlp_lopt import adafac_mlp_lopt
from learned_opt.architectures.lagg_a import lagg_a
from learned_opt.architectures.lagg_set import lagg_set
from learned_opt.architectures.lopt_a import lopt_a
from learned_opt.checkpoint import save
from tests.eval.toy import TOY


def checkpoint(path, lopt, local_opt=None):
    save(path, lopt, lopt.init(jax.random.key(0)), local_opt=local_opt)
    return str(path)


def trained(contender, protocol, num_rounds=4, hparams=None):
    """Parameters after some rounds on a noisy quadratic."""

    def loss(params, key, batch):
        noise = jax.random.normal(key, params["w"].shape)
        return jnp.mean(jnp.square(params["w"][None] - batch["x"])) + 0.1 * jnp.vdot(noise, params["w"])

    algorithm = simulate(contender.make(hparams or {}), protocol.num_workers)
    state = algorithm.init({"w": jnp.arange(6.0)})
    rng = np.random.default_rng(0)
    shape = (protocol.num_workers, protocol.num_local_steps, 4, 6)
    for round in range(num_rounds):
        batches = {"x": jnp.asarray(rng.normal(size=shape), jnp.float32)}
        # optax's Adam raises a float to an integer power.
        with jax.numpy_dtype_promotion("standard"):
            state, _ = jax.jit(algorithm.round, static_argnums=0)(loss, state, jax.random.key(round), batches)
    return algorithm.params(state)["w"]


STEADY, DECAYING = (dataclasses.replace(TOY, num_rounds=4, eval_every=1, schedule=s) for s in ("constant", "linear"))


@pytest.mark.parametrize(
    ("lopt", "local_opt"),
    [
        (lopt_a(hidden_size=4, nominal="average"), {"name": "sgd", "learning_rate": 0.3}),
        (lagg_a(num_workers=2, hidden_size=4, nominal="momentum"), {"name": "adam", "learning_rate": 0.01}),
        (lagg_set(controller_size=4, hidden_size=4), {"name": "relative_rmsprop", "learning_rate": 0.03}),
        (adafac_mlp_lopt(hidden_size=4, nominal="adam", nominal_learning_rate=0.05), None),
    ],
    ids=lambda value: getattr(value, "config", {}).get("architecture", ""),
)
def test_an_untrained_optimizer_is_its_anchor_and_both_follow_the_schedule(tmp_path, lopt, local_opt):
    path = checkpoint(tmp_path / "a.safetensors", lopt, local_opt=local_opt)
    (anchor,) = anchors([("mine", path)], DECAYING)
    assert anchor.name == "mine_anchor" and anchor.kind == "anchor" and anchor.grid == {}
    ours, theirs = trained(anchor, DECAYING), trained(learned(path, DECAYING), DECAYING)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    (steady,) = anchors([("mine", path)], STEADY)
    assert not np.allclose(ours, trained(steady, STEADY), rtol=1e-4)


def test_the_schedule_multiplies_the_steps_of_a_published_form(tmp_path):
    """Its steps have a size of their own, nearly the same in every round: a linear decay shows in them."""
    lopt = lopt_a(hidden_size=4, nominal="none")
    path = checkpoint(tmp_path / "a.safetensors", lopt, local_opt={"name": "sgd", "learning_rate": 0.3})
    sizes = [1 - t / 4 for t in range(4)]
    moved = [trained(learned(path, DECAYING), DECAYING, num_rounds) for num_rounds in range(5)]
    steps = [float(np.linalg.norm(b - a)) for a, b in zip(moved[:-1], moved[1:], strict=True)]
    np.testing.assert_allclose(np.array(steps) / steps[0], sizes, atol=0.15)


def test_equal_anchors_take_part_once_and_published_forms_have_none(tmp_path):
    momentum, published = lopt_a(hidden_size=4, nominal="momentum"), lopt_a(hidden_size=4, nominal="none")
    first = checkpoint(tmp_path / "first.safetensors", momentum, local_opt={"name": "sgd", "learning_rate": 0.3})
    second = checkpoint(
        tmp_path / "second.safetensors",
        lagg_a(num_workers=2, nominal="momentum"),
        local_opt={"name": "sgd", "learning_rate": 0.3},
    )
    other = checkpoint(tmp_path / "other.safetensors", momentum, local_opt={"name": "sgd", "learning_rate": 0.1})
    bare = checkpoint(tmp_path / "bare.safetensors", published, local_opt={"name": "sgd", "learning_rate": 0.3})
    named = [f"{name}={path}" for name, path in (("a", first), ("b", second), ("c", other), ("d", bare))]
    everyone = participants(TOY, checkpoints=named, baselines=())
    assert [c.name for c in everyone] == ["a", "b", "c", "d", "a_anchor", "c_anchor"]
    assert everyone[4].details["anchor_of"] == ["a", "b"] and everyone[5].details["anchor_of"] == ["c"]
    assert "DiLoCo's step (server learning rate 0.7" in everyone[4].details["recipe"]


def test_the_anchor_of_a_tuned_optimizer_has_the_same_factor_to_tune(tmp_path):
    lopt = lopt_a(hidden_size=2, nominal="average")
    path = checkpoint(tmp_path / "a.safetensors", lopt, local_opt={"name": "sgd", "learning_rate": 0.3})
    ours, theirs = participants(TOY, checkpoints=[f"mine={path}"], baselines=(), tune_multiplier=True)
    assert (ours.name, theirs.name) == ("mine", "mine_anchor")
    assert theirs.grid == ours.grid and len(theirs.grid["multiplier"].values) == 27
    start = np.arange(6.0)
    once, thrice = (trained(theirs, TOY, 1, {"multiplier": factor}) - start for factor in (1.0, 3.0))
    np.testing.assert_allclose(thrice, 3 * once, rtol=1e-5)
    # Nothing is learned yet: at every factor they are the same.
    np.testing.assert_allclose(trained(ours, TOY, 1, {"multiplier": 3.0}) - start, thrice, rtol=1e-5)
