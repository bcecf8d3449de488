"""LAgg-Set: its anchor before training, and the symmetries that one theta for any round needs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.auto_diloco import KAPPA, NO_COSINE, TAU, auto_diloco
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.round import local_rates, simulate
from learned_opt.architectures import from_config
from learned_opt.architectures.lagg_set import BOUNDS, LARGEST_OFFSET, lagg_set
from learned_opt.per_parameter.round_features import (
    MOST_AGREEMENT,
    NUM_FEATURES,
    WITHIN_DECAY,
    Reading,
    TensorSums,
    round_features,
    running_within,
    tensor_cosines,
    tensor_sums,
)

PARAMS = {
    "w": np.asarray([[0.5, -1.0], [0.1, 2.0], [0.3, 0.4]], np.float32),
    "b": np.asarray([0.2, -0.1], np.float32),
    "scale": np.float32(0.7),
}
SIZES = [(0, 0), (6, 0), (6, 4), (0, 4)]


def trained(lopt, size=0.5, seed=0):
    """A theta with every entry drawn, as after some training."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lopt.init, jax.random.key(0))
    return jax.tree.map(lambda x: (size * rng.normal(size=x.shape)).astype(np.float32), shapes)


def workers_of(rounds, num_workers, seed=0):
    """Worker pseudo-gradients of every round, leaves [K, *shape]."""
    rng = np.random.default_rng(seed)
    return [
        jax.tree.map(lambda p: (0.1 * rng.normal(size=(num_workers, *p.shape)) + 0.05).astype(np.float32), PARAMS)
        for _ in range(rounds)
    ]


def steps_of(tx, rounds, losses=None, params=PARAMS):
    """Steps and local rates of every round; `rounds` are worker pseudo-gradients, averaged as a round does."""

    @jax.jit
    def one(own, state, params, losses):
        mean = jax.tree.map(lambda x: jnp.mean(x, axis=0), own)
        extra = {} if losses is None else {"value": jnp.mean(losses), "losses": losses}
        return tx.update(
            mean,
            state,
            params,
            worker_mean=lambda fn: jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.vmap(fn)(own)),
            num_workers=jax.tree.leaves(own)[0].shape[0],
            **extra,
        )

    state, history = tx.init(params), []
    for t, own in enumerate(rounds):
        updates, state = one(own, state, params, None if losses is None else losses[t])
        params = optax.apply_updates(params, updates)
        history.append((updates, local_rates(state)))
    return jax.device_get(history)


@pytest.mark.optimized
@pytest.mark.parametrize("sizes", SIZES)
def test_before_training_it_is_its_anchor_to_the_last_bit(sizes):
    lopt = lagg_set(*sizes)
    rounds = workers_of(5, 4)
    losses = np.random.default_rng(1).uniform(1, 2, size=(5, 4, 3)).astype(np.float32)
    found = steps_of(lopt.transform(lopt.init(jax.random.key(3))), rounds, losses)
    expected = steps_of(auto_diloco(), rounds, losses)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("sizes", [(0, 0), (6, 4)])
def test_workers_and_tensors_may_be_permuted(sizes):
    lopt = lagg_set(*sizes)
    tx = lopt.transform(trained(lopt))
    rounds = workers_of(4, 5)
    found = steps_of(tx, rounds)
    order = np.asarray([3, 0, 4, 1, 2])
    mixed = steps_of(tx, [jax.tree.map(lambda x: x[order], own) for own in rounds])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6), mixed, found)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_equivariant_to_the_scale_of_losses_and_of_all_tensors(scale):
    lopt = lagg_set(6, 4, floor=1e-6)
    tx = lopt.transform(trained(lopt))
    rounds = workers_of(4, 4)
    losses = np.random.default_rng(1).uniform(1, 2, size=(4, 4, 3)).astype(np.float32)
    found = steps_of(tx, rounds, losses)
    larger = [jax.tree.map(lambda x: np.float32(scale) * x, own) for own in rounds]
    scaled = steps_of(tx, larger, np.float32(1 / scale) * losses, jax.tree.map(lambda p: np.float32(scale) * p, PARAMS))
    for (ours, our_rates), (theirs, their_rates) in zip(scaled, found, strict=True):
        expected = jax.tree.map(lambda u: scale * u, theirs)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-5 * scale), ours, expected)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-3), our_rates, their_rates)


def noisy_loss(params, key, batch):
    noise = 0.1 * jax.random.normal(key, batch["y"].shape)
    prediction = jnp.tanh(batch["x"] @ params["w"]) @ params["b"] * params["scale"]
    return jnp.mean(jnp.square(prediction - batch["y"] - noise))


@pytest.mark.parametrize(("num_workers", "num_local_steps"), [(1, 1), (16, 2)])
def test_one_theta_serves_any_number_of_workers_and_steps(num_workers, num_local_steps):
    lopt = lagg_set(6, 4)
    theta = trained(lopt, 0.05)
    algorithm = simulate(local_sgd(optax.sgd(0.05), lopt.transform(theta, num_steps=10)), num_workers)
    rng = np.random.default_rng(0)
    shape = (num_workers, num_local_steps, 8)
    batches = {"x": rng.normal(size=(*shape, 3)).astype(np.float32), "y": rng.normal(size=shape).astype(np.float32)}
    state = algorithm.init(jax.tree.map(jnp.asarray, PARAMS))
    traces = []

    @jax.jit
    def step(state, key, batches):
        traces.append(key)
        return algorithm.round(noisy_loss, state, key, batches)

    for t in range(30):
        state, _ = step(state, jax.random.key(t), batches)
    moved = jax.tree.map(lambda p, q: np.max(np.abs(p - q)), PARAMS, algorithm.params(state))
    assert all(0 < distance < 100 for distance in jax.tree.leaves(moved))
    assert len(traces) == 1


def test_outputs_are_bounded():
    lopt = lagg_set(0, 0)
    theta = jax.tree.map(lambda x: 1e6 * jnp.ones_like(x), lopt.init(jax.random.key(0)))
    tx = lopt.transform(theta)
    history = steps_of(tx, workers_of(20, 2))
    rates = np.asarray([jax.tree.leaves(rates) for _, rates in history])
    bound = np.exp(2.0 + LARGEST_OFFSET + BOUNDS[1])
    assert np.all(rates <= bound * 1.001) and np.all(np.isfinite(rates))


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_controller_that_is_not_finite_and_a_round_without_survivors_move_nothing(broken):
    lopt = lagg_set(6, 4)
    theta = trained(lopt)
    own = workers_of(1, 2)[0]
    nothing = jax.tree.map(lambda x: np.full_like(x, broken), own)
    ((updates, rates),) = steps_of(lopt.transform(theta), [nothing])
    assert all(np.all(x == 0) for x in jax.tree.leaves(updates)) and all(x == 1 for x in jax.tree.leaves(rates))
    theta["controller"]["b1"][0] = broken
    ((updates, rates),) = steps_of(lopt.transform(theta), [own])
    if np.isnan(broken):
        assert all(np.all(x == 0) for x in jax.tree.leaves(updates))
    assert all(np.isfinite(x) for x in jax.tree.leaves(rates))


def test_features_of_a_known_round():
    one = jnp.ones(2)
    sums = TensorSums(
        size=4 * one, dd=one, pp=4 * one, mm=one, xx=4 * one, dp=jnp.asarray([2.0, -1.0]), dm=0 * one,
        uu=4 * one, du=one,
        workers=jnp.asarray([1.0, 4.0]), is_vector=jnp.asarray([0.0, 1.0]), shorter_side=jnp.asarray([2.0, 1.0]),
    )  # fmt: skip
    reading = Reading(
        cosine=jnp.float32(-0.5),
        log_rates=jnp.zeros(2),
        losses=jnp.asarray([1.0, 1.0, 3.0]),
        losses_in_round=jnp.asarray([3.0, 2.0, 1.0]),
        within=jnp.float32(0.3),
        lowest=jnp.float32(0.6),
        num_workers=4,
        count=jnp.int32(0),
        num_steps=10,
        step_cosines=jnp.asarray([jnp.nan, 0.4]),
        shares=jnp.asarray([0.0, 0.5]),
    )
    found = round_features(sums, reading, 0.03)
    assert found.shape == (2, NUM_FEATURES)
    np.testing.assert_allclose(found[:, 0], [1.0, -0.5], rtol=1e-6)
    # (4 * 1 / 1 - 1) / 3 and (4 * 1 / 4 - 1) / 3.
    np.testing.assert_allclose(found[:, 2], [1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(found[:, 3], np.log(0.25) / 4, rtol=1e-6)
    np.testing.assert_allclose(found[:, 8], -0.5)
    np.testing.assert_allclose(found[:, 10:13], [[0, 4 * -0.5, 4 * -0.5]] * 2, rtol=1e-6)
    np.testing.assert_allclose(found[:, 20:26], [[0, 0, 0, 0.5, 0.2, 0.5], [0.4, 0.5, 0.2, 0.5, 0, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(found[:, 26], 0.3, rtol=1e-6)
    np.testing.assert_allclose(found[:, 27], [np.log(1 - MOST_AGREEMENT) / 4.6, 0], rtol=1e-3)
    np.testing.assert_allclose(found[:, 28], 4 * (1 - 0.6) / (1 + 0.6), rtol=1e-6)
    np.testing.assert_array_equal(tensor_cosines(sums), found[:, 0])


@pytest.mark.parametrize(("no_cosine", "no_loss"), [(NO_COSINE, np.inf), (np.nan, np.nan)])
def test_undefined_features_are_zero(no_cosine, no_loss):
    """NaN stood for both in the states of earlier versions."""
    zeros = jnp.zeros(1)
    sums = TensorSums(*[jnp.ones(1), *10 * [zeros], jnp.ones(1)])
    reading = Reading(
        cosine=jnp.float32(no_cosine),
        log_rates=zeros,
        losses=jnp.full(3, no_loss),
        losses_in_round=None,
        within=jnp.float32(0),
        lowest=jnp.float32(no_loss),
        num_workers=1,
        count=jnp.int32(0),
        num_steps=None,
        step_cosines=jnp.full(1, no_cosine),
        shares=zeros + 0.5,
    )
    found = round_features(sums, reading, 0.03)
    assert np.all(np.isfinite(found))
    np.testing.assert_array_equal(found[0, [8, 10, 11, 12, 20, 21, 22, 25, 26, 27, 28]], [0] * 5 + [0.5] + [0] * 5)


def test_the_shorter_side_is_that_of_the_matrix_of_a_tensor():
    leaves = [jnp.ones(shape) for shape in ((3, 3, 4, 8), (64, 6), (7,), (), (5, 1))]
    sums = tensor_sums(leaves, leaves, leaves, leaves, leaves, None)
    np.testing.assert_array_equal(sums.shorter_side, [8, 6, 1, 1, 1])


def test_the_rate_follows_the_rounds_as_fast_as_the_controller_says():
    """exp(BOUNDS[7] tanh(b)) times the rule's kappa, for every tensor alike."""
    lopt, own = lagg_set(0, 0), workers_of(4, 4)
    theta = lopt.init(jax.random.key(0))
    theta["controller"]["b1"] = theta["controller"]["b1"].at[7].set(0.3)
    faster = steps_of(lopt.transform(theta), own)[-1][1]
    kappa = KAPPA * np.exp(BOUNDS[7] * np.tanh(0.3))
    by_hand = steps_of(auto_diloco(kappa=kappa), own)[-1][1]
    rule = steps_of(auto_diloco(), own)[-1][1]
    assert abs(np.log(by_hand["w"] / rule["w"])) > 0.01
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), faster, by_hand)


def test_the_rate_rests_at_the_cosine_that_the_controller_says():
    """BOUNDS[8] tanh(b) above the rule's tau, for every tensor alike."""
    lopt, own = lagg_set(0, 0), workers_of(4, 4)
    theta = lopt.init(jax.random.key(0))
    theta["controller"]["b1"] = theta["controller"]["b1"].at[8].set(0.7)
    found = steps_of(lopt.transform(theta), own)[-1][1]
    by_hand = steps_of(auto_diloco(tau=TAU + BOUNDS[8] * np.tanh(0.7)), own)[-1][1]
    rule = steps_of(auto_diloco(), own)[-1][1]
    assert abs(np.log(by_hand["w"] / rule["w"])) > 0.01
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, by_hand)


def test_offsets_grow_with_the_logarithm_of_time():
    """A constant z_0 multiplies the local rate by exp(z_0 sum_t 1 / (1 + t / 32)), here over 100 rounds."""
    lopt, own = lagg_set(0, 0), workers_of(100, 1)
    theta = lopt.init(jax.random.key(0))
    theta["controller"]["b1"] = theta["controller"]["b1"].at[0].set(-0.05)
    found, rule = steps_of(lopt.transform(theta), own)[-1][1], steps_of(auto_diloco(), own)[-1][1]
    total = BOUNDS[0] * np.tanh(-0.05) * sum(1 / (1 + t / 32) for t in range(100))
    np.testing.assert_allclose(np.log(found["w"] / rule["w"]), total, rtol=1e-4)


def test_the_rate_of_a_tensor_follows_its_own_cosine_at_the_pace_that_the_controller_says():
    """By BOUNDS[9] tanh(b) times how far it is from that of all tensors, from the second round on."""
    lopt, own = lagg_set(0, 0), workers_of(2, 4)
    theta = lopt.init(jax.random.key(0))
    theta["controller"]["b1"] = theta["controller"]["b1"].at[9].set(-0.6)
    found, rule = (steps_of(tx, own)[-1][1] for tx in (lopt.transform(theta), auto_diloco()))
    first, second = (jax.tree.map(lambda x: x.mean(axis=0).ravel(), round_of_all) for round_of_all in own)
    whole = [np.concatenate([x.ravel() for x in jax.tree.leaves(tree)]) for tree in (first, second)]

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    for name in ("w", "b", "scale"):
        apart = cosine(first[name], second[name]) - cosine(*whole)
        np.testing.assert_allclose(np.log(found[name] / rule[name]), BOUNDS[9] * np.tanh(-0.6) * apart, atol=1e-5)


def rates_with(column, output, losses, rounds):
    """Local rates of the matrix in every round with a weight of 1 from a feature to an output, over the rule's."""
    lopt = lagg_set(0, 0)
    theta = lopt.init(jax.random.key(0))
    theta["controller"]["w1"] = theta["controller"]["w1"].at[column, output].set(1.0)
    own = workers_of(rounds, 4)
    pairs = zip(steps_of(lopt.transform(theta), own, losses), steps_of(auto_diloco(), own, losses), strict=True)
    return np.asarray([found["w"] / rule["w"] for (_, found), (_, rule) in pairs])


def test_a_loss_above_its_lowest_is_remembered():
    """Of running means over two rounds: 8, 4.5, 2.75, then 3.375 and 3.6875, which are above 2.75."""
    losses = np.asarray([8, 1, 1, 4, 4], np.float32)[:, None, None] * np.ones((1, 4, 3), np.float32)
    above = np.asarray([0, 0, 0, (3.375 - 2.75) / (3.375 + 2.75), (3.6875 - 2.75) / (3.6875 + 2.75)])
    np.testing.assert_allclose(rates_with(28, 1, losses, 5), np.exp(BOUNDS[1] * np.tanh(4 * above)), rtol=1e-4)


def test_the_trend_within_rounds_is_averaged_over_rounds():
    losses = np.asarray([[1, 2, 3], [1, 2, 1]], np.float32)[:, None] * np.ones((1, 4, 1), np.float32)
    first = (1 - WITHIN_DECAY) * 4 * (3 - 1) / (3 + 1)
    found = rates_with(26, 1, losses, 2)
    np.testing.assert_allclose(found, np.exp(BOUNDS[1] * np.tanh([first, WITHIN_DECAY * first])), rtol=1e-4)
    assert running_within(jnp.float32(0.2), jnp.asarray([1.0, jnp.nan])) == jnp.float32(0.2)


def test_config_and_bad_sizes():
    lopt = lagg_set(5, 3, kappa=0.2)
    assert from_config(lopt.config).config == lopt.config
    assert lopt.reads == "statistics" and lopt.num_workers is None
    for arguments, message in (((-1, 8), "controller_size=-1"), ((4, -2), "hidden_size=-2")):
        with pytest.raises(ValueError, match=message):
            lagg_set(*arguments)
    with pytest.raises(ValueError, match="params is None"):
        tx = lopt.transform(lopt.init(jax.random.key(0)))
        tx.update(PARAMS, tx.init(PARAMS))


def test_a_share_of_the_rules_steps_of_matrices_is_orthogonal():
    lopt = lagg_set(0, 0)
    theta = lopt.init(jax.random.key(0))
    theta["controller"]["b1"] = theta["controller"]["b1"].at[5].set(np.arctanh(0.75))
    (own,) = workers_of(1, 4)
    ((found, _),) = steps_of(lopt.transform(theta), [own])
    ((rule, _),) = steps_of(auto_diloco(), [own])
    orthogonal = (found["w"] - 0.25 * rule["w"]) / 0.75
    left, _, right = np.linalg.svd(rule["w"], full_matrices=False)
    size = np.linalg.norm(rule["w"])
    np.testing.assert_allclose(np.linalg.norm(orthogonal), size, rtol=1e-4)
    # Newton-Schulz brings singular values to 1 within a third.
    values = np.diag(left.T @ orthogonal @ right.T) / (size / np.sqrt(2))
    np.testing.assert_allclose(values, 1, atol=0.35)
    for name in ("b", "scale"):
        np.testing.assert_allclose(found[name], rule[name], rtol=1e-6)
