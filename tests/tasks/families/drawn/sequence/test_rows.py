"""Sequences drawn at random and their answers, against loops over Python lists."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.drawn.sequence.choices import GROUPS, KINDS, Choices, choices_of
from tasks.families.drawn.sequence.rows import num_uniforms, sequences_of
from tasks.families.drawn.sequence.sampled_sequence import sampled_sequence
from tasks.families.drawn.sequence.tables import automaton, chain, group_table

NO_TABLE = np.zeros(0)


def choices_with(**wanted) -> Choices:
    """Those of the first seed that has them."""
    drawn = (choices_of(seed) for seed in range(2000))
    return next(c for c in drawn if all(getattr(c, name) == value for name, value in wanted.items()))


def rows_of(choices: Choices, table=NO_TABLE, n=40):
    uniforms = np.random.default_rng(0).random((n, num_uniforms(choices)), np.float32)
    rows = sequences_of(choices, table, uniforms, np)
    return rows["x"], rows["y"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "table"])
def test_fresh_sequences_are_those_of_numpy(kind):
    c = choices_with(kind=kind, fresh=True)
    tables = {"automaton": automaton, "chain": chain}
    has_table = kind in tables and c.variant != "periodic"
    table = tables[kind](c, np.random.default_rng(0)) if has_table else NO_TABLE
    uniforms = np.random.default_rng(1).random((2, 20, num_uniforms(c)), np.float32)
    fixed, fresh = (sequences_of(c, table, u, xp) for u, xp in ((uniforms, np), (jnp.asarray(uniforms), jnp)))
    for leaf in ("x", "y"):
        assert fixed[leaf].dtype == fresh[leaf].dtype
        np.testing.assert_allclose(fixed[leaf], fresh[leaf], atol=1e-5)


@pytest.mark.parametrize("variant", ["joint", "interleaved"])
def test_recall_is_looking_up(variant):
    c = choices_with(kind="recall", variant=variant, noise=0.0)
    for x, y in zip(*rows_of(c), strict=True):
        flat = x.reshape(-1).tolist() if variant == "interleaved" else x[:-1].reshape(-1).tolist() + [x[-1, 0]]
        assert len(set(flat[:-1:2])) == c.parts
        assert dict(zip(flat[:-1:2], flat[1:-1:2], strict=True))[flat[-1]] == y[0] + c.symbols


@pytest.mark.parametrize("variant", ["copy", "reverse", "sort"])
def test_rewriting(variant):
    c = choices_with(kind="rewrite", variant=variant, noise=0.0)
    for x, y in zip(*rows_of(c), strict=True):
        tokens = x[: c.parts, 0].tolist()
        assert y.tolist() == {"copy": tokens, "reverse": tokens[::-1], "sort": sorted(tokens)}[variant]
        assert set(x[c.parts :, 0].tolist()) == {c.symbols}


@pytest.mark.parametrize("variant", ["count", "majority"])
def test_counting(variant):
    c = choices_with(kind="count", variant=variant, noise=0.0)
    for x, y in zip(*rows_of(c), strict=True):
        tokens = x[:, 0].tolist()
        if variant == "majority":
            assert y[0] == max(range(c.symbols), key=lambda token: (tokens.count(token), -token))
        else:
            ends = range(c.length - c.num_answers + 1, c.length + 1)
            assert y.tolist() == [min(tokens[:end].count(0), c.num_outputs - 1) for end in ends]


def test_the_nearest_neighbours_label_is_asked_for():
    c = choices_with(kind="neighbours", noise=0.0)
    for x, y in zip(*rows_of(c), strict=True):
        points, labels = x[:, : c.symbols].astype(float), x[:, c.symbols :]
        nearest = min(range(c.length - 1), key=lambda i: math.dist(points[i], points[-1]))
        assert np.flatnonzero(labels[nearest]).tolist() == y.tolist() and not labels[-1].any()
        assert len({tuple(row) for row in labels[:-1].tolist()}) <= c.parts


def test_groups_are_groups_that_do_not_commute():
    """Every row and column has each element once, products associate, and the orders of elements tell D4 from Q8."""
    squares_to_one = {"s3": 4, "d4": 6, "q8": 2, "d5": 6, "a4": 4}
    for name, order in GROUPS.items():
        table = group_table(name)
        for line in (*table, *table.T):
            assert sorted(line.tolist()) == list(range(order))
        for a, b, c in itertools.product(range(order), repeat=3):
            assert table[table[a, b], c] == table[a, table[b, c]]
        assert np.any(table != table.T) and sum(table[a, a] == 0 for a in range(order)) == squares_to_one[name]


@pytest.mark.parametrize("variant", ["any", "s3"])
def test_states_follow_letters(variant):
    c = choices_with(kind="automaton", variant=variant, noise=0.0)
    table = automaton(c, np.random.default_rng(3))
    pairs = itertools.product(range(c.parts), range(c.symbols), range(c.symbols))
    assert any(table[table[state, a], b] != table[table[state, b], a] for state, a, b in pairs)
    for x, y in zip(*rows_of(c, table), strict=True):
        states = list(
            itertools.accumulate(x[:, 0].tolist(), lambda state, letter: int(table[state, letter]), initial=0)
        )
        assert y.tolist() == states[-c.num_answers :]


def test_chains_follow_their_probabilities_and_patterns_repeat():
    c = choices_with(kind="chain", variant="markov1", noise=0.0)
    bounds = chain(c, np.random.default_rng(0))
    x, y = rows_of(c, bounds, 20_000)
    np.testing.assert_array_equal(x[:, -(c.num_answers - 1) or c.length :, 0], y[:, :-1])
    counts = np.zeros((c.symbols, c.symbols))
    np.add.at(counts, (x[:, -1, 0], y[:, -1]), 1)
    expected = np.diff(bounds, axis=1, prepend=0) * counts.sum(1, keepdims=True)
    assert np.all(np.abs(counts - expected) <= 5 * np.sqrt(expected + 1))
    c = choices_with(kind="chain", variant="periodic", noise=0.0)
    for x, y in zip(*rows_of(c), strict=True):
        tokens = [*x[:, 0].tolist(), int(y[-1])]
        assert tokens[c.parts :] == tokens[: -c.parts]


def test_tables_hold_every_pair_once_with_its_product():
    drawn = ((seed, choices_of(seed)) for seed in range(2000))
    seed, c = next((s, c) for s, c in drawn if c.kind == "table" and c.variant == "q8" and not c.noise)
    data, products = sampled_sequence(seed).data, group_table("q8")
    answers = {tuple(x[:, 0].tolist()): y for rows in data.values() for x, y in zip(rows["x"], rows["y"], strict=True)}
    assert sum(len(rows["x"]) for rows in data.values()) == len(answers) == 64
    for (a, b), y in answers.items():
        assert y.tolist() == [products[a, b - 8]]
    assert len(data["train"]["x"]) == round(c.share * 64)


def test_the_hidden_value_of_a_curve_obeys_its_recurrence():
    """A wave has x_{t-1} + x_{t+1} = 2 cos(w) x_t with one w for all t; the answer is x at the mark."""
    c = choices_with(kind="curve", variant="middle", noise=0.0, parts=1)
    for x, y in zip(*rows_of(c), strict=True):
        assert np.flatnonzero(x[:, 1]).tolist() == [c.length // 2] and x[c.length // 2, 0] == 0
        wave = np.where(x[:, 1] == 1, y[0], x[:, 0]).astype(float)
        middle, sums = wave[1:-1], wave[:-2] + wave[2:]
        np.testing.assert_allclose(sums, middle * (middle @ sums) / (middle @ middle), atol=1e-5)
