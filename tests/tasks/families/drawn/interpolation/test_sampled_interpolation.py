"""Drawn problems of interpolation: every model and loss is what it is said to be, by slow loops in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.drawn.interpolation.choices import LINEAR, LOSSES, MODELS, SIGNS, choices_of
from tasks.families.drawn.interpolation.models import fixed_signs, scores_of, shapes_of
from tasks.families.drawn.interpolation.sampled_interpolation import (
    margin_loss,
    sampled_interpolation,
    softmax_loss,
    uninformed_loss,
)

SEEDS = range(50)


def test_every_model_meets_every_loss_and_all_data_occur():
    drawn = [choices_of(seed) for seed in SEEDS]
    assert {(c.model, c.loss) for c in drawn} == {(model, loss) for model in MODELS for loss in LOSSES}
    kinds = {"classes", "planted", "tree", "shapes", "labels", "teacher", "relations"}
    assert {c.data for c in drawn} == kinds and {c.shape for c in drawn} == {"", "rings", "moons", "links"}
    for field in ("num_rows", "width", "depth", "activation", "input_scale", "margin", "noise", "tail"):
        assert len({getattr(c, field) for c in drawn}) >= 2, field


def test_what_is_held_out_is_not_drawn():
    for seed in range(200):
        c = choices_of(seed)
        assert c.model != "features" or c.num_outputs >= 3
        assert c.model not in LINEAR or c.data in ("classes", "planted", "tree", "labels")


def test_shapes_and_dtypes_and_sizes_of_all_seeds():
    for seed in SEEDS:
        c, family = choices_of(seed), sampled_interpolation(seed)
        x, y = family.data["train"]["x"], family.data["train"]["y"]
        assert len(x) == len(y) == c.num_rows and 16 <= c.num_rows <= 512
        assert all(np.isfinite(leaf).all() and len(leaf) for split in family.data.values() for leaf in split.values())
        if c.data == "relations":
            assert x.dtype == np.int32 and x.shape[1] == (2 if c.loss == "softmax" else 3)
        else:
            assert x.dtype == np.float32
            assert np.sqrt(np.mean(np.square(x))) == pytest.approx(c.input_scale, rel=1e-3)
        if c.loss == "softmax":
            assert y.dtype == np.int32 and y.shape == (c.num_rows,) and y.max() < c.num_outputs
        else:
            assert y.dtype == np.float32 and y.shape == (c.num_rows, c.num_outputs)
            assert c.loss == "squared" or set(np.unique(y)) == {-1, 1}
        shapes = shapes_of(c, x.shape[1])
        assert len(shapes) <= 14 and sum(map(math.prod, shapes.values())) <= 10_000
        assert 0.1 < family.uninformed_loss < 3.5


def test_a_seed_is_one_problem():
    family, again = sampled_interpolation(3), sampled_interpolation(3)
    jax.tree.map(np.testing.assert_array_equal, family.data, again.data)
    assert family.name == "sampled_interpolation_3" and sampled_interpolation(3, "mine").name == "mine"


def slow_activation(name, x):
    if name == "gelu":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return {"tanh": np.tanh(x), "silu": x / (1 + np.exp(-x)), "elu": np.where(x > 0, x, np.exp(x) - 1)}[name]


def slow_scores(c, p, x):
    """Scores of one example."""
    if c.model == "features":
        return x @ p["w0"]
    if c.model == "diagonal":
        return np.array(
            [sum(x * (p["up"][:, o] ** c.depth - p["down"][:, o] ** c.depth)) for o in range(c.num_outputs)]
        )
    if c.model == "embeddings":
        relation = p["relation"][x[1]]
        relation = np.diag(relation) if relation.ndim == 1 else relation
        objects = p["object"] if len(x) == 2 else p["object"][x[2:]]
        return np.array([p["subject"][x[0]] @ relation @ e for e in objects])
    if c.model == "first_layer":
        return slow_activation(c.activation, p["w0"].T @ x + p["b0"]) @ fixed_signs(c)
    if c.model == "convolution":
        h = x.reshape(16, -1)
        for i in range(c.depth - 1):
            patches = [np.concatenate([h[(place + shift) % 16] for shift in range(c.pieces)]) for place in range(16)]
            h = np.array([np.maximum(patch @ p[f"w{i}"], 0) for patch in patches])
        return h.mean(0) @ p["last"]
    if c.model == "experts":
        gates = np.exp(x @ p["gate"] + p["gate_b"])
        scores = 0.0
        for i in range(c.pieces):
            h = x @ p["w0"][i] + p["b0"][i]
            h = slow_activation(c.activation, h) @ p["last"][i] if c.depth == 3 else h
            scores = scores + gates[i] / gates.sum() * h
        return scores
    for i in range(c.depth - 1):
        w = p[f"w{i}"]
        if c.model == "maxout":
            x = np.array([max(x @ w[k, :, j] + p[f"b{i}"][k, j] for k in range(c.pieces)) for j in range(w.shape[2])])
        elif c.model == "normalised":
            x = slow_activation(c.activation, x @ (w / np.linalg.norm(w, axis=0)) * p[f"gain{i}"] + p[f"b{i}"])
        else:
            x = np.maximum(x @ w, 0) if c.model == "homogeneous" else x @ w
    return x @ p["last"]


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_a_slow_loop(seed):
    c, family = choices_of(seed), sampled_interpolation(seed)
    x = family.data["train"]["x"][:3]
    shapes, rng = shapes_of(c, x.shape[1]), np.random.default_rng(seed)
    params = {n: rng.standard_normal(shape).astype("f4") * 0.5 for n, shape in shapes.items()}
    wide = {n: leaf.astype(np.float64) for n, leaf in params.items()}
    expected = [slow_scores(c, wide, row if row.dtype == np.int32 else row.astype(np.float64)) for row in x]
    found = jax.jit(lambda params: scores_of(c, params, jnp.asarray(x)))(params)
    np.testing.assert_allclose(found, np.array(expected), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("seed", [0, 1, 5, 15])
def test_the_first_scores_have_the_size_that_was_drawn(seed):
    """Of models whose scores are a sum of products of parameters: over many draws of these."""
    c, family = choices_of(seed), sampled_interpolation(seed)

    def mean_square(key):
        params = family.task({}, family.data).init(key)
        return jnp.mean(jnp.square(scores_of(c, params, jnp.asarray(family.data["train"]["x"]))))

    squares = jax.jit(jax.vmap(mean_square))(jax.random.split(jax.random.key(0), 64))
    assert np.sqrt(np.mean(squares)) == pytest.approx(c.init_scale, rel=0.2)


def choices_with(loss, **changes):
    return choices_of(0)._replace(loss=loss, **changes)


def test_losses_keep_their_digits_where_they_are_tiny():
    margin = np.array([[-30.0, -1.0, 0.5, 3.0, 20.0, 60.0]])
    slow = {
        "logistic": np.logaddexp(0, -margin),
        "squared_hinge": np.array([[961.0, 4.0, 0.25, 0.0, 0.0, 0.0]]),
        "polynomial": np.array([[61.0, 3.0, 1 / 2.25, 1 / 16, 1 / 441, 1 / 3721]]),
    }
    for loss in SIGNS:
        c = choices_with(loss, tail=2.0)
        found = jax.jit(lambda margin, c=c: margin_loss(c, margin))(jnp.asarray(margin, jnp.float32))
        np.testing.assert_allclose(found, slow[loss], rtol=1e-5)
    scores = np.array([[1.0, -2.0, 0.5], [50.0, 10.0, 0.0], [-20.0, 30.0, 4.0]])
    labels = np.array([0, 0, 2])
    others = [[-3.0, -0.5], [-40.0, -50.0], [-24.0, 26.0]]
    slow_softmax = [math.log1p(sum(math.exp(d) for d in ahead)) for ahead in others]
    found = jax.jit(softmax_loss)(jnp.asarray(scores, jnp.float32), jnp.asarray(labels, jnp.int32))
    np.testing.assert_allclose(found, slow_softmax, rtol=1e-5)
    assert 0 < found[1] < 1e-16


@pytest.mark.parametrize("loss", [*SIGNS, "squared"])
def test_no_constant_guess_is_better_than_the_uninformed_loss(loss):
    c = choices_with(loss, tail=2.0)
    y = np.where(np.arange(20)[:, None] < np.array([3, 10, 16])[None], 1.0, -1.0).astype(np.float32)
    best, loss_of = 0.0, jax.jit(lambda margin: margin_loss(c, margin))
    for column in y.T:
        guesses = np.linspace(-4, 4, 4001)[:, None]
        if loss == "squared":
            losses = (guesses - column[None]) ** 2
        else:
            losses = np.asarray(loss_of(jnp.asarray(guesses * column[None], jnp.float32)))
        best += losses.mean(1).min() / 3
    assert uninformed_loss(c, y) == pytest.approx(best, rel=1e-4)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed=-1"):
        sampled_interpolation(-1)
