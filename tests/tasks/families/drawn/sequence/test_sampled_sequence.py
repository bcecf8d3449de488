"""Problems on sequences drawn at random: what is drawn, every kind of network, and the losses by NumPy."""

import itertools
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.drawn.sequence.choices import KINDS, LOSSES, NETWORKS, Choices, choices_of
from tasks.families.drawn.sequence.layers import answers_of, shapes_of
from tasks.families.drawn.sequence.sampled_sequence import _losses, _uninformed, sampled_sequence

SEEDS = range(56)


def choices_with(**wanted) -> Choices:
    """Those of the first seed that has them."""
    drawn = (choices_of(seed) for seed in range(2000))
    return next(c for c in drawn if all(getattr(c, name) == value for name, value in wanted.items()))


def test_kinds_come_equally_often_and_meet_every_network_and_loss():
    drawn = [choices_of(seed) for seed in SEEDS]
    assert Counter((c.kind, c.network) for c in drawn) == dict.fromkeys(itertools.product(KINDS, NETWORKS), 1)
    met = {(c.kind, c.loss) for c in drawn[:32]}
    assert met == {pair for pair in itertools.product(KINDS, LOSSES) if pair[0] != "curve"} | {("curve", "squared")}
    for field in (
        "width",
        "depth",
        "num_rows",
        "fresh",
        "noise",
        "init_scale",
        "output_scale",
        "num_answers",
        "pooled",
    ):
        assert len({getattr(c, field) for c in drawn}) >= 2, field
    assert max(c.length for c in drawn) <= 16 and len({(c.kind, c.variant) for c in drawn}) >= 20


def test_networks_stay_small():
    for seed in SEEDS:
        shapes = shapes_of(choices_of(seed))
        assert len(shapes) <= 14 and sum(math.prod(shape) for shape in shapes.values()) <= 10_000


@pytest.mark.parametrize("seed", range(8))
def test_a_seed_is_one_problem(seed):
    family, again, c = sampled_sequence(seed), sampled_sequence(seed, "mine"), choices_of(seed)
    jax.tree.map(np.testing.assert_array_equal, family.data, again.data)
    assert family.name == f"sampled_sequence_{seed}" and again.name == "mine"
    assert 0 < family.uninformed_loss < 3
    for rows in family.data.values():
        x, y = rows["x"], rows["y"]
        assert x.shape[1] == c.length and y.shape[1:] == (c.num_answers,)
        assert y.dtype == (np.float32 if c.kind == "curve" else np.int32)
        assert c.kind == "curve" or (0 <= y.min() and y.max() < c.num_outputs)
        assert x.dtype == np.float32 or (0 <= x.min() and x.max() < c.num_inputs)


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_reach_all_parameters_and_lower_the_loss(network):
    seed = next(s for s in SEEDS if choices_of(s).network == network and choices_of(s).loss != "hinge")
    family = sampled_sequence(seed)
    task = family.task({}, family.data)
    rows = {name: jnp.asarray(leaf[:32]) for name, leaf in family.data["train"].items()}
    loss = jax.jit(jax.value_and_grad(lambda params: task.loss(params, jax.random.key(0), rows)))
    params = small_parameters(choices_of(seed))
    value, gradient = loss(params)
    assert all(np.isfinite(g).all() and np.any(g) for g in jax.tree.leaves(gradient))
    step = 1e-2 / np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
    lower, _ = loss({name: p - jnp.float32(step) * gradient[name] for name, p in params.items()})
    assert lower < value


def small_parameters(choices):
    rng = np.random.default_rng(0)
    return {n: jnp.asarray(0.3 * rng.standard_normal(shape), jnp.float32) for n, shape in shapes_of(choices).items()}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_that_no_constant_beats_the_best(loss):
    rng = np.random.default_rng(0)
    z, y = 2 * rng.standard_normal((6, 2, 4)).astype(np.float32), rng.integers(4, size=(6, 2)).astype(np.int32)
    np.testing.assert_allclose(_losses(loss, jnp.asarray(z), jnp.asarray(y)), slow_losses(loss, z, y), rtol=1e-5)
    # Whether one class has more than half or not.
    for labels in (np.repeat([0, 1, 2, 3], [5, 4, 2, 1]), np.repeat([0, 1, 2, 3], [9, 4, 1, 1])):
        best = _uninformed(choices_of(0)._replace(loss=loss, num_outputs=4), labels.astype(np.int32))
        guesses = np.concatenate([rng.uniform(-2, 2, (100, 1, 4)), unit_guesses(loss, labels)])
        found = [slow_losses(loss, np.broadcast_to(z, (len(labels), 1, 4)), labels[:, None]).mean() for z in guesses]
        assert min(found) == pytest.approx(best, rel=1e-5)


def unit_guesses(loss, labels):
    """Candidates [2, 1, 4] for the best guess: none, and what the shares of the classes suggest."""
    shares = np.bincount(labels, minlength=4) / len(labels)
    smooth = 0.9 * shares + 0.1 / 4
    informed = {"cross_entropy": np.log(shares), "squared": shares, "smoothed": np.log(smooth), "hinge": np.eye(4)[0]}
    return np.stack([np.zeros(4), informed[loss]])[:, None]


def slow_losses(loss, z, y):
    found = np.zeros(y.shape)
    for place in np.ndindex(*y.shape):
        row, label = z[place].astype(float), y[place]
        log_probabilities = row - np.log(np.sum(np.exp(row)))
        unit = np.eye(len(row))[label]
        found[place] = {
            "cross_entropy": -log_probabilities[label],
            "squared": np.sum((row - unit) ** 2),
            "smoothed": -np.sum((0.9 * unit + 0.1 / len(row)) * log_probabilities),
            "hinge": max(0, 1 + max(np.delete(row, label)) - row[label]),
        }[loss]
    return found


@pytest.mark.parametrize("network", ["transformer", "attention", "elman", "gated"])
def test_what_looks_back_does_not_look_ahead(network):
    """Answers at all positions do not change with a later token; the last one does with the first token."""
    c = choices_with(kind="chain", network=network)
    c = c._replace(num_answers=c.length, pooled=False)
    x = np.random.default_rng(0).integers(c.symbols, size=(1, c.length, 1)).astype(np.int32)
    first, last = x.copy(), x.copy()
    first[0, 0], last[0, -1] = (first[0, 0] + 1) % c.symbols, (last[0, -1] + 1) % c.symbols
    answers = jax.jit(lambda x: answers_of(c, small_parameters(c), x))(jnp.asarray(np.concatenate([x, first, last])))
    here, early, late = np.split(np.asarray(answers), 3)
    np.testing.assert_allclose(here[0, :-1], late[0, :-1], atol=1e-6)
    assert np.any(np.abs(here[0, -1] - early[0, -1]) > 1e-6) and np.any(here[0, -1] != late[0, -1])


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed=-1"):
        sampled_sequence(-1)
