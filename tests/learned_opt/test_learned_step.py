"""Learning rate, weight decay and other optimizers around a learned step, and what its update refuses."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.local_updates import local_updates
from learned_opt.algorithms.round import evaluated_params
from learned_opt.algorithms.server import fedavg
from learned_opt.base import LearnedOptimizer
from learned_opt.learned_step import Others, learned_step, vectors_and

K = 2
NO_TRANSFORM: Any = "adamw"
PARAMS = {
    "embed": {"table": np.asarray([[0.5, -1.0, 0.1], [0.2, 0.3, -0.4]], np.float32)},
    "w": np.asarray([[0.7, 0.1, 0.0], [-0.2, 2.0, 0.4]], np.float32),
    "b": np.asarray([0.3, -0.6], np.float32),
}
LOPTS = {
    "adafac": learned_opt.adafac_mlp_lopt(hidden_size=4, step_mult=0.1),
    "lopt_a": learned_opt.lopt_a(hidden_size=4, nominal="momentum"),
    "lagg_a": learned_opt.lagg_a(num_workers=K, hidden_size=4, nominal="average"),
}


def of_optax(transform, reads: Any = "gradient"):
    """A hand-designed optimizer in the clothes of a learned one, so that optax can be the oracle."""
    return LearnedOptimizer(lambda key: {}, lambda theta, num_steps=None: transform, {"architecture": "own"}, reads)


@functools.cache
def base(name) -> Any:
    """The transform of an optimizer with a random theta."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(LOPTS[name].init, jax.random.key(0))
    return LOPTS[name].transform(jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), shapes))


def wrapped(name, **options) -> Any:
    return learned_step(LOPTS[name], base(name), **options)


def draw(seed=0, params: Any = PARAMS):
    """(mean, {"worker_updates": ...})."""
    rng = np.random.default_rng(seed)
    workers = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=(K, *p.shape)), p.dtype), params)
    return jax.tree.map(lambda w: jnp.mean(w, axis=0), workers), {"worker_updates": workers}


def run(tx: Any, num_steps=3, params: Any = PARAMS) -> Any:
    """Updates and parameters of every step."""
    state, history = tx.init(params), []
    for seed in range(num_steps):
        mean, extra = draw(seed)
        updates, state = tx.update(mean, state, params, **extra)
        params = optax.apply_updates(params, updates)
        history.append((updates, params))
    return history


def one_over(count):
    return 1 / (1 + count.astype(jnp.float32))


@pytest.mark.parametrize("name", LOPTS)
def test_without_options_it_is_the_transform_itself(name):
    tx = wrapped(name)
    chex.assert_trees_all_equal(run(tx, 1), run(base(name), 1))
    chex.assert_trees_all_equal(tx.init(PARAMS), base(name).init(PARAMS))


def test_a_learning_rate_multiplies_the_learned_step():
    tx, mean = base("adafac"), draw()[0]
    expected, _ = tx.update(mean, tx.init(PARAMS), PARAMS)
    for rate in (0.25, jnp.float32(0.25), lambda count: 0.25):
        scaled = wrapped("adafac", learning_rate=rate)
        found, _ = scaled.update(mean, scaled.init(PARAMS), PARAMS)
        chex.assert_trees_all_equal(found, jax.tree.map(lambda u: 0.25 * u, expected))


def test_a_schedule_counts_updates():
    scaled = wrapped("lopt_a", learning_rate=one_over)
    state, plain = scaled.init(PARAMS), base("lopt_a").init(PARAMS)
    for t in range(3):
        mean, extra = draw(t)
        found, state = scaled.update(mean, state, PARAMS, **extra)
        expected, plain = base("lopt_a").update(mean, plain, PARAMS)
        chex.assert_trees_all_close(found, jax.tree.map(lambda u, t=t: u / (1 + t), expected), rtol=1e-6)


def test_a_traced_rate_keeps_the_dtype_of_bfloat16_parameters():
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), PARAMS)
    mean = jax.tree.map(lambda p: jnp.ones_like(p), params)

    @jax.jit
    def step(rate):
        tx = wrapped("adafac", learning_rate=rate)
        return tx.update(mean, tx.init(params), params)[0]

    assert {leaf.dtype for leaf in jax.tree.leaves(step(jnp.float32(0.5)))} == {jnp.dtype(jnp.bfloat16)}


def test_decay_of_an_optimizer_that_does_nothing_is_a_power():
    lopt = of_optax(optax.set_to_zero())
    tx = learned_step(lopt, lopt.transform({}), learning_rate=one_over, weight_decay=0.1)
    for t, (_, params) in enumerate(run(tx)):
        factor = np.prod([1 - 0.1 / (1 + s) for s in range(t + 1)])
        chex.assert_trees_all_close(params, jax.tree.map(lambda p, f=factor: np.float32(f) * p, PARAMS), rtol=1e-6)


@pytest.mark.parametrize("mask", [None, {"embed": False, "w": True, "b": False}, lambda p: {**p, "b": False}])
@jax.numpy_dtype_promotion("standard")  # optax's Adam raises a float to an integer power
def test_decay_is_that_of_adamw(mask):
    mask = (lambda p: {"embed": True, "w": True, "b": False}) if callable(mask) else mask
    lopt = of_optax(optax.adam(1.0))
    tx = learned_step(lopt, lopt.transform({}), learning_rate=0.01, weight_decay=0.1, mask=mask)
    expected = run(optax.adamw(0.01, weight_decay=0.1, mask=mask))
    chex.assert_trees_all_close(run(tx), expected, rtol=1e-6, atol=1e-8)
    assert float(jnp.max(jnp.abs(expected[0][1]["w"] - run(optax.adam(0.01))[0][1]["w"]))) > 1e-3


@pytest.mark.parametrize("name", LOPTS)
def test_others_are_trained_apart(name):
    """Each optimizer alone, on its own tensors."""
    reads = "gradient" if LOPTS[name].reads == "gradient" else "mean"
    tx = wrapped(name, others=Others(optax.sgd(0.5, momentum=0.9), vectors_and("Embed"), reads))
    own: Any = {"w": PARAMS["w"]}
    found = [params for _, params in run(tx)]
    state = base(name).init(own)
    others = {"embed": PARAMS["embed"], "b": PARAMS["b"]}
    momentum = jax.tree.map(np.zeros_like, others)
    for t in range(3):
        mean, extra = draw(t)
        alone = {"worker_updates": {"w": extra["worker_updates"]["w"]}}
        updates, state = base(name).update({"w": mean["w"]}, state, own, **alone)
        own = optax.apply_updates(own, updates)
        momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, {k: mean[k] for k in others})
        others = jax.tree.map(lambda p, m: p - 0.5 * m, others, momentum)
        chex.assert_trees_all_equal(found[t]["w"], own["w"])
        chex.assert_trees_all_close({k: found[t][k] for k in others}, others, rtol=1e-6, atol=1e-7)


def test_rate_and_decay_are_not_those_of_the_others():
    options: Any = {"learning_rate": 0.5, "weight_decay": 0.25, "mask": lambda p: jax.tree.map(lambda x: True, p)}
    lopt = of_optax(optax.set_to_zero())
    tx: Any = learned_step(lopt, lopt.transform({}), others=Others(optax.set_to_zero()), **options)
    (_, params), *_ = run(tx)
    chex.assert_trees_all_equal(params, {**jax.tree.map(lambda p: 0.875 * p, PARAMS), "b": PARAMS["b"]})


def test_tensors_chosen_by_shape_and_by_name():
    assert vectors_and()(PARAMS) == {"embed": {"table": False}, "w": False, "b": True}
    assert vectors_and("TABLE")(PARAMS) == {"embed": {"table": True}, "w": False, "b": True}
    assert Others(optax.sgd(1.0)).tensors(PARAMS) == vectors_and()(PARAMS)


def test_others_beside_a_server_are_averaged_by_fedavg():
    """Their tensors take the workers' mean, as under Local SGD without a learned server."""
    tx = wrapped("lagg_a", others=Others(fedavg(), reads="mean"))
    updates, _ = tx.update(draw()[0], tx.init(PARAMS), PARAMS, **draw()[1])
    chex.assert_trees_all_equal(updates["b"], -draw()[0]["b"])


@pytest.mark.parametrize(("gather", "beside"), [(True, "fedavg"), (False, "fedavg"), (True, "itself")])
def test_beside_others_a_server_that_asks_the_workers_and_sets_their_rates(gather, beside):
    """Its tensors train as if they were alone: the value of the loss does not depend on b, its gradient does."""

    def train(start, server):
        workers = learned_opt.load_checkpoint("lagg_any").local_transform()
        tx: Any = local_updates(workers, server, 2, "workers", gather=gather)

        def loss(params, x):
            of_b = jnp.sum(params["b"] - jax.lax.stop_gradient(params["b"])) if "b" in params else 0.0
            return (jnp.mean((x @ params["w"]) ** 2) if "w" in params else jnp.float32(0)) + of_b

        def worker(x):
            def step(carry, x):
                params, state = carry
                value, gradient = jax.value_and_grad(loss)(params, x)
                updates, state = tx.update(gradient, state, params, value=value)
                return (optax.apply_updates(params, updates), state), None

            (_, state), _ = jax.lax.scan(step, (start, tx.init(start)), x)
            return evaluated_params(state.global_params, state.server_state)

        x = jax.random.normal(jax.random.key(0), (K, 8, 4, 2))
        return jax.jit(jax.vmap(worker, axis_name="workers"))(x)

    start = {name: jnp.asarray(PARAMS[name]) for name in ("w", "b")}
    lagg = learned_opt.load("lagg_any")
    both = optax.partition({"1": lagg, "2": lagg}, {"w": "1", "b": "2"}, mask_compatible_extra_args=True)
    one = learned_opt.load("lagg_any", others=Others(fedavg(), {"w": False, "b": True}, "mean"))
    found = train(start, one if beside == "fedavg" else both)
    alone = train({"w": start["w"]}, lagg)
    if beside == "fedavg":
        alone |= train({"b": start["b"]}, fedavg())
    chex.assert_trees_all_close({name: found[name] for name in alone}, alone, rtol=1e-5, atol=1e-6)
    assert all(np.abs(found[name][0] - start[name]).max() > 1e-3 for name in start)


@pytest.mark.parametrize("name", ["lopt_a", "lagg_a"])
def test_gradients_are_refused_by_a_server_optimizer(name):
    tx = wrapped(name)
    state, (gradient, _) = tx.init(PARAMS), draw()
    message = f"{name} reads pseudo-gradients .* not gradients: train with learned_opt.load_algorithm"
    for call in (tx.update, jax.jit(tx.update), functools.partial(tx.update, pseudo_gradient=False)):
        with pytest.raises(ValueError, match=message) as caught:
            call(gradient, state, PARAMS)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        chained = optax.chain(optax.clip(1.0), tx)
        chained.update(gradient, chained.init(PARAMS), PARAMS, value=jnp.float32(1.0))


def test_a_loop_that_says_it_has_pseudo_gradients_gets_the_step():
    server = optax.sgd(0.5, 0.9)
    tx = learned_step(of_optax(server, "mean"), server)
    state, (mean, extra) = tx.init(PARAMS), draw()
    expected, _ = server.update(mean, state, PARAMS)
    for said in (extra, {"pseudo_gradient": True}, {"pseudo_gradient": np.True_}):
        chex.assert_trees_all_equal(tx.update(mean, state, PARAMS, **said)[0], expected)
    # Traced, as under a jit of the update itself.
    found = jax.jit(lambda flag: tx.update(mean, state, PARAMS, pseudo_gradient=flag))(True)[0]
    chex.assert_trees_all_equal(found, expected)


@pytest.mark.parametrize("gather", [True, False])
def test_local_updates_feed_a_server_optimizer_as_before(gather):
    def train(server: Any) -> Any:
        tx: Any = local_updates(optax.sgd(0.1), server, 2, "workers", gather=gather)

        def worker(gradients):
            params, state = jax.tree.map(jnp.asarray, PARAMS), tx.init(PARAMS)
            for t in range(2):
                gradient = jax.tree.map(lambda g, t=t: g[t], gradients)
                updates, state = tx.update(gradient, state, params, value=jnp.float32(0))
                params = optax.apply_updates(params, updates)
            return state.global_params

        gradients = jax.tree.map(lambda *x: jnp.stack(x, axis=1), *(draw(t)[1]["worker_updates"] for t in range(2)))
        return jax.jit(jax.vmap(worker, axis_name="workers"))(gradients)

    server = optax.sgd(0.5, 0.9)
    found, expected = train(learned_step(of_optax(server, "mean"), server)), train(server)
    chex.assert_trees_all_equal(found, expected)
    assert not np.array_equal(found["w"][0], PARAMS["w"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": None}, "params is None"),
        ({"updates": {"w": PARAMS["w"]}}, "updates and params are trees of other structure"),
        ({"updates": {**PARAMS, "b": np.zeros(3, np.float32)}}, r"updates has shape \(3,\) at b, params \(2,\)"),
        ({"updates": {**PARAMS, "embed": {"table": np.zeros((3, 2))}}}, r"\(3, 2\) at embed/table, params \(2, 3\)"),
        ({"worker_updates": None}, "not gradients"),
        ({"worker_updates": None, "pseudo_gradient": True}, "lagg_a reads every worker's .* keep gather=True"),
        ({"worker_updates": {"w": PARAMS["w"]}}, "other structure than updates: .*mask_compatible_extra_args=True"),
        (
            {"worker_updates": jax.tree.map(lambda p: p[None], PARAMS)},
            r"shape \(1, 2\), expected \(2, 2\): this lagg_a is built for num_workers=2; name the axis",
        ),
        ({"state": (optax.EmptyState(),)}, "state given to lagg_a was made by another optimizer"),
        ({"state": base("lagg_a").init({"w": PARAMS["w"]})}, "state given to lagg_a was made .* for other parameters"),
    ],
)
def test_wrong_calls_are_named(change, message):
    tx = wrapped("lagg_a")
    mean, extra = draw()
    call = {"updates": mean, "state": tx.init(PARAMS), "params": PARAMS, **extra, **change}
    with pytest.raises(ValueError, match=message) as caught:
        tx.update(**call)
    assert "\n" not in str(caught.value)


def test_a_mask_of_another_structure_is_named():
    lopt = of_optax(optax.sgd(1.0))
    tx = learned_step(lopt, lopt.transform({}), weight_decay=0.1, mask={"w": True})
    with pytest.raises(
        ValueError, match="mask is a tree of other structure than params .*: give each tensor"
    ) as caught:
        tx.init(PARAMS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mask", [lambda params: 3, "w", {"embed": True, "w": np.ones((2, 3)), "b": False}])
def test_flags_that_are_none_are_named(mask):
    for options in ({"weight_decay": 0.1, "mask": mask}, {"others": Others(optax.sgd(0.1), mask)}):
        with pytest.raises(ValueError, match="has .* at (w|all of it): give each tensor True or False") as caught:
            wrapped("adafac", **options).init(PARAMS)
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("unchecked_annotations")
def test_a_decay_and_flags_may_be_of_numpy():
    lopt = of_optax(optax.set_to_zero())
    decay: Any = np.float32(0.25)
    mask = {"embed": True, "w": np.True_, "b": jnp.asarray(False)}
    tx: Any = learned_step(lopt, lopt.transform({}), weight_decay=decay, mask=mask)
    chex.assert_trees_all_equal(run(tx, 1)[0][1], {**jax.tree.map(lambda p: 0.75 * p, PARAMS), "b": PARAMS["b"]})


def test_masked_needs_masked_worker_updates_and_says_so():
    masked = optax.masked(wrapped("lagg_a"), {"embed": True, "w": True, "b": False})
    mean, extra = draw()
    with pytest.raises(ValueError, match="mask_compatible_extra_args=True"):
        masked.update(mean, masked.init(PARAMS), PARAMS, **extra)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate=-1.0: use"),
        ({"learning_rate": "fast"}, "learning_rate='fast': use"),
        ({"learning_rate": lambda count: jnp.ones(3)}, r"schedule returns an array of shape \(3,\)"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1: use a number from 0"),
        ({"weight_decay": 1.0}, "weight_decay=1.0: use"),
        ({"weight_decay": "0.1"}, "weight_decay='0.1': use"),
        ({"learning_rate": 4.0, "weight_decay": 0.5}, "takes off all of a parameter"),
        ({"mask": {"w": True}}, "mask .* use it with weight_decay"),
        ({"others": optax.sgd(0.1)}, r"others=.*: use learned_opt.Others\(optimizer, tensors\)"),
        ({"others": Others(NO_TRANSFORM)}, "others.optimizer=adamw: load it"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_arguments_that_make_no_sense_are_named(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        wrapped("adafac", **options)
    assert "\n" not in str(caught.value)


def test_others_are_fed_what_the_learned_optimizer_is_fed():
    with pytest.raises(ValueError, match="others.reads='gradient': beside lopt_a it is fed pseudo-gradients; .*fedavg"):
        wrapped("lopt_a", others=Others(optax.adamw(1e-3)))
    with pytest.raises(ValueError, match="others.reads='mean': beside adafac_mlp_lopt it is fed gradients; .*adamw"):
        wrapped("adafac", others=Others(fedavg(), reads="mean"))


@pytest.mark.parametrize(("words", "amount"), [(["b"], "no tensor"), (["embed", "w", "b"], "every tensor")])
def test_others_must_leave_something_and_take_something(words, amount):
    choose = vectors_and(*words) if amount == "every tensor" else lambda p: jax.tree.map(lambda x: False, p)
    tx = wrapped("adafac", others=Others(optax.sgd(0.1), choose))
    with pytest.raises(ValueError, match=f"others.tensors chooses {amount}"):
        tx.init(PARAMS)


def test_multi_steps_is_refused_where_it_would_mix_workers_of_one_call_with_updates_of_all():
    lopt, params = learned_opt.lagg_a(num_workers=K, hidden_size=4), {"w": jnp.ones((2, 3))}
    tx = learned_step(lopt, lopt.transform(lopt.init(jax.random.key(0))))
    workers = {"w": jnp.ones((K, 2, 3))}
    accumulating = optax.MultiSteps(tx, every_k_schedule=2)
    state = accumulating.init(params)
    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.raises(ValueError, match="use learned_opt.algorithms.accumulated"),
    ):
        jax.jit(accumulating.update)(params, state, params, worker_updates=workers)
    updates, _ = tx.update(params, tx.init(params), params, worker_updates=workers)
    chex.assert_tree_all_finite(updates)
