"""What every learned optimizer promises as an optax transform, whatever its architecture.

Values are compared with plain calls of `update`, one operation at a time: the wrappers around it
must not change them.
"""

import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.architectures import from_config

NUM_WORKERS = 2
BUILDERS = {"adafac_mlp_lopt": functools.partial(learned_opt.adafac_mlp_lopt, hidden_size=4)}
BUILDERS["adafac_mlp_lopt_adam"] = functools.partial(learned_opt.adafac_mlp_lopt, hidden_size=4, nominal="adam")
for _nominal in ("none", "average", "momentum"):
    BUILDERS[f"lopt_a_{_nominal}"] = functools.partial(learned_opt.lopt_a, hidden_size=4, nominal=_nominal)
    BUILDERS[f"lagg_a_{_nominal}"] = functools.partial(
        learned_opt.lagg_a, num_workers=NUM_WORKERS, hidden_size=4, nominal=_nominal
    )


def told(lopt, scale=None):
    """An optimizer that may read more than gradients: it is told the length of the training, a loss where a test gives
    none, and multipliers. `scale` multiplies its updates."""

    def transform(theta, num_steps=10):
        tx = lopt.transform(theta, num_steps)
        if scale is not None:
            tx = optax.chain(tx, optax.scale(scale))

        def update(updates, state, params=None, **extra):
            # Another one in every update: what VeLO makes of a loss that stands still is a ratio of roundings.
            size = sum(jnp.sum(jnp.abs(x.astype(jnp.float32))) for x in jax.tree.leaves(updates))
            assumed = {"value": jnp.float32(1) + size / (1 + size), "multipliers": jax.tree.map(lambda _: 0.5, updates)}
            return tx.update(updates, state, params, **{**assumed, **extra})

        return optax.GradientTransformationExtraArgs(tx.init, update)

    return lopt._replace(transform=transform)


def _builder(build, rate=None, **sizes):
    """`rate` is the argument that multiplies the step; None: it has none."""

    def make(step_mult=None):
        if step_mult is None or rate is None:
            return told(build(**sizes), step_mult)
        return told(build(**sizes, **{rate: step_mult}))

    return make


def _mup(step_mult=1e-3):
    return learned_opt.mup(learned_opt.adafac_mlp_lopt(hidden_size=4, step_mult=step_mult), clip_norm=1.0)


def _as_server(learning_rate=1e-3):
    return learned_opt.as_server(learned_opt.celo2(learning_rate=learning_rate))


BUILDERS |= {
    "learnable_sgd": _builder(learned_opt.learnable_sgd),
    "learnable_sgdm": _builder(learned_opt.learnable_sgdm),
    "learnable_adam": _builder(learned_opt.learnable_adam),
    "mlp_lopt": _builder(learned_opt.mlp_lopt, "step_mult", hidden_size=4),
    "nn_adam": _builder(learned_opt.nn_adam, lstm_hidden_size=4),
    "rnn_mlp_lopt": _builder(learned_opt.rnn_mlp_lopt, "step_mult", lstm_hidden_size=4, hidden_size=4),
    "hyper_v2": _builder(learned_opt.hyper_v2, "step_mult", lstm_hidden_size=4, num_mlps=3),
    "celo": _builder(learned_opt.celo, "step_mult", lstm_hidden_size=4, num_mlps=3),
    "celo_adam": _builder(learned_opt.celo_adam, "step_mult", lstm_hidden_size=4),
    "celo2_base": _builder(learned_opt.celo2_base, "learning_rate"),
    "celo2": _builder(learned_opt.celo2, "learning_rate", adam_paths="^b", weight_decay=0.1),
    "mup": _builder(_mup, "step_mult"),
    "as_server": _builder(_as_server, "learning_rate"),
}
# One optimizer of each kind, for the contracts that need a compilation of their own.
FEW = ["adafac_mlp_lopt", "lagg_a_momentum", "hyper_v2"]
# One shape only: a further one costs every operation another compilation. test_reference has more.
PARAMS = {
    "w": np.asarray([[0.5, -1.0, 0.1], [0.2, 0.3, -0.4]], np.float32),
    "b": np.asarray([[0.7, 0.1, 0.0], [-0.2, 2.0, 0.4]], np.float32),
}


@functools.cache
def random_theta(name, seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(BUILDERS[name]().init, jax.random.key(0))
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / np.sqrt(sum(x.shape[:1]) + 3), x.dtype), shapes
    )


def draw(params=PARAMS, seed=0, scale=1.0, dtype=None):
    """(updates, {"worker_updates": ...}) for one step; the workers average to the updates."""
    rng = np.random.default_rng(seed)
    workers = jax.tree.map(
        lambda p: jnp.asarray(scale * rng.normal(size=(NUM_WORKERS, *np.shape(p))), dtype or np.asarray(p).dtype),
        params,
    )
    return jax.tree.map(lambda w: jnp.mean(w, axis=0), workers), {"worker_updates": workers}


def transform(name, seed=0, **options):
    return BUILDERS[name](**options).transform(random_theta(name, seed))


def run(tx, steps, params=PARAMS):
    """Updates of every step; the parameters stay where they are."""
    state, out = tx.init(params), []
    for updates, extra in steps:
        step, state = tx.update(updates, state, params, **extra)
        out.append(step)
    return out


def assert_close(found, expected):
    # Fusion reorders a few float32 operations of sums of a few dozen terms of order one.
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5 * size(expected))


def size(tree):
    return float(optax.tree.norm(jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)))


every = pytest.mark.parametrize("name", BUILDERS)
few = pytest.mark.parametrize("name", FEW)


@every
def test_config_rebuilds_the_optimizer(name):
    lopt = BUILDERS[name]()
    rebuilt = told(from_config(json.loads(json.dumps(lopt.config))))
    assert rebuilt.config == lopt.config
    theta = random_theta(name)
    assert jax.tree.structure(theta) == jax.tree.structure(jax.eval_shape(rebuilt.init, jax.random.key(0)))
    steps = [draw()]
    chex.assert_trees_all_equal(run(rebuilt.transform(theta), steps), run(lopt.transform(theta), steps))


@every
def test_state_keeps_its_form(name):
    tx = transform(name)
    updates, extra = draw()
    state = tx.init(PARAMS)
    out, new_state = jax.eval_shape(lambda state: tx.update(updates, state, PARAMS, **extra), state)
    chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(out, PARAMS)


def test_untrained_form_beside_adam_is_adam_to_the_last_bit():
    lopt = learned_opt.adafac_mlp_lopt(hidden_size=4, nominal="adam", nominal_learning_rate=0.02)
    steps = [draw(seed=seed, scale=10.0**-seed) for seed in range(3)]
    found = run(lopt.transform(lopt.init(jax.random.key(0))), steps)
    with jax.numpy_dtype_promotion("standard"):
        expected = run(optax.adam(0.02), [(updates, {}) for updates, _ in steps])
    chex.assert_trees_all_equal(found, expected)


@few
def test_jit_compiles_once(name):
    tx = transform(name)
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(tx.update, n=1))
    state = tx.init(PARAMS)
    steps = [draw(seed=seed) for seed in range(3)]
    for (updates, extra), expected in zip(steps, run(tx, steps), strict=True):
        found, state = update(updates, state, PARAMS, **extra)
        assert_close(found, expected)


@few
def test_scan_under_vmap_over_theta_and_params(name):
    steps = [draw(seed=seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *steps)
    thetas = jax.tree.map(lambda *x: jnp.stack(x), random_theta(name), random_theta(name, seed=1))
    params = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), PARAMS)

    @jax.jit
    @jax.vmap
    def train(theta, params):
        tx = BUILDERS[name]().transform(theta)

        def step(state, given):
            updates, extra = given
            out, state = tx.update(updates, state, params, **extra)
            return state, out

        return jax.lax.scan(step, tx.init(params), stacked)[1]

    found = train(thetas, params)
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: x[i], params)
        expected = run(transform(name, seed=i), steps, one)
        for t, step in enumerate(expected):
            assert_close(jax.tree.map(lambda x, i=i, t=t: x[i, t], found), step)


@every
def test_chain_passes_worker_updates(name):
    tx = transform(name)
    steps = [draw(seed=seed) for seed in range(2)]
    halved = run(optax.chain(tx, optax.scale(0.5)), steps)
    chex.assert_trees_all_equal(halved, jax.tree.map(lambda x: 0.5 * x, run(tx, steps)))


@few
def test_multi_steps(name):
    tx = transform(name)
    steps = [draw(seed=seed) for seed in (0, 0, 1, 1)]
    # MultiSteps itself divides float32 sums by an int32 count.
    with jax.numpy_dtype_promotion("standard"):
        accumulating = optax.MultiSteps(tx, every_k_schedule=2).gradient_transformation()
        accumulating = accumulating._replace(update=jax.jit(accumulating.update))
        found = run(accumulating, steps)
    expected = run(tx, steps[::2])
    for t in range(2):
        assert size(found[2 * t]) == 0
        assert_close(found[2 * t + 1], expected[t])


@every
def test_masked(name):
    tx = transform(name)
    masked = optax.masked(tx, {"w": True, "b": False}, mask_compatible_extra_args=True)
    updates, extra = draw()
    (found,) = run(masked, [(updates, extra)])
    chex.assert_trees_all_equal(found["b"], updates["b"])
    alone = {"worker_updates": {"w": extra["worker_updates"]["w"]}}
    (expected,) = run(tx, [({"w": updates["w"]}, alone)], {"w": PARAMS["w"]})
    chex.assert_trees_all_equal(found["w"], expected["w"])


@every
def test_inject_hyperparams(name):
    def factory(step_mult):
        return transform(name, step_mult=step_mult)

    tx = optax.inject_hyperparams(factory)(step_mult=0.5)
    state, (updates, extra) = tx.init(PARAMS), draw()
    for step_mult in (0.5, 2.0):
        state = optax.tree.set(state, step_mult=jnp.float32(step_mult))
        found, _ = tx.update(updates, state, PARAMS, **extra)
        (expected,) = run(factory(step_mult), [(updates, extra)])
        assert_close(found, expected)
    jax.eval_shape(lambda state: tx.update(updates, state, PARAMS, **extra), state)


@every
@pytest.mark.parametrize("gradient_dtype", [jnp.bfloat16, jnp.float32])
def test_bfloat16_parameters(name, gradient_dtype):
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), PARAMS)
    tx = transform(name)
    updates, extra = draw(dtype=gradient_dtype)
    state = tx.init(params)
    found, new_state = tx.update(updates, state, params, **extra)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(found))
    for leaf in jax.tree.leaves((state, new_state)):
        # Those of the hand-made step too.
        assert leaf.dtype == jnp.float32 or jnp.ndim(leaf) == 0 and jnp.issubdtype(leaf.dtype, jnp.integer)
    widened = jax.tree.map(lambda x: x.astype(jnp.float32), (params, updates, extra))
    (expected,) = run(tx, [(widened[1], widened[2])], widened[0])
    # One rounding of the step, and one or two of the hand-made part, to 8 bits.
    chex.assert_trees_all_close(
        jax.tree.map(lambda x: x.astype(jnp.float32), found),
        expected,
        rtol=2**-7,
        atol=2**-7 * size(expected),
    )


@every
def test_empty_and_none_leaves_change_nothing(name):
    tx = transform(name)
    odd = {
        **PARAMS,
        "none": None,
        "empty": np.zeros((0,), np.float32),
        "no_rows": np.zeros((0, 3), np.float32),
        "nested": (np.zeros((3, 0, 2), np.float32), None),
    }
    updates, extra = draw()
    (expected,) = run(tx, [(updates, extra)])
    odd_updates, odd_extra = draw(odd)
    odd_updates.update(updates)
    odd_extra["worker_updates"].update(extra["worker_updates"])
    (found,) = run(tx, [(odd_updates, odd_extra)], odd)
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, odd)
    assert found["none"] is None
    chex.assert_trees_all_equal({key: found[key] for key in PARAMS}, expected)


@every
def test_a_tree_without_leaves(name):
    tx = transform(name)
    found, _ = tx.update({}, tx.init({}), {}, worker_updates={})
    assert found == {}


@every
def test_unknown_extra_arguments_are_accepted(name):
    tx = transform(name)
    updates, extra = draw()
    out, _ = jax.eval_shape(
        lambda: tx.update(updates, tx.init(PARAMS), PARAMS, **extra, value=jnp.float32(1), grad=updates)
    )
    assert jax.tree.structure(out) == jax.tree.structure(PARAMS)


@every
@pytest.mark.parametrize("scales", [(0, 0, 0), (1e-38, 1e-30, 1e-20), (1e20, 1e30, 0), (1e30, 1e-30, 1)])
def test_odd_gradient_sizes_stay_finite(name, scales):
    tx = transform(name)
    state = tx.init(PARAMS)
    for seed, scale in enumerate(scales):
        updates, extra = draw(seed=seed, scale=scale)
        found, state = tx.update(updates, state, PARAMS, **extra)
        chex.assert_tree_all_finite((found, state))


@every
def test_missing_params_are_an_error(name):
    tx = transform(name)
    updates, extra = draw()
    with pytest.raises(ValueError, match="params"):
        tx.update(updates, tx.init(PARAMS), **extra)


@few
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"updates": {"w": PARAMS["w"]}}, "updates and params are trees of other structure"),
        ({"updates": {**PARAMS, "b": PARAMS["b"].T}}, r"updates has shape \(3, 2\) at b, params \(2, 3\)"),
        ({"state": optax.sgd(0.1, momentum=0.9).init(PARAMS)}, "state .* was made by another optimizer"),
        ({"state": "of other parameters"}, "state .* was made by another optimizer or for other parameters"),
    ],
)
def test_wrong_trees_and_states_are_named(name, change, message):
    tx = transform(name)
    updates, extra = draw()
    call = {"updates": updates, "state": tx.init(PARAMS), "params": PARAMS, **extra, **change}
    if call["state"] == "of other parameters":
        call["state"] = tx.init({"w": np.zeros((3, 2), np.float32)})
    with pytest.raises(ValueError, match=message) as caught:
        tx.update(**call)
    assert "\n" not in str(caught.value)


def test_masked_lagg_says_how_to_mask_worker_updates():
    masked = optax.masked(transform("lagg_a_none"), {"w": True, "b": False})
    updates, extra = draw()
    with pytest.raises(ValueError, match="mask_compatible_extra_args=True") as caught:
        masked.update(updates, masked.init(PARAMS), PARAMS, **extra)
    assert "\n" not in str(caught.value)


def test_lagg_without_worker_updates_is_an_error():
    tx = transform("lagg_a_none")
    updates, _ = draw()
    with pytest.raises(ValueError, match=r"worker_updates.*num_workers=2"):
        tx.update(updates, tx.init(PARAMS), PARAMS)


def test_lagg_with_another_number_of_workers_is_an_error():
    tx = transform("lagg_a_average")
    updates, extra = draw()
    three = jax.tree.map(lambda w: jnp.concatenate([w, w[:1]]), extra["worker_updates"])
    with pytest.raises(ValueError, match=r"3.*num_workers=2"):
        tx.update(updates, tx.init(PARAMS), PARAMS, worker_updates=three)
    without_axis = jax.tree.map(lambda w: w[0], extra["worker_updates"])
    with pytest.raises(ValueError, match="num_workers=2"):
        tx.update(updates, tx.init(PARAMS), PARAMS, worker_updates=without_axis)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: learned_opt.lagg_a(num_workers=0), "num_workers=0"),
        (lambda: learned_opt.lopt_a(nominal="mean"), "nominal='mean'"),
        (lambda: learned_opt.adafac_mlp_lopt(nominal="momentum"), "nominal='momentum'"),
        (lambda: learned_opt.lopt_a(hidden_size=0), "hidden_size=0"),
        (lambda: learned_opt.adafac_mlp_lopt(hidden_layers=0), "hidden_layers=0"),
        (lambda: from_config({"architecture": "lagg_b"}), "lagg_b"),
        (lambda: from_config({"architecture": "lopt_a", "width": 3}), "width"),
    ],
)
def test_odd_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
