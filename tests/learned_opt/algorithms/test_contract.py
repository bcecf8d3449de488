"""What every algorithm promises, checked for each: one line in `ALGORITHMS_UNDER_TEST` brings one under all tests.

Bits are compared under losses whose gradient is made of sums alone, so that no layout of the workers gives the compiler
a product to round away or a sum to reorder: equal bits are then the algorithm's own doing.
"""

import functools
import importlib
import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import learned_opt
from learned_opt.algorithm_table import (
    ALGORITHMS,
    AROUND,
    SERVERS,
    coded_data_parallel,
    consensus_control,
    consensus_steps,
    data_parallel,
    diff2,
    diloco_adamw,
    dpsgd,
    feddyn,
    fedprox,
    fedspeed,
    fzoos,
    gpa,
    greedy_fragments,
    local_sgd,
    local_sgd_without_late_workers,
    lookahead,
    loss_weighted_averaging,
    muloco,
    noloco,
    norm_test,
    palsgd,
    post_local_sgd,
    qg_adam,
    qg_dsgdm,
    qsr,
    quantized_diloco,
    scaffold,
    sequential_coded_data_parallel,
    snoo,
    sparse_loco,
    streaming_diloco,
    synchronous,
    table_text,
)
from learned_opt.algorithms.gossip.topology import ring
from learned_opt.algorithms.round_cost import round_cost
from learned_opt.algorithms.stragglers.gilbert_elliott import GilbertElliott
from learned_opt.algorithms.stragglers.gradient_coding import fractional_repetition
from learned_opt.algorithms.worker_mesh import make_worker_mesh
from learned_opt.base import RoundInfo, RoundState

NUM_WORKERS = 8
NUM_LOCAL_STEPS = 3
KEY = jax.random.key(0)
PLAIN = {"matrix": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "scalar": jnp.float32(0.5)}
ODD = PLAIN | {
    "kernel": jnp.linspace(-0.5, 0.5, 24).reshape(2, 2, 3, 2),
    "empty": jnp.zeros((0, 3)),
    "half": jnp.linspace(-1.0, 1.0, 5).astype(jnp.bfloat16),
    "frozen": None,
}

RING = ring(NUM_WORKERS)
OFTEN = GilbertElliott(0.3, 0.7)

ALGORITHMS_UNDER_TEST = {
    "local_sgd": lambda rate: local_sgd(optax.sgd(rate, 0.9), optax.sgd(0.7, 0.9, nesterov=True)),
    "post_local_sgd": lambda rate: post_local_sgd(optax.sgd(rate, 0.9), 1),
    "diloco_adamw": lambda rate: diloco_adamw(100, rate, warmup_steps=2),
    "muloco": muloco,
    "sparse_loco": lambda rate: sparse_loco(optax.sgd(rate, 0.9), k=2, chunk_size=8),
    "quantized_diloco": lambda rate: quantized_diloco(optax.sgd(rate, 0.9), 2),
    "fedprox": lambda rate: fedprox(optax.sgd(rate, 0.9)),
    "scaffold": lambda rate: scaffold(optax.sgd(rate, 0.9)),
    "feddyn": lambda rate: feddyn(optax.sgd(rate, 0.9)),
    "fedspeed": lambda rate: fedspeed(optax.sgd(rate, 0.9)),
    "palsgd": lambda rate: palsgd(lambda scaled: optax.sgd(scaled, 0.9), rate, probability=0.25),
    "qsr": lambda rate: qsr(optax.sgd(rate, 0.9), lambda step: rate / (1.0 + step.astype(jnp.float32)), 0.1, 1),
    "norm_test": lambda rate: norm_test(optax.sgd(rate, 0.9)),
    "consensus_steps": lambda rate: consensus_steps(optax.sgd(rate, 0.9)),
    "streaming_diloco": lambda rate: streaming_diloco(optax.sgd(rate, 0.9), 2, num_delay_steps=1, alpha=0.5),
    "greedy_fragments": lambda rate: greedy_fragments(optax.sgd(rate, 0.9), 2),
    "loss_weighted_averaging": lambda rate: loss_weighted_averaging(optax.sgd(rate, 0.9)),
    "local_sgd_without_late_workers": lambda rate: local_sgd_without_late_workers(optax.sgd(rate, 0.9), None, OFTEN),
    "coded_data_parallel": lambda rate: coded_data_parallel(optax.sgd(rate, 0.9), fractional_repetition(8, 1), OFTEN),
    "sequential_coded_data_parallel": lambda rate: sequential_coded_data_parallel(
        optax.sgd(rate, 0.9), fractional_repetition(8, 1), 1, OFTEN
    ),
    "diff2": lambda rate: diff2(optax.sgd(rate, 0.9), 2),
    "fzoos": lambda rate: fzoos(optax.sgd(rate, 0.9), num_features=20, num_points=6, num_around=1),
    "dpsgd": lambda rate: dpsgd(optax.sgd(rate, 0.9), RING),
    "qg_dsgdm": lambda rate: qg_dsgdm(rate, RING),
    "qg_adam": lambda rate: qg_adam(rate, RING),
    "consensus_control": lambda rate: consensus_control(optax.sgd(rate, 0.9), RING, 0.5, max_communications=3),
    "noloco": lambda rate: noloco(optax.sgd(rate, 0.9)),
    "data_parallel": lambda rate: data_parallel(optax.sgd(rate, 0.9)),
    "synchronous": lambda rate: synchronous(optax.sgd(rate, 0.9), NUM_LOCAL_STEPS),
    "lookahead": lambda rate: lookahead(optax.sgd(rate, 0.9), NUM_LOCAL_STEPS),
    "snoo": lambda rate: snoo(optax.sgd(rate, 0.9), NUM_LOCAL_STEPS),
    "gpa": lambda rate: gpa(optax.sgd(rate, 0.9), NUM_LOCAL_STEPS),
}
"""Name -> local learning rate -> algorithm."""
NOT_BITWISE = {"post_local_sgd", "palsgd", "diloco_adamw", "quantized_diloco", "qg_adam", "noloco"}
"""Those with roots, powers or sums of their own, which the compiler takes apart in other ways for one worker than for
many at once: equal to rounding only."""

COUNT_LOSSES = {"loss_weighted_averaging", "fzoos"}
"""Those that reckon with the losses themselves, which huge gradients make infinite within a round."""


def quadratic_loss(params, key, batch):
    """Around a target that batch and key draw; the key shows a stream that depends on the layout."""
    target = functools.reduce(jnp.add, list(batch)) + 0.125 * jax.random.uniform(key)
    return functools.reduce(jnp.add, [0.5 * jnp.sum(jnp.square(leaf - target)) for leaf in jax.tree.leaves(params)])


def linear_loss(params, key, batch):
    """Its gradient is the sum of the batch in every element: zero, tiny, huge or not a number at will."""
    del key
    slope = functools.reduce(jnp.add, list(batch))
    return slope * sum(jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(params))


def draw_batches(seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(NUM_WORKERS, NUM_LOCAL_STEPS, 2)), jnp.float32)


def run(algorithm, params, num_rounds=2):
    """States and infos of every round, from one compiled round."""
    one_round = jax.jit(functools.partial(algorithm.round, quadratic_loss))
    state, history = algorithm.init(params), []
    for t in range(num_rounds):
        state, info = one_round(state, jax.random.fold_in(KEY, t), draw_batches(t))
        history.append((state, info))
    return history, algorithm.params(state)


def on_user_axis(algorithm):
    """The algorithm in a shard_map of the user's own over an axis "workers", one worker a device."""
    split: Any = PartitionSpec("workers")
    replicated: Any = PartitionSpec()

    def round_fn(loss_fn, state, key, batches):
        def on_device(state, key, batches):
            shared, worker = state
            state = RoundState(shared, jax.tree.map(lambda x: x[0], worker))
            (shared, worker), info = algorithm.round(loss_fn, state, key, batches[0])
            worker, losses = jax.tree.map(lambda x: x[None], (worker, info.losses))
            return RoundState(shared, worker), RoundInfo(losses, info.diagnostics)

        return jax.shard_map(
            on_device,
            mesh=make_worker_mesh(NUM_WORKERS),
            in_specs=(RoundState(replicated, split), replicated, split),
            out_specs=(RoundState(replicated, split), RoundInfo(split, replicated)),
            check_vma=False,
        )(state, key, batches)

    return learned_opt.simulate(algorithm, NUM_WORKERS)._replace(round=round_fn)


def assert_same(found, expected, bits=True):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if bits:
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
        else:
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6)


@functools.cache
def simulated(name):
    """History of the algorithm with all workers vmapped."""
    with jax.numpy_dtype_promotion("standard"):
        return run(learned_opt.simulate(ALGORITHMS_UNDER_TEST[name](0.1), NUM_WORKERS), PLAIN)


@functools.cache
def compiled_on_odd_leaves(name):
    """On a tree with every kind of leaf: the algorithm, its jitted round, and the count of traces."""
    algorithm = learned_opt.simulate(ALGORITHMS_UNDER_TEST[name](0.1), NUM_WORKERS)
    traces = []

    def one_round(state, key, batches):
        traces.append(1)
        return algorithm.round(linear_loss, state, key, batches)

    return algorithm, jax.jit(one_round), traces


def odd_round(name, state, seed, batches=None):
    _, one_round, _ = compiled_on_odd_leaves(name)
    batches = draw_batches(seed) if batches is None else batches
    with jax.numpy_dtype_promotion("standard"):
        return one_round(state, jax.random.fold_in(KEY, seed), batches)


@pytest.fixture(params=ALGORITHMS_UNDER_TEST)
def name(request):
    return request.param


SLOW = pytest.mark.slow


@pytest.mark.parametrize("layout", [*(pytest.param(devices, marks=SLOW) for devices in (1, 4, 8)), 2, "user"])
@pytest.mark.optimized
def test_every_layout_of_the_workers_gives_the_same(name, layout):
    if name == "fzoos":
        pytest.skip("it divides differences of losses by a small radius, which makes much of a last bit")
    algorithm = ALGORITHMS_UNDER_TEST[name](0.1)
    if layout == "user":
        laid_out = on_user_axis(algorithm)
    else:
        laid_out = learned_opt.spread(algorithm, NUM_WORKERS, make_worker_mesh(layout))
    with jax.numpy_dtype_promotion("standard"):
        found = run(laid_out, PLAIN)
    assert_same(found, simulated(name), bits=name not in NOT_BITWISE)


def test_state_keeps_its_types_and_one_compilation_serves_all_rounds(name):
    algorithm, _, traces = compiled_on_odd_leaves(name)
    state = algorithm.init(ODD)
    types = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    for t in range(3):
        state, info = odd_round(name, state, t)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == types
    assert len(traces) == 1
    assert info.losses.shape == (NUM_WORKERS, NUM_LOCAL_STEPS)
    assert all(jnp.shape(value) == () for value in info.diagnostics.values())
    found, expected = algorithm.params(state), ODD
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)


def test_rounds_can_be_scanned(name):
    algorithm, _, _ = compiled_on_odd_leaves(name)

    def rounds(state, batches):
        return jax.lax.scan(lambda state, batch: algorithm.round(linear_loss, state, KEY, batch), state, batches)

    with jax.numpy_dtype_promotion("standard"):
        batches = jnp.stack([draw_batches(t) for t in range(2)])
        state, infos = jax.eval_shape(rounds, algorithm.init(ODD), batches)
    assert infos.losses.shape == (2, NUM_WORKERS, NUM_LOCAL_STEPS)


def test_a_state_that_was_saved_goes_on_to_the_bit(name):
    algorithm, _, _ = compiled_on_odd_leaves(name)
    state, _ = odd_round(name, algorithm.init(ODD), 0)
    leaves, structure = jax.tree.flatten(state)
    file = io.BytesIO()
    # bfloat16 is no NumPy type: its bits are saved.
    bits = [np.asarray(x).view(np.uint16) if x.dtype == jnp.bfloat16 else np.asarray(x) for x in leaves]
    np.savez(file, *bits)
    file.seek(0)
    saved = np.load(file, allow_pickle=False).values()
    restored = [
        jnp.asarray(x.view(jnp.bfloat16) if y.dtype == jnp.bfloat16 else x) for x, y in zip(saved, leaves, strict=True)
    ]
    assert_same(odd_round(name, jax.tree.unflatten(structure, restored), 1), odd_round(name, state, 1))


@pytest.mark.parametrize("size", [0.0, 1e-30])
def test_zero_and_tiny_gradients_leave_finite_parameters(name, size):
    algorithm, _, _ = compiled_on_odd_leaves(name)
    state = algorithm.init(ODD)
    for t in range(3):
        batches = jnp.full((NUM_WORKERS, NUM_LOCAL_STEPS, 2), size / 2, jnp.float32)
        state, _ = odd_round(name, state, t, batches)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state))


def test_huge_gradients_of_a_round_leave_finite_parameters(name):
    """Adam's moments overflow and are no longer finite; parameters are, for one round."""
    algorithm, _, _ = compiled_on_odd_leaves(name)
    state, _ = odd_round(name, algorithm.init(ODD), 0, jnp.full((NUM_WORKERS, NUM_LOCAL_STEPS, 2), 5e29, jnp.float32))
    is_finite = all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(algorithm.params(state)))
    assert is_finite == (name not in COUNT_LOSSES)


def test_what_is_not_a_number_on_one_worker_is_not_hidden(name):
    """No algorithm skips it: a server that does, such as auto_diloco, is one's own choice."""
    algorithm, _, _ = compiled_on_odd_leaves(name)
    state, _ = odd_round(name, algorithm.init(ODD), 0, draw_batches(0).at[2, 0, 0].set(jnp.nan))
    assert any(jnp.any(jnp.isnan(leaf)) for leaf in jax.tree.leaves(state))


def test_learning_rates_may_be_traced(name):
    def one_round(rate):
        algorithm = learned_opt.simulate(ALGORITHMS_UNDER_TEST[name](rate), NUM_WORKERS)
        return algorithm.round(quadratic_loss, algorithm.init(PLAIN), KEY, draw_batches(0))

    with jax.numpy_dtype_promotion("standard"):
        jax.eval_shape(jax.vmap(one_round), jnp.float32([0.1, 0.2]))


def test_bytes_are_whole_numbers_and_grow_with_the_parameters(name):
    algorithm = ALGORITHMS_UNDER_TEST[name](0.1)
    small, large = algorithm.bytes_sent(PLAIN), algorithm.bytes_sent(ODD)
    assert type(small) is int and type(large) is int
    assert 0 < small < large
    cost = round_cost(algorithm, ODD, NUM_WORKERS, NUM_LOCAL_STEPS)
    assert type(cost.bytes_received) is int and type(cost.peak_bytes) is int
    assert cost.bytes_received > 0 and 0 < cost.peak_bytes <= 2 * cost.bytes_sent
    assert cost.gradients >= 0 and cost.state_bytes_per_parameter >= 0


def test_every_algorithm_of_the_table_is_under_test():
    assert set(ALGORITHMS) == set(ALGORITHMS_UNDER_TEST)


def test_the_table_as_text_has_a_line_for_each():
    first, *lines = [line.split() for line in table_text().splitlines() if line]
    names = ["algorithms", *ALGORITHMS, "server", *SERVERS, "around", *AROUND]
    assert [line[0] for line in lines] == names and "import" in first
    for name, entry in [*ALGORITHMS.items(), *SERVERS.items(), *AROUND.items()]:
        assert entry.use in table_text()
        (module,) = (line[1] for line in lines if line[0] == name and line[1] not in ("optimizers", "them"))
        assert getattr(importlib.import_module(f"learned_opt.algorithms.{module}"), name) is entry.function
