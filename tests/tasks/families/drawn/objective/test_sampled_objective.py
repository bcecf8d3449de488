"""Problems with a drawn objective: what a seed decides, what a constant answer has, and losses by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.drawn.objective.choices import KINDS, choices_of
from tasks.families.drawn.objective.networks import apply, masked_apply, shapes_of
from tasks.families.drawn.objective.rows import draw_rows
from tasks.families.drawn.objective.sampled_objective import FLOOR, OBJECTIVES, sampled_objective
from tasks.families.drawn.objective.views import two_views

SEEDS = range(80)
OTHER_CONSTANTS = ("quantile", "poisson", "survival", "policy_gradient", "mixture")
"""Kinds whose best constant answer is not zero."""


def made(seed):
    """Choices and objective of a seed."""
    choices, rng = choices_of(seed), np.random.default_rng([24, seed])
    return choices, OBJECTIVES[choices.kind](choices, draw_rows(choices, rng), rng)


def of_kind(kind):
    """A small problem of a kind."""
    seed = KINDS.index(kind)
    choices, objective = made(seed)
    rng = np.random.default_rng(0)
    batch = {name: jnp.asarray(leaf[:256]) for name, leaf in objective.leaves.items()}
    return choices, objective, batch | {"seed": jnp.asarray(rng.integers(2**32, size=256, dtype=np.uint32))}


def constant(objective, values: float | jax.Array = 0.0):
    """A network of the objective that answers the same to everything."""
    return lambda name, x: jnp.zeros((len(x), objective.networks[name][1]), x.dtype) + values


def least_cost(objective, batch, answers):
    """Loss of the best of several constant answers."""
    costs = jax.jit(jax.vmap(lambda values: objective.loss(constant(objective, values), batch)))(answers)
    return float(jnp.min(costs))


def test_kinds_come_equally_often_and_on_images_as_often_as_not():
    drawn = [choices_of(seed) for seed in SEEDS]
    for kind in KINDS:
        assert sum(c.kind == kind for c in drawn) == 4
        assert sum(c.kind == kind and c.inputs == "images" for c in drawn) == 2
    for field in ("network", "activation", "width", "depth", "size", "num_rows", "noise", "few", "fresh"):
        assert len({getattr(c, field) for c in drawn}) >= 2, field
    for c in drawn:
        assert c.network != "conv" or c.inputs == "images"
    assert set(OBJECTIVES) == set(KINDS)


def test_a_seed_is_one_problem_and_small():
    for seed in range(20):
        choices, objective = made(seed)
        if seed in (0, 3, 7):
            jax.tree.map(np.testing.assert_array_equal, objective.leaves, made(seed)[1].leaves)
        assert all(leaf.dtype == np.float32 for leaf in objective.leaves.values())
        shapes = [
            shape
            for name, (inputs, outputs) in objective.networks.items()
            for shape in shapes_of(choices, name, inputs, outputs).values()
        ]
        assert len(shapes) <= 14 and sum(map(math.prod, shapes)) <= 10_000


def test_to_answer_zero_to_everything_costs_about_one():
    problems = {kind: of_kind(kind)[1:] for kind in set(KINDS) - set(OTHER_CONSTANTS)}
    batches = {kind: batch for kind, (_, batch) in problems.items()}

    @jax.jit
    def costs(batches):
        return {kind: objective.loss(constant(objective), batches[kind]) for kind, (objective, _) in problems.items()}

    for kind, cost in costs(batches).items():
        assert float(cost) == pytest.approx(1, abs=0.2), kind


def test_the_best_constant_costs_one_where_it_is_not_zero():
    for kind in ("poisson", "survival"):
        _, objective, batch = of_kind(kind)
        costs = least_cost(objective, batch, jnp.linspace(-4, 4, 161)[:, None, None])
        assert costs == pytest.approx(1, abs=0.25)
    _, objective, batch = of_kind("policy_gradient")
    number = objective.networks["net"][1]
    assert least_cost(objective, batch, 50 * jnp.eye(number)[:, None]) == pytest.approx(1, abs=0.2)
    _, objective, batch = of_kind("quantile")
    levels = {3: (0.1, 0.5, 0.9), 5: (0.05, 0.25, 0.5, 0.75, 0.95)}[objective.networks["net"][1]]
    marks = jnp.asarray(np.quantile(batch["y"], levels), jnp.float32)
    assert least_cost(objective, batch, marks[None, None]) == pytest.approx(1, abs=0.15)


def test_a_semi_gradient_is_that_of_the_error_to_a_fixed_aim():
    """By hand for a linear value: the number from the true values, the gradient from reward and next state."""
    choices, objective, batch = of_kind("temporal_difference")
    discount = 0.6 + 0.35 * choices.level
    w = np.random.default_rng(1).standard_normal((objective.networks["net"][0], 1)).astype(np.float32)
    value, slope = jax.jit(jax.value_and_grad(lambda w: objective.loss(lambda _, x: x @ w, batch)))(jnp.asarray(w))
    x, then = np.asarray(batch["x"]), np.asarray(batch["next_x"])
    surplus = x @ w - (np.asarray(batch["reward"]) + discount * then @ w)
    np.testing.assert_allclose(slope, 2 * x.T @ surplus / len(x), rtol=1e-3, atol=1e-5)
    assert float(value) == pytest.approx(np.mean((x @ w - np.asarray(batch["value"])) ** 2), rel=1e-5)


def test_values_solve_the_equation_of_the_chain():
    """v = r + g E[v'] over the transitions that leave a state: errors average out over all of them."""
    choices, objective = made(KINDS.index("temporal_difference"))
    discount = 0.6 + 0.35 * choices.level
    leaves = {name: np.asarray(leaf, np.float64) for name, leaf in objective.leaves.items()}
    values = {row.tobytes(): value for row, value in zip(leaves["x"], leaves["value"][:, 0], strict=True)}
    known = [i for i, row in enumerate(leaves["next_x"]) if row.tobytes() in values]
    then = np.array([values[leaves["next_x"][i].tobytes()] for i in known])
    errors = leaves["reward"][known, 0] + discount * then - leaves["value"][known, 0]
    assert len(known) > 0.9 * len(leaves["x"])
    assert abs(errors.mean()) < 4 * errors.std() / len(errors) ** 0.5 + 0.02
    assert np.corrcoef(leaves["reward"][known, 0] + discount * then, leaves["value"][known, 0])[0, 1] > 0.3


def test_a_policys_gradient_is_right_in_the_mean():
    _, objective, batch = of_kind("policy_gradient")
    regret = jnp.broadcast_to(batch["regret"][:1], (5_000, batch["regret"].shape[1]))
    seeds = jnp.arange(5_000, dtype=jnp.uint32)
    rows = {"x": jnp.zeros((5_000, 1)), "regret": regret, "seed": seeds}
    logits = jnp.linspace(-1, 1, regret.shape[1])

    def reported(logits):
        return objective.loss(lambda _, x: jnp.zeros((len(x), 1)) + logits[None], rows)

    value, found = jax.jit(jax.value_and_grad(reported))(logits)
    chances = np.exp(logits) / np.exp(logits).sum()
    # The unit of the costs cancels.
    unit = float(value) / (chances @ np.asarray(regret[0]))
    costs = unit * np.asarray(regret[0])
    np.testing.assert_allclose(found, chances * (costs - chances @ costs), atol=0.08 * np.abs(costs).max())


def test_entries_see_those_before_them_alone():
    seed = KINDS.index("autoregressive")
    choices = choices_of(seed)._replace(num_inputs=8, depth=2, width=16)
    shapes = shapes_of(choices, "net", 8, 8)
    rng = np.random.default_rng(4)
    params = {n: jnp.asarray(rng.standard_normal(shape), jnp.float32) for n, shape in shapes.items()}
    seen = (
        np.asarray(jax.jit(jax.jacobian(lambda x: masked_apply(choices, params, x[None])[0]))(jnp.linspace(-1, 1, 8)))
        != 0
    )
    assert not np.triu(seen).any() and seen[np.tril_indices(8, -1)].all()


def test_canonical_correlations_and_negatives_by_hand():
    _, objective, batch = of_kind("correlation")
    rng, size = np.random.default_rng(2), objective.networks["first"][1]
    features = {n: rng.standard_normal((256, size)) for n in ("first", "second")}
    features["second"] = 0.7 * features["first"] @ rng.standard_normal((size, size)) + features["second"]
    bases = [np.linalg.qr(z - z.mean(0))[0] for z in features.values()]
    squares = np.linalg.svd(bases[0].T @ bases[1])[1] ** 2
    found = objective.loss(lambda name, _: jnp.asarray(features[name], jnp.float32), batch)
    assert float(found) == pytest.approx(1 - squares.mean(), abs=2e-3)

    choices, objective, batch = of_kind("ranking")
    scores = rng.standard_normal(batch["x"].shape[:2])
    surprise = [-sum(s[i] - np.log(np.exp(s[i:]).sum()) for i in range(len(s))) for s in scores]
    found = objective.loss(lambda _, x: jnp.asarray(scores.reshape(-1, 1), jnp.float32), batch)
    assert float(found) == pytest.approx(np.mean(surprise) / math.log(math.factorial(scores.shape[1])), rel=1e-4)


def test_views_follow_from_the_seeds():
    choices, _, batch = of_kind("nt_xent")
    first, second = two_views(choices, batch)
    again, _ = two_views(choices, {name: leaf[::-1] for name, leaf in batch.items()})
    np.testing.assert_array_equal(first, again[::-1])
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("network", ["plain", "layer_norm", "residual", "tied"])
def test_networks_by_loops(network):
    choices = choices_of(0)._replace(network=network, depth=1 if network == "tied" else 2, width=5, activation="tanh")
    shapes = shapes_of(choices, "net", 3, 3)
    rng = np.random.default_rng(3)
    p = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    x = rng.standard_normal((4, 3))
    expected = []
    for row in x:
        h = row
        for i in range(choices.depth):
            out = h @ p[f"net_w{i}"]
            if network == "layer_norm":
                out = (out - out.mean()) / np.sqrt(out.var() + 1e-5) * p[f"net_scale{i}"]
            out = np.tanh(out + p[f"net_b{i}"])
            h = h + out if network == "residual" and i == 1 else out
        last = p["net_w0"].T if network == "tied" else p["net_last_w"]
        expected.append(h @ last + p["net_last_b"])
    narrow = {name: jnp.asarray(leaf, jnp.float32) for name, leaf in p.items()}
    np.testing.assert_allclose(
        apply(choices, narrow, "net", jnp.asarray(x, jnp.float32)), expected, rtol=2e-4, atol=1e-5
    )


def test_a_family_draws_seeds_anew_only_where_it_should():
    for seed in (0, 3):
        family, choices = sampled_objective(seed), choices_of(seed)
        assert family.name == f"sampled_objective_{seed}" and family.uninformed_loss == 1 + FLOOR
        batch = family.task({}, family.data).sample_batch(jax.random.key(0), "train", (64,))
        assert ("seed" in batch) == (choices.kind == "denoising")
        if "seed" in batch:
            assert np.isin(batch["seed"], family.data["train"]["seed"]).all() != choices.fresh
    with pytest.raises(ValueError, match="seed=-1"):
        sampled_objective(-1)
