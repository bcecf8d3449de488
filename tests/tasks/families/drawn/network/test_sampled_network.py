"""Problems drawn at random: every kind of them trains, and their losses are what they are said to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.drawn.network.choices import LAYERS, LOSSES, Choices, choices_of
from tasks.families.drawn.network.sampled_network import sampled_network

SEEDS = range(32)


def test_every_kind_of_layer_meets_every_loss():
    drawn = [choices_of(seed) for seed in SEEDS]
    assert {(c.layers, c.loss) for c in drawn} == {(layers, loss) for layers in LAYERS for loss in LOSSES}
    for field in ("target", "activation", "width", "depth", "num_rows", "noise", "vocabulary"):
        assert len({getattr(c, field) for c in drawn}) >= 2, field


def train_loss(family, params):
    task = family.task({}, family.data)
    return task.metrics(params, family.eval_batch(family.data, "train"))["loss"]


@pytest.mark.parametrize("seed", range(8))
def test_a_seed_is_one_problem_and_gradients_lower_its_loss(seed):
    family, again = sampled_network(seed), sampled_network(seed)
    jax.tree.map(np.testing.assert_array_equal, family.data, again.data)
    assert family.name == f"sampled_network_{seed}" and sampled_network(seed, "mine").name == "mine"
    params = family.task({}, family.data).init(jax.random.key(0))
    loss, gradient = jax.jit(jax.value_and_grad(lambda params: train_loss(family, params)))(params)
    squares = sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient))
    assert all(np.any(g) for g in jax.tree.leaves(gradient))
    step = 1e-2 / jnp.sqrt(squares)
    lower = train_loss(family, jax.tree.map(lambda p, g: p - step * g, params, gradient))
    assert lower < loss


def test_answers_have_a_spread_of_one_and_noise_on_top():
    for seed in SEEDS:
        c, y = choices_of(seed), sampled_network(seed).data["train"]["y"]
        if c.loss == "cross_entropy":
            assert y.dtype == np.int32 and 0 <= y.min() and y.max() < c.num_outputs
        else:
            assert np.mean(np.sum(np.square(y), axis=1)) == pytest.approx(1 + c.noise**2, rel=0.2)


def test_an_equation_is_of_the_derivatives_along_a_direction():
    """By central differences of the network's value, in float64."""
    seed = next(seed for seed in SEEDS if is_plain_equation(choices_of(seed)))
    family, c = sampled_network(seed), choices_of(seed)
    batch = jax.tree.map(lambda leaf: np.asarray(leaf[:5], np.float64), family.data["train"])
    params = family.task({}, family.data).init(jax.random.key(1))
    plain = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}

    def value(x):
        for i in range(c.depth):
            x = activation(c.activation, x @ plain[f"w{i}"] + plain[f"b{i}"])
        return x @ plain["last_w"] + plain["last_b"]

    x, step = batch["x"], 1e-3 * batch["direction"]
    ahead, here, behind = value(x + step), value(x), value(x - step)
    terms = batch["terms"][0]
    answers = terms[0] * here + terms[1] * (ahead - behind) / 2e-3 + terms[2] * (ahead - 2 * here + behind) / 1e-6
    expected = np.mean(np.sum(np.square(answers - batch["y"]), axis=1))
    rows = jax.tree.map(lambda leaf: jnp.asarray(leaf[:5]), family.data["train"])
    found = family.task({}, family.data).loss(params, jax.random.key(0), rows)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def is_plain_equation(choices: Choices) -> bool:
    return choices.layers == "plain" and choices.loss == "equation"


def activation(name, x):
    sigmoid = 1 / (1 + np.exp(-x))
    tanh_gelu = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return {"tanh": np.tanh(x), "sin": np.sin(x), "silu": x * sigmoid, "gelu": tanh_gelu}[name]


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed=-1"):
        sampled_network(-1)
