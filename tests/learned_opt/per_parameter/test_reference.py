"""The per-parameter optimizers against the slow NumPy reference of their definitions, feature by
feature.

Tolerances. The reference is float64, the library float32 (unit roundoff 6e-8). A normalised
channel is a quotient of sums of squares over few steps and few elements, so a few dozen
roundings: FEATURE_TOLERANCE is about 50 of them. With learned decays there is one more source: 1
- beta for beta near 0.999 is a small difference, and one unit in the last place of beta is 6e-5
of it; the channels it scales are normalised, so only part of it shows.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
import learned_opt.per_parameter.mlp
import learned_opt.per_parameter.tensor_groups
from learned_opt.base import LearnedOptimizer
from tests.learned_opt.per_parameter.slow_reference import SlowOptimizer

SHAPES = {
    "scalar": (),
    "vector": (6,),
    "vector_again": (6,),
    "wide": (5, 7),
    "tall": (7, 5),
    "tall_again": (7, 5),
    "square": (4, 4),
    "cube": (2, 4, 3),
    "filter": (3, 3, 2, 4),
}
NUM_STEPS = 6
FIRST_COUNT = 40
FEATURE_TOLERANCE = 3e-6
UPDATE_TOLERANCE = 3e-5


class Case(NamedTuple):
    """An optimizer and the tensors it is tried on; each compiles once for all tests below.

    `as_if_large` evaluates these small tensors in the ways meant for large ones: as written-out
    sums, and tensors of one shape in turn rather than together.
    """

    lopt: LearnedOptimizer
    names: tuple[str, ...]
    as_if_large: bool = False

    @property
    def num_workers(self):
        return self.lopt.config.get("num_workers", 0)


_adafac = functools.partial(learned_opt.adafac_mlp_lopt, exp_mult=0.3, step_mult=1.0)
_lopt = functools.partial(learned_opt.lopt_a, exp_mult=0.3, step_mult=1.0)
_lagg = functools.partial(learned_opt.lagg_a, exp_mult=0.3, step_mult=1.0)
CASES = {
    "adafac_4": Case(_adafac(hidden_size=4), tuple(SHAPES)),
    "adafac_4_as_if_large": Case(
        _adafac(hidden_size=4), ("wide", "tall", "tall_again", "cube", "filter"), as_if_large=True
    ),
    "lagg4_average_4_as_if_large": Case(
        _lagg(num_workers=4, hidden_size=4, nominal="average"), ("wide", "cube"), as_if_large=True
    ),
    "adafac_32": Case(_adafac(hidden_size=32), ("vector", "tall")),
    "lopt_3_layers": Case(_lopt(hidden_size=32, hidden_layers=3), ("wide",)),
    "lagg8_1_layer": Case(_lagg(num_workers=8, hidden_size=4, hidden_layers=1), ("cube",)),
    "lagg8_32": Case(_lagg(num_workers=8), ("filter",)),
    "lopt_momentum_4": Case(_lopt(hidden_size=4, nominal="momentum"), ("scalar", "tall")),
    "lagg4_average_32": Case(_lagg(num_workers=4, nominal="average"), ("tall", "tall_again")),
    "lagg4_momentum_4": Case(
        _lagg(
            num_workers=4,
            hidden_size=4,
            nominal="momentum",
            nominal_learning_rate=0.4,
            nominal_momentum=0.6,
        ),
        ("vector", "vector_again"),
    ),
}
CASES["adafac_adam_4"] = Case(_adafac(hidden_size=4, nominal="adam", nominal_learning_rate=0.05), ("tall", "vector"))
PROPORTIONAL_CASES = [
    name for name, case in CASES.items() if case.lopt.config.get("nominal", "none") in ("average", "momentum")
]


class Inputs(NamedTuple):
    """Parameters, and updates and worker updates with a leading [steps] axis."""

    params: Any
    updates: Any
    workers: Any


def draw_inputs(case: Case, seed: int = 0, zeros: bool = True) -> Inputs:
    """Updates of very different sizes; with `zeros`, some elements, rows and tensors are 0."""
    rng = np.random.default_rng(seed)

    def draw(shape, scale):
        # Log-normal sizes: every epsilon of the definition is then felt by some element
        # of some tensor.
        return scale * rng.normal(size=shape) * np.exp(rng.normal(size=shape))

    params, updates, workers = {}, {}, {}
    for name in case.names:
        shape = SHAPES[name]
        params[name] = draw(shape, 0.3)
        scales = 10.0 ** rng.uniform(-4.5, 0.5, NUM_STEPS)
        updates[name] = np.stack([draw(shape, scale) for scale in scales])
        # They do not average to `updates`, so an optimizer that mixes up the two is found out.
        workers[name] = np.stack([draw((case.num_workers, *shape), scale) for scale in scales])
    for name, where in (("vector", np.s_[:, 0]), ("wide", np.s_[:, 2]), ("tall", np.s_[:3])):
        if zeros and name in updates:
            updates[name][where] = 0
    if "filter" in updates:
        updates["filter"] *= 1e-3
    inputs = Inputs(params, updates, workers if case.num_workers else None)
    return jax.tree.map(lambda x: np.asarray(x, np.float32), inputs)


@functools.cache
def compiled_run(case_name: str) -> Callable[..., Any]:
    """(theta, inputs) -> updates of every step; the parameters stay where they are."""
    case = CASES[case_name]

    def run(theta, inputs):
        tx = case.lopt.transform(theta)
        state = optax.tree.set(tx.init(inputs.params), num_updates=jnp.int32(FIRST_COUNT))

        def step(state, given):
            updates, workers = given
            out, state = tx.update(updates, state, inputs.params, worker_updates=workers)
            return state, out

        return jax.lax.scan(step, state, (inputs.updates, inputs.workers))[1]

    def run_as_if_large(theta, inputs):
        with (
            mock.patch.object(learned_opt.per_parameter.mlp, "SMALLEST_WRITTEN_OUT", 0),
            mock.patch.object(learned_opt.per_parameter.tensor_groups, "_PARAMETERS_AT_ONCE", 1),
        ):
            return run(theta, inputs)

    return jax.jit(run_as_if_large if case.as_if_large else run)


def at_step(tree, step):
    return None if tree is None else {name: leaf[step] for name, leaf in tree.items()}


def theta_shapes(lopt):
    return jax.eval_shape(lopt.init, jax.random.key(0))


def probe_theta(lopt, row):
    """theta whose MLP returns (d, m) = (input `row`, 0): relu(x) - relu(-x) = x."""
    theta = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), theta_shapes(lopt))
    mlp = theta["mlp"]
    last = len(mlp) // 2 - 1
    mlp["w0"][row, :2] = (1, -1)
    for layer in range(1, last):
        mlp[f"w{layer}"][:2, :2] = np.eye(2)
    mlp[f"w{last}"][:2, 0] = (1, -1)
    return theta


def random_theta(lopt, seed):
    """Every weight, bias and decay offset is felt; some decays leave [0, 1] before clipping."""
    rng = np.random.default_rng(seed)
    theta = theta_shapes(lopt)
    theta["mlp"] = {
        name: np.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[0]), np.float32) for name, x in theta["mlp"].items()
    }
    theta["momentum_decays"] = np.asarray([0.25, 0.1, -0.05], np.float32)
    theta["rms_decays"] = np.asarray([0.15], np.float32)
    theta["adafactor_decays"] = np.asarray([0.3, -0.1, 0.2], np.float32)
    return theta


def reference(lopt, theta, **overrides):
    config = lopt.config
    return SlowOptimizer(
        theta=theta,
        sign=1.0 if config["architecture"] == "adafac_mlp_lopt" else -1.0,
        exp_mult=config["exp_mult"],
        step_mult=config["step_mult"],
        nominal=config.get("nominal", "none"),
        learning_rate=config.get("nominal_learning_rate", 0.7),
        momentum=config.get("nominal_momentum", 0.9),
        iteration=FIRST_COUNT,
        **overrides,
    )


@pytest.mark.parametrize("case_name", CASES)
def test_every_feature_channel(case_name):
    case = CASES[case_name]
    lopt, inputs = case.lopt, draw_inputs(case)
    num_rows = theta_shapes(lopt)["mlp"]["w0"].shape[0]
    assert num_rows == max(case.num_workers, 1) + 27 + 11
    probed = [compiled_run(case_name)(probe_theta(lopt, row), inputs) for row in range(num_rows)]
    slow = reference(lopt, probe_theta(lopt, 0))
    for step in range(NUM_STEPS):
        for name in case.names:
            given = np.asarray(inputs.updates[name][step], np.float64)
            param = np.asarray(inputs.params[name], np.float64)
            workers = None
            if inputs.workers is not None:
                workers = np.asarray(inputs.workers[name][step], np.float64)
            features, unit, anchor = slow.tensor(name, given, param, workers)
            found = np.stack([np.asarray(p[name][step], np.float64) for p in probed], axis=-1)
            found = (anchor[..., None] - found) / unit
            # In the nominal form a feature is read off a sum with the hand-made step,
            # at the cost of its roundoff.
            velocity = np.max(np.abs(anchor)) / unit
            allowed = FEATURE_TOLERANCE * (1 + np.abs(features)) + 3e-7 * velocity
            error = np.abs(found - features)
            worst = np.unravel_index(np.argmax(error - allowed), error.shape)
            assert np.all(error <= allowed), (
                f"{name}, step {step}, channel {worst[-1]} of {num_rows}: {found[worst]} is not {features[worst]}"
            )
        slow.iteration += 1


@pytest.mark.parametrize("case_name", CASES)
def test_updates_match_the_reference(case_name):
    case = CASES[case_name]
    inputs, theta = draw_inputs(case, seed=1), random_theta(case.lopt, seed=2)
    found = compiled_run(case_name)(theta, inputs)
    slow = reference(case.lopt, theta)
    for step in range(NUM_STEPS):
        expected = slow.update(at_step(inputs.updates, step), inputs.params, at_step(inputs.workers, step))
        for name, value in expected.items():
            np.testing.assert_allclose(
                np.asarray(found[name][step], np.float64),
                value,
                rtol=0,
                atol=UPDATE_TOLERANCE * np.sqrt(np.mean(value**2)),
                err_msg=f"{name}, step {step}",
            )


@pytest.mark.parametrize(
    ("lopt", "count"),
    [
        (learned_opt.adafac_mlp_lopt(hidden_size=4), 197),
        (learned_opt.lopt_a(), 2409),
        (learned_opt.lagg_a(num_workers=8), 2633),
    ],
)
def test_published_number_of_meta_parameters(lopt, count):
    theta = theta_shapes(lopt)
    assert sum(leaf.size for leaf in jax.tree.leaves(theta)) == count
    assert sorted(theta["mlp"]) == ["b0", "b1", "b2", "w0", "w1", "w2"]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(theta))


def test_initial_weights():
    published, nominal = jax.jit(
        lambda key: (
            learned_opt.adafac_mlp_lopt(hidden_size=64).init(key),
            learned_opt.lopt_a(hidden_size=64, nominal="average").init(key),
        )
    )(jax.random.key(0))
    for theta in (published, nominal):
        mlp = theta.pop("mlp")
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(theta))
        for name, weights in mlp.items():
            if name.startswith("b") or (name == "w2" and theta is nominal):
                assert not np.any(weights), name
                continue
            scale = weights.shape[0] ** -0.5
            assert np.max(np.abs(weights)) <= 2 * scale
            # A normal cut at +-2 standard deviations has 0.8796 of them; w2's 128 draws are within
            # 17% of it at 3 standard errors.
            np.testing.assert_allclose(np.std(weights), 0.8796 * scale, rtol=0.17)


@pytest.mark.optimized
@pytest.mark.parametrize("case_name", PROPORTIONAL_CASES)
def test_untrained_nominal_form_is_the_hand_made_step_to_the_last_bit(case_name):
    case = CASES[case_name]
    inputs, theta = draw_inputs(case, seed=5), random_theta(case.lopt, seed=1)
    last = len(theta["mlp"]) // 2 - 1
    for name in (f"w{last}", f"b{last}"):
        theta["mlp"][name] = np.zeros_like(theta["mlp"][name])
    found = compiled_run(case_name)(theta, inputs)
    config = case.lopt.config
    hand_made = optax.sgd(1.0)
    if config["nominal"] == "momentum":
        hand_made = optax.sgd(config["nominal_learning_rate"], config["nominal_momentum"], nesterov=True)
    state, update = hand_made.init(inputs.params), jax.jit(hand_made.update)
    for step in range(NUM_STEPS):
        expected, state = update(at_step(inputs.updates, step), state)
        for name in case.names:
            np.testing.assert_array_equal(found[name][step], expected[name])


@pytest.mark.parametrize("case_name", PROPORTIONAL_CASES)
def test_nominal_form_is_equivariant_to_the_scale_of_pseudo_gradients(case_name):
    case = CASES[case_name]
    inputs = draw_inputs(case, seed=6, zeros=False)
    theta = random_theta(case.lopt, seed=7)
    base = compiled_run(case_name)(theta, inputs)
    for scale in (1024.0, 1e-3):
        updates, workers = jax.tree.map(lambda x, scale=scale: np.float32(scale) * x, (inputs.updates, inputs.workers))
        scaled = compiled_run(case_name)(theta, Inputs(inputs.params, updates, workers))
        for name in case.names:
            expected = scale * np.asarray(base[name], np.float64)
            axes = tuple(range(1, expected.ndim))
            size = np.sqrt(np.mean(expected**2, axis=axes, keepdims=True))
            error = np.abs(np.asarray(scaled[name], np.float64) - expected)
            assert np.all(error <= UPDATE_TOLERANCE * size), name
