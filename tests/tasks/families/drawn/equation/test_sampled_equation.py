"""Differential equations drawn at random: their solutions solve them, and their losses are what they are said to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.drawn.equation.choices import BASES, EQUATIONS, LINEAR, TRIALS, choices_of, is_held_out
from tasks.families.drawn.equation.sampled_equation import sampled_equation
from tasks.families.drawn.equation.solution import draw_equation
from tasks.families.drawn.equation.trials import initial, shapes_of, trial_of
from tasks.families.drawn.equation.waves import waves_jet

SEEDS = range(35)


def test_every_kind_of_equation_meets_every_trial_function_once():
    drawn = [choices_of(seed) for seed in SEEDS]
    assert sorted((c.equation, c.trial) for c in drawn) == sorted((e, t) for e in EQUATIONS for t in TRIALS)
    for field in ("slopes", "products", "activation", "width", "depth", "basis", "bias_scale", "num_rows"):
        assert len({getattr(c, field) for c in drawn}) >= 2, field
    weights = np.array([c.weight for c in drawn])
    assert 0.3 <= weights.min() < 1 and 10 < weights.max() <= 30


def test_equations_are_not_those_of_other_suites():
    for c in map(choices_of, range(300)):
        assert (c.equation == "variational") == (not c.terms)
        names = set(c.terms)
        if c.terms:
            assert names & {"u_0", "u_1", "u_00", "u_11"} and not names <= {"u_00", "u_11"}
            assert names not in ({"u_0", "u_11"}, {"u", "u_0", "u_11"})
        assert c.trial != "matrix" or names <= set(LINEAR)
    assert is_held_out(("u_00",)) and is_held_out(("u_0", "u_11")) and not is_held_out(("u^3", "u_0", "u_11"))


@pytest.mark.parametrize("seed", range(0, 35, 3))
def test_a_seed_is_one_problem_of_a_known_size(seed):
    """The zero function has a loss of 1, as the drawn scales say; the solution's values and right-hand sides too."""
    family, again, c = sampled_equation(seed), sampled_equation(seed), choices_of(seed)
    jax.tree.map(np.testing.assert_array_equal, family.data, again.data)
    assert {len(rows["u"]) for rows in family.data.values()} == {c.num_rows, 512}
    assert {leaf.dtype.name for leaf in family.data["train"].values()} == {"float32"}
    sizes = [int(np.prod(shape)) for shape in shapes_of(c).values()]
    assert sum(sizes) <= 10_000 and len(sizes) <= 14
    assert 0.3 <= family.uninformed_loss <= 1.0001
    equation, _ = draw_equation(c, seed)
    rows = {name: leaf.astype(np.float64) for name, leaf in family.data["train"].items()}
    if c.equation == "variational":
        energy = np.sum(rows["p"] * rows["u_slopes"] ** 2, axis=1) + equation.coefficients[0, 0] * rows["u"][:, 0] ** 2
        zero = equation.interior_scale * energy.mean()
    else:
        squares = [np.sum(rows[name] ** 2, axis=1).mean() for name in ("f", "g")]
        zero = equation.interior_scale * squares[0] + equation.edge_scale * squares[1]
    assert zero == pytest.approx(1, rel=0.4)
    assert np.sqrt(np.mean(rows["u"] ** 2)) == pytest.approx(c.amplitude, rel=0.3)


def derivatives(u, points, step=1e-4):
    """Value, slopes and curvatures of u at points [n, axes], by central differences in float64."""
    units = step * np.eye(points.shape[1])
    here, around = u(points), [(u(points + unit), u(points - unit)) for unit in units]
    slopes = [(ahead - behind) / (2 * step) for ahead, behind in around]
    return here, slopes, [(ahead - 2 * here + behind) / step**2 for ahead, behind in around]


def left_hand_side(c, coefficients, u, slopes, curvatures, a):
    """By names, one output after the other."""
    total = np.zeros_like(u)
    for i in range(c.num_outputs):
        v, w, slope = u[:, i], u[:, -1 - i], slopes[-1][:, i]
        parts = {"u": v, "u^2": v**2, "u^3": v**3, "sin u": np.sin(v), "u_s^2": slope**2}
        parts |= {"other": w, "product": v * w, "sin other": np.sin(w), "a u_s": slope * (0 if a is None else a)}
        for axis in range(c.num_axes):
            parts |= {f"u_{axis}": slopes[axis][:, i], f"u_{axis}{axis}": curvatures[axis][:, i]}
        total[:, i] = sum(row[i] * parts[name] for row, name in zip(coefficients, c.terms, strict=True))
    return total


@pytest.mark.parametrize("seed", SEEDS)
def test_the_chosen_solution_solves_the_equation(seed):
    """By central differences of the waves' values, which no derivative of ours enters."""
    c = choices_of(seed)
    equation, data = draw_equation(c, seed)
    rows = {name: leaf[:20].astype(np.float64) for name, leaf in data["train"].items()}

    def solution(points):
        return waves_jet(equation.solution, points).value

    u, slopes, curvatures = derivatives(solution, rows["interior"])
    np.testing.assert_allclose(rows["u"], u, atol=1e-5)
    if c.equation == "variational":
        np.testing.assert_allclose(rows["u_slopes"], np.concatenate(slopes, axis=1), rtol=1e-4, atol=1e-4)
        assert rows["p"].min() > 0 and equation.coefficients[0, 0] > 0
        return
    expected = left_hand_side(c, equation.coefficients, u, slopes, curvatures, rows.get("a"))
    np.testing.assert_allclose(rows["f"], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    edge, edge_slopes, _ = derivatives(solution, rows["edge"])
    if c.slopes:
        along = sum(rows["direction"][:, [i]] * slope for i, slope in enumerate(edge_slopes))
        edge = rows["on_value"][:, None] * edge + along
        assert {*np.unique(rows["on_value"])} == {0, 1}
    np.testing.assert_allclose(rows["g"], edge, atol=1e-4)
    on_boundary = (rows["edge"] == 0) | (rows["edge"] == 1)
    assert on_boundary.any(axis=1).all()


@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_loss_is_that_of_the_residuals(equation):
    """By central differences of a network written out in NumPy, in float64."""
    networks = ("tanh", "sin", "residual")
    seed = next(s for s in range(200) if choices_of(s).equation == equation and choices_of(s).trial in networks)
    c, family = choices_of(seed), sampled_equation(seed)
    drawn, _ = draw_equation(c, seed)
    params = family.task({}, family.data).init(jax.random.key(1))
    plain = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
    act = {"tanh": np.tanh, "sin": np.sin}.get(c.activation, lambda x: np.asarray(jax.nn.gelu(x)))

    def u(points):
        h = c.input_scale * (2 * points - 1)
        for i in range(c.depth):
            out = act(h @ plain[f"w{i}"] + plain[f"b{i}"])
            h = h + out if c.trial == "residual" and i else out
        return h @ plain["last_w"] + plain["last_b"]

    batch = {name: jnp.asarray(leaf[:6]) for name, leaf in family.data["train"].items()}
    rows = {name: np.asarray(leaf, np.float64) for name, leaf in batch.items()}
    value, slopes, curvatures = derivatives(u, rows["interior"])
    if equation == "variational":
        errors = np.concatenate(slopes, axis=1) - rows["u_slopes"]
        energies = (rows["p"] * errors**2).sum(axis=1) + drawn.coefficients[0, 0] * (value - rows["u"])[:, 0] ** 2
        expected = drawn.interior_scale * energies.mean()
    else:
        residual = left_hand_side(c, drawn.coefficients, value, slopes, curvatures, rows.get("a")) - rows["f"]
        edge, edge_slopes, _ = derivatives(u, rows["edge"])
        if c.slopes:
            along = sum(rows["direction"][:, [i]] * slope for i, slope in enumerate(edge_slopes))
            edge = rows["on_value"][:, None] * edge + along
        squares = [np.sum(error**2, axis=1).mean() for error in (residual, edge - rows["g"])]
        expected = drawn.interior_scale * squares[0] + drawn.edge_scale * squares[1]
    metrics = jax.jit(family.task({}, family.data).metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-3)
    error = np.linalg.norm(value - rows["u"]) / np.linalg.norm(rows["u"])
    np.testing.assert_allclose(metrics["relative_l2"], error, rtol=1e-4)


@pytest.mark.parametrize("trial", TRIALS)
def test_every_trial_function_is_finite_and_a_table_alone_is_linear(trial):
    c = choices_of(TRIALS.index(trial))
    points = jnp.asarray(np.random.default_rng(0).uniform(size=(4, c.num_axes)), jnp.float32)

    @jax.jit
    def values(key):
        shapes = shapes_of(c).items()
        pair = [{n: initial(c, n, s, k) for n, s in shapes} for k in jax.random.split(key)]
        return [trial_of(c, params, points) for params in (*pair, jax.tree.map(jnp.add, *pair))]

    first, second, both = values(jax.random.key(0))
    assert first.shape == (4, c.num_outputs) and all(np.isfinite(value).all() for value in (first, second, both))
    assert np.allclose(first + second, both, atol=1e-5) == (trial == "matrix")


@pytest.mark.parametrize("kind", BASES)
def test_a_table_multiplies_the_functions_that_are_said(kind):
    """Entry by entry, against NumPy's polynomials and written-out cosines and bumps."""
    c = choices_of(1)._replace(basis=kind, basis_sizes=(5, 4), decay=1.0, num_axes=2, num_outputs=1)
    points = np.random.default_rng(1).uniform(size=(3, 2))

    def function(k, size, x):
        if kind == "cosines":
            return np.cos(np.pi * k * x) / (1 + k)
        if kind == "legendre":
            return np.polynomial.Legendre.basis(k)(2 * x - 1) / (1 + k)
        return np.exp(-0.5 * ((x - k / (size - 1)) * (size - 1)) ** 2)

    table = np.random.default_rng(2).normal(size=(5, 4))
    expected = sum(
        table[i, j] * function(i, 5, points[:, 0]) * function(j, 4, points[:, 1]) for i in range(5) for j in range(4)
    )
    found = trial_of(c, {"table0": jnp.asarray(table, jnp.float32)}, jnp.asarray(points, jnp.float32))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed=-1"):
        sampled_equation(-1)
