"""Loaded optimizers equal what one builds by hand from their parts, and name what they cannot do."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.local_updates import local_updates
from learned_opt.algorithms.round import WORKERS, simulate
from learned_opt.base import LearnedOptimizer
from learned_opt.loading import load, load_algorithm, load_local_updates

K, H = 2, 3
HALF: Any = 2.5
PARAMS = {"w": np.asarray([0.5, -1.0, 0.1], np.float32), "b": np.float32(0.2)}
KEY = jax.random.key(0)


def linear_server(factor=0.5, num_workers=None):
    """Adds -theta * factor times what it is fed (of worker 0 where it is tied to K): an optimizer to do sums by."""

    def transform(theta, num_steps=None):
        def update(updates, state, params=None, *, worker_updates=None, **extra):
            del params, extra
            fed = updates if num_workers is None else jax.tree.map(lambda w: w[0], worker_updates)
            step = 1.0 if num_steps is None else 1 / num_steps
            return jax.tree.map(lambda u: -theta["scale"] * factor * step * u, fed), state

        return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)

    reads = "mean" if num_workers is None else "workers"
    config = {"architecture": "linear_server", "factor": factor, "num_workers": num_workers}
    return LearnedOptimizer(lambda key: {"scale": jnp.ones(())}, transform, config, reads, num_workers)


def linear_gradient(factor=0.5):
    lopt = linear_server(factor)
    return lopt._replace(config={"architecture": "linear_gradient", "factor": factor}, reads="gradient")


MINE = {"linear_server": linear_server, "linear_gradient": linear_gradient}


def saved(folder, lopt, local_opt=None):
    path = folder / "mine.safetensors"
    learned_opt.save(path, lopt, lopt.init(KEY), local_opt=local_opt, architectures=MINE)
    return path


@pytest.fixture
def server(tmp_path):
    return saved(tmp_path, linear_server(), {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9})


@pytest.fixture
def gradient_reader(tmp_path):
    return saved(tmp_path, linear_gradient())


@pytest.fixture
def tied(tmp_path):
    return saved(tmp_path, linear_server(num_workers=K), {"name": "sgd", "learning_rate": 0.1})


def loss_fn(params, key, batch):
    noise = 0.1 * jax.random.normal(key, batch["y"].shape)
    return jnp.mean(jnp.square(batch["x"] @ params["w"] + params["b"] - batch["y"] - noise))


def draw(num_local_steps=H, num_workers=K, seed=0):
    rng = np.random.default_rng(seed)
    shape = (num_workers, num_local_steps, 4)
    return {"x": rng.normal(size=(*shape, 3)).astype(np.float32), "y": rng.normal(size=shape).astype(np.float32)}


def train(algorithm, num_rounds=3):
    state = algorithm.init(PARAMS)
    step = jax.jit(functools.partial(algorithm.round, loss_fn))
    for t in range(num_rounds):
        state, _ = step(state, jax.random.fold_in(KEY, t), draw(seed=t))
    return algorithm.params(state)


def sgd(rate):
    return optax.sgd(rate, momentum=0.9)


def halving(count):
    return 0.5 ** count.astype(jnp.float32)


@pytest.mark.parametrize(
    ("options", "local_opt", "server_opt"),
    [
        ({}, sgd(0.1), optax.sgd(0.5)),
        ({"learning_rate": 0.5}, sgd(0.1), optax.sgd(0.25)),
        ({"learning_rate": halving}, sgd(0.1), optax.sgd(lambda count: 0.5 * halving(count))),
        ({"local_learning_rate": 0.2}, sgd(0.2), optax.sgd(0.5)),
        ({"local_learning_rate": halving}, sgd(halving), optax.sgd(0.5)),
        ({"num_steps": 4}, sgd(0.1), optax.sgd(0.125)),
        ({"weight_decay": 0.1}, sgd(0.1), optax.chain(optax.add_decayed_weights(0.2), optax.sgd(0.5))),
        ({"others": learned_opt.Others(optax.sgd(1.0), {"w": False, "b": True}, reads="mean")}, sgd(0.1), "b averaged"),
    ],
)
def test_local_sgd_of_a_server_optimizer(server, options, local_opt, server_opt):
    if server_opt == "b averaged":
        server_opt = optax.partition({"w": optax.sgd(0.5), "b": optax.sgd(1.0)}, {"w": "w", "b": "b"})
    found = train(load_algorithm(server, K, H, architectures=MINE, **options))
    expected = train(simulate(local_sgd(local_opt, server_opt), K))
    chex.assert_trees_all_close(found, expected, rtol=1e-6, atol=1e-7)


def test_data_parallel_training_of_a_gradient_reader(gradient_reader):
    found = train(load_algorithm(gradient_reader, K, H, learning_rate=0.5, architectures=MINE))
    chex.assert_trees_all_equal(found, train(simulate(data_parallel(optax.sgd(0.25)), K)))


def test_the_shipped_generalist_runs_adam_without_momentum_on_its_workers():
    """After the first local step a worker's second moment holds the square of its gradient."""
    algorithm = load_algorithm("lopt_generalist", K, 1)
    state = jax.eval_shape(algorithm.init, PARAMS)
    assert state.worker.local_state.second_moment["w"].shape == (K, 3)
    assert learned_opt.load_checkpoint("lopt_generalist").local_opt == {"name": "adam_b1_0", "learning_rate": 0.01}


def in_own_loop(tx, num_steps, num_workers=K):
    """`global_params` after steps of a vmapped loop that has gradients alone."""
    batches = draw(num_steps, num_workers)

    def worker(batches):
        params = jax.tree.map(jnp.asarray, PARAMS)
        state = tx.init(params)
        for t in range(num_steps):
            batch = jax.tree.map(lambda x, t=t: x[t], batches)
            loss, gradient = jax.value_and_grad(loss_fn)(params, jax.random.key(t), batch)
            updates, state = tx.update(gradient, state, params, value=loss)
            params = optax.apply_updates(params, updates)
        return state.global_params

    return jax.jit(jax.vmap(worker, axis_name=WORKERS))(batches)


@pytest.mark.parametrize("gather", [True, False])
def test_local_updates_of_a_server_optimizer(server, gather):
    found = load_local_updates(
        server, H, WORKERS, learning_rate=0.5, local_learning_rate=0.2, gather=gather, architectures=MINE
    )
    expected = local_updates(sgd(0.2), optax.sgd(0.25), H, WORKERS, gather=gather)
    chex.assert_trees_all_close(in_own_loop(found, 2 * H), in_own_loop(expected, 2 * H), rtol=1e-6, atol=1e-7)


def test_local_updates_of_one_worker(server):
    found = load_local_updates(server, H, architectures=MINE)
    expected = local_updates(sgd(0.1), optax.sgd(0.5), H)
    chex.assert_trees_all_close(in_own_loop(found, H, 1), in_own_loop(expected, H, 1), rtol=1e-6)


def test_local_updates_of_a_gradient_reader_average_gradients(gradient_reader):
    tx = load_local_updates(gradient_reader, 1, WORKERS, architectures=MINE)

    def mean_first(updates, state, params=None, **extra):
        del extra
        mean = jax.tree.map(lambda g: jnp.mean(jax.lax.all_gather(g, WORKERS), axis=0), updates)
        return jax.tree.map(lambda g: -0.5 * g, mean), state._replace(global_params=params)

    found = in_own_loop(tx, 1)
    plain = optax.GradientTransformationExtraArgs(tx.init, mean_first)
    batches, params = draw(1), jax.tree.map(jnp.asarray, PARAMS)

    def worker(batches):
        batch = jax.tree.map(lambda x: x[0], batches)
        gradient = jax.grad(loss_fn)(params, jax.random.key(0), batch)
        return optax.apply_updates(params, plain.update(gradient, plain.init(params), params)[0])

    expected = jax.jit(jax.vmap(worker, axis_name=WORKERS))(batches)
    chex.assert_trees_all_close(found, expected, rtol=1e-6)


def test_load_takes_a_schedule_and_the_length_of_the_training(gradient_reader):
    tx = load(gradient_reader, learning_rate=halving, num_steps=10, architectures=MINE)
    state = tx.init(PARAMS)
    for t in range(3):
        updates, state = tx.update(PARAMS, state, PARAMS)
        chex.assert_trees_all_close(updates, jax.tree.map(lambda p, t=t: -0.05 * 0.5**t * p, PARAMS), rtol=1e-6)


MISTAKES = [
    ("server", lambda path: load_algorithm(path, 0, H, architectures=MINE), "num_workers=0: use at least 1"),
    ("server", lambda path: load_algorithm(path, K, 0, architectures=MINE), "num_local_steps=0: use at least 1"),
    ("server", lambda path: load_algorithm(path, K, HALF, architectures=MINE), "num_local_steps=2.5: use a whole"),
    ("tied", lambda path: load_algorithm(path, 4, H, architectures=MINE), "num_workers=4: .* is built for 2 workers"),
    ("server", lambda path: load_algorithm(path, K, H), "architecture='linear_server'"),
    (
        "server",
        lambda path: load_algorithm(path, K, H, local_learning_rate=-1, architectures=MINE),
        "local_learning_rate=-1: use",
    ),
    (
        "server",
        lambda path: load_local_updates(path, H, local_learning_rate=lambda c: jnp.ones(2), architectures=MINE),
        r"local_learning_rate: the schedule returns an array of shape \(2,\)",
    ),
    (
        "gradient_reader",
        lambda path: load_algorithm(path, K, H, local_learning_rate=0.1, architectures=MINE),
        "local_learning_rate: .* reads gradients and takes no local steps; use learning_rate",
    ),
    (
        "gradient_reader",
        lambda path: load_local_updates(path, 1, local_learning_rate=0.1, architectures=MINE),
        "local_learning_rate: .* reads gradients",
    ),
    (
        "gradient_reader",
        lambda path: load_local_updates(path, 4, architectures=MINE),
        "num_local_steps=4: .* reads gradients and takes none: use 1",
    ),
    ("server", lambda path: load_local_updates(path, HALF, architectures=MINE), "num_local_steps=2.5"),
    (
        "tied",
        lambda path: load_local_updates(path, H, architectures=MINE),
        "axis_name=None: .* is built for 2 workers: name the axis",
    ),
    (
        "tied",
        lambda path: load_local_updates(path, H, WORKERS, gather=False, architectures=MINE),
        "gather=False: .* reads every worker's",
    ),
]


@pytest.mark.parametrize(("kind", "call", "message"), MISTAKES)
@pytest.mark.usefixtures("unchecked_annotations")
def test_mistakes_are_named(kind, call, message, request):
    with pytest.raises(ValueError, match=message) as caught:
        call(request.getfixturevalue(kind))
    assert "\n" not in str(caught.value)


def test_a_file_without_a_recipe_says_so(tmp_path):
    path = saved(tmp_path, linear_server())
    for build in (
        lambda: load_algorithm(path, K, H, architectures=MINE),
        lambda: load_local_updates(path, H, None, architectures=MINE),
    ):
        with pytest.raises(ValueError, match="does not say what its workers run: save it with local_opt="):
            build()
    assert load(path, architectures=MINE)


@pytest.mark.parametrize(("num_workers", "num_local_steps"), [(K, 2), (3, H)])
def test_batches_of_another_shape_are_named(server, num_workers, num_local_steps):
    algorithm = load_algorithm(server, K, H, architectures=MINE)
    with pytest.raises(ValueError, match=r"expected \[workers, local steps, batch, ...\] with"):
        algorithm.round(loss_fn, algorithm.init(PARAMS), KEY, draw(num_local_steps, num_workers))


@pytest.mark.parametrize("name", ["missing", "lopt_generalis"])
def test_an_unknown_name_is_not_found(name):
    for build in (load, lambda n: load_algorithm(n, K, H), lambda n: load_local_updates(n, H)):
        with pytest.raises(FileNotFoundError, match="neither a file nor a pretrained optimizer"):
            build(name)
