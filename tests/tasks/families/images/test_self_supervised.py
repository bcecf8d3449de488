import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from tasks.base import SPLITS
from tasks.families.images.self_supervised import (
    cut_interval,
    eigen_predictor,
    negative_cosine,
    neighbour_accuracy,
    normalise_over_batch,
    self_supervised,
    shift_matrix,
    spread,
    two_views,
)
from tasks.suites.entry import omniglot_8
from tests.tasks.training_curves import training_curves


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return {
        split: {"image": rng.integers(0, 256, (40, 8, 8, 1), np.uint8), "label": rng.integers(0, 3, 40, np.int32)}
        for split in SPLITS
    }


def start(images, target):
    family = self_supervised(images, target, hidden=6, size=4)
    config = jax.jit(family.sample)(jax.random.key(0))
    task = family.task(config, family.data)
    params = jax.jit(task.init)(jax.random.key(1))
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return family, config, task, treedef.unflatten(moved)


def by_hand(params, inputs):
    """A hidden layer normalised over the batch, ReLU, a linear layer; NumPy float64."""
    w = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    h = np.asarray(inputs).reshape(len(inputs), -1) @ w["Dense_0"]["kernel"]
    h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
    return np.maximum(h, 0) @ w["Dense_1"]["kernel"] + w["Dense_1"]["bias"]


def cosines(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize("target", ["online", "random"])
def test_loss_is_the_symmetrised_cosine_by_hand(images, target):
    family, config, task, params = start(images, target)
    batch = family.eval_batch(family.data, "test")
    views = np.asarray(jax.jit(two_views)(batch["image"], batch["seed"]), np.float64)
    features = by_hand(params["encoder"], views)
    aim = features
    if target == "random":
        aim = by_hand(config["target"], views)
        aim = (aim - aim.mean(0)) / np.sqrt(aim.var(0) + 1e-5)
    prediction = by_hand(params["predictor"], features)
    (first, second), (aim_first, aim_second) = np.split(prediction, 2), np.split(aim, 2)
    expected = 1 - (cosines(first, aim_second).mean() + cosines(second, aim_first).mean()) / 2
    np.testing.assert_allclose(jax.jit(task.loss)(params, jax.random.key(0), batch), expected, rtol=1e-4)
    np.testing.assert_allclose(jax.jit(task.metrics)(params, batch)["loss"], expected, rtol=1e-4)


@pytest.mark.parametrize("target", ["online", "random"])
def test_gradient_is_that_of_the_loss_with_the_target_held_fixed(images, target):
    """A central difference that moves the predicting branch only: what stop-gradient means. Of the loss as a function
    of the parameters it is the gradient for `random` alone."""
    family, config, task, params = start(images, target)
    batch = family.eval_batch(family.data, "test")
    with jax.enable_x64(True):
        batch = batch | {"image": batch["image"].astype(jnp.float64)}
        views = np.asarray(jax.jit(two_views)(batch["image"], batch["seed"]))
        flat, unravel = ravel_pytree(jax.tree.map(lambda p: p.astype(jnp.float64), params))
        aim = by_hand(config["target"] if config else params["encoder"], views)
        if config:
            aim = (aim - aim.mean(0)) / np.sqrt(aim.var(0) + 1e-5)
        value_and_grad = jax.jit(jax.value_and_grad(lambda flat: task.loss(unravel(flat), jax.random.key(0), batch)))

        def frozen(flat):
            moved = unravel(flat)
            prediction = by_hand(moved["predictor"], by_hand(moved["encoder"], views))
            return 1 - cosines(prediction, np.roll(aim, len(aim) // 2, axis=0)).mean()

        step = 1e-6 * jnp.cos(jnp.arange(flat.size, dtype=jnp.float64))
        change = 2 * value_and_grad(flat)[1] @ step
        np.testing.assert_allclose(change, frozen(flat + step) - frozen(flat - step), rtol=1e-4)
        moving = value_and_grad(flat + step)[0] - value_and_grad(flat - step)[0]
        assert (abs(moving - change) < 1e-3 * abs(change)) == (target == "random")


def test_spread_is_zero_for_collapse_and_one_for_isotropic_features():
    constant = jnp.broadcast_to(jnp.array([1.0, -2.0, 0.5]), (10, 3))
    np.testing.assert_allclose(spread(constant), 0, atol=1e-6)
    isotropic = jax.random.normal(jax.random.key(0), (20_000, 8))
    np.testing.assert_allclose(spread(isotropic), 1, atol=0.01)
    scales = jax.random.uniform(jax.random.key(1), (20_000, 1), minval=0.1, maxval=10.0)
    np.testing.assert_allclose(spread(isotropic * scales), spread(isotropic), rtol=1e-4)


def test_a_collapsed_encoder_has_loss_zero_and_spread_zero(images):
    """The shortcut that the loss allows and the metric shows."""
    family, _, task, params = start(images, "online")
    zero = jax.tree.map(jnp.zeros_like, params)
    for module in ("encoder", "predictor"):
        zero[module]["Dense_1"]["bias"] = jnp.ones(4)
    metrics = jax.jit(task.metrics)(zero, family.eval_batch(family.data, "test"))
    np.testing.assert_allclose([metrics["loss"], metrics["spread"]], [0, 0], atol=1e-6)


def test_a_constant_is_no_better_than_the_uninformed_loss_against_a_random_target():
    """The target is centred over the batch, so that a constant's mean cosine is near 0."""
    aim = normalise_over_batch(jax.random.normal(jax.random.key(0), (4096, 8)) + 3.0)
    constant = jnp.broadcast_to(jax.random.normal(jax.random.key(1), (1, 8)), (4096, 8))
    np.testing.assert_allclose(1 + negative_cosine(constant, aim), 1, atol=0.02)


def test_neighbour_accuracy_is_the_slow_loop():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    features = rng.normal(size=(40, 5)) + 2 * np.eye(5)[labels]
    hits = []
    for i in range(40):
        others = [j for j in range(40) if j != i]
        nearest = max(others, key=lambda j: cosines(features[i], features[j]))
        hits.append(labels[nearest] == labels[i])
    found = neighbour_accuracy(jnp.asarray(features, jnp.float32), jnp.asarray(labels, jnp.int32))
    np.testing.assert_allclose(found, np.mean(hits), rtol=1e-6)
    assert 0.5 < np.mean(hits) < 1


def test_shifts_and_cuts():
    """A uniform number picks one of -1, 0, 1 in 8 pixels; what moves past the edge is gone, what comes in is 0."""
    row = np.arange(1, 9)
    moved = np.asarray(shift_matrix(jnp.array([0.1, 0.5, 0.9]), 8)).astype(int) @ row
    np.testing.assert_array_equal(moved, [[*row[1:], 0], row, [0, *row[:-1]]])
    cuts = np.asarray(cut_interval(jnp.array([0.0, 0.5, 0.999]), 8))
    np.testing.assert_array_equal([np.flatnonzero(cut) for cut in cuts], [[0, 1], [3, 4], [6, 7]])


def test_views_come_from_the_rows_seed_alone():
    images = jax.random.uniform(jax.random.key(0), (6, 8, 8, 1))
    seeds = jnp.arange(6, dtype=jnp.uint32)
    views = jax.jit(two_views)(images, seeds)
    assert views.shape == (12, 8, 8, 1)
    alone = jax.jit(two_views)(images[4:5], seeds[4:5])
    np.testing.assert_array_equal(views[jnp.array([4, 10])], alone)
    assert (views[:6] != views[6:]).any(axis=(1, 2, 3)).all()
    other = jax.jit(two_views)(images, seeds + jnp.uint32(6))
    assert (other != views).any(axis=(1, 2, 3)).all()


def test_noise_has_the_stated_standard_deviation():
    views = jax.jit(two_views)(jnp.zeros((2000, 8, 8, 1)), jnp.arange(2000, dtype=jnp.uint32))
    noise = np.asarray(views)[np.asarray(views) != 0]
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 0.1], atol=0.001)
    # A square of 2 by 2 of 64 pixels is cut out.
    np.testing.assert_allclose((np.asarray(views) == 0).mean(), 4 / 64, atol=1e-4)


def test_number_of_parameters_and_bad_arguments(images):
    family = self_supervised(images)
    params = jax.eval_shape(family.task({}, family.data).init, jax.random.key(0))
    encoder, predictor = 64 * 64 + 64 * 32 + 32, 32 * 16 + 16 * 32 + 32
    assert sum(p.size for p in jax.tree.leaves(params)) == encoder + predictor
    with pytest.raises(ValueError, match="hidden=0"):
        self_supervised(images, hidden=0)
    with pytest.raises(ValueError, match="size=1"):
        self_supervised(images, size=1)


def test_eigen_predictor_is_the_root_of_the_second_moments():
    """U diag(sqrt(s / max s)) U^T is the matrix root of F / max s, whatever the eigenvectors."""
    features = np.random.default_rng(0).normal(size=(50, 5)) * np.array([3, 1, 0.5, 0.1, 0])
    second = features.T @ features / 50
    found = np.asarray(jax.jit(eigen_predictor)(jnp.asarray(features, jnp.float32)), np.float64)
    root = found - 0.01 * np.eye(5)
    np.testing.assert_allclose(root, root.T, atol=1e-6)
    np.testing.assert_allclose(root @ root, second / np.linalg.norm(second, 2), atol=1e-5)
    assert np.linalg.eigvalsh(root).min() > -1e-3
    np.testing.assert_allclose(eigen_predictor(jnp.zeros((3, 2))), 0.01 * np.eye(2), atol=1e-7)


def test_loss_of_the_eigen_predictor_by_hand(images):
    """Online target; no gradient flows through the predictor, so that the loss is one of a linear map held fixed."""
    family = self_supervised(images, hidden=6, size=4, predictor="eigen")
    task = family.task({}, family.data)
    params = jax.tree.map(
        lambda p: p + 0.2 * jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), task.init(jax.random.key(1))
    )
    assert set(params) == {"encoder"}
    batch = family.eval_batch(family.data, "test")
    views = np.asarray(jax.jit(two_views)(batch["image"], batch["seed"]), np.float64)

    def loss_with(predictor, w, aim):
        return 1 - cosines(by_hand(w, views) @ predictor, np.roll(aim, 40, axis=0)).mean()

    features = by_hand(params["encoder"], views)
    s, u = np.linalg.eigh(features.T @ features / 80)
    predictor = u @ np.diag(np.sqrt(s / s[-1]) + 0.01) @ u.T
    loss, gradient = jax.jit(jax.value_and_grad(task.loss))(params, jax.random.key(0), batch)
    np.testing.assert_allclose(loss, loss_with(predictor, params["encoder"], features), rtol=1e-4)
    leaves, treedef = jax.tree.flatten(jax.tree.map(lambda p: np.asarray(p, np.float64), params["encoder"]))
    flat = np.concatenate([leaf.ravel() for leaf in leaves])

    def unravel(flat):
        parts = np.split(flat, np.cumsum([leaf.size for leaf in leaves])[:-1])
        return treedef.unflatten([part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])

    step = 1e-5 * np.cos(np.arange(flat.size))
    above, below = (loss_with(predictor, unravel(flat + sign * step), features) for sign in (1, -1))
    np.testing.assert_allclose(2 * ravel_pytree(gradient["encoder"])[0] @ step, above - below, rtol=2e-3)


def test_a_slow_target_is_a_moving_average_under_gradient_descent(images):
    """BYOL: the value is that of the target's features, and a step moves the target by TETHER lr of the way."""
    family, _, task, params = start(images, "slow")
    batch = family.eval_batch(family.data, "test")
    views = np.asarray(jax.jit(two_views)(batch["image"], batch["seed"]), np.float64)
    aim = by_hand(params["target"], views)
    prediction = by_hand(params["predictor"], by_hand(params["encoder"], views))
    loss, gradient = jax.jit(jax.value_and_grad(task.loss))(params, jax.random.key(0), batch)
    np.testing.assert_allclose(loss, 1 - cosines(prediction, np.roll(aim, 40, axis=0)).mean(), rtol=1e-4)
    momentum = 1 - 0.1 * 0.3
    for xi, w, g in zip(*map(jax.tree.leaves, (params["target"], params["encoder"], gradient["target"])), strict=True):
        np.testing.assert_allclose(xi - 0.3 * g, momentum * xi + (1 - momentum) * w, atol=1e-6)


@pytest.mark.slow
def test_a_free_target_has_the_same_loss_and_the_whole_gradient(images):
    _, _, online, params = start(images, "online")
    family, _, free, _ = start(images, "free")
    batch = family.eval_batch(family.data, "test")
    with jax.enable_x64(True):
        batch = batch | {"image": batch["image"].astype(jnp.float64)}
        flat, unravel = ravel_pytree(jax.tree.map(lambda p: p.astype(jnp.float64), params))
        value_and_grad = jax.jit(jax.value_and_grad(lambda flat: free.loss(unravel(flat), jax.random.key(0), batch)))
        value, gradient = value_and_grad(flat)
        np.testing.assert_allclose(value, online.loss(unravel(flat), jax.random.key(0), batch), rtol=1e-12)
        step = 1e-6 * jnp.cos(jnp.arange(flat.size, dtype=jnp.float64))
        change = value_and_grad(flat + step)[0] - value_and_grad(flat - step)[0]
        np.testing.assert_allclose(2 * gradient @ step, change, rtol=1e-4)


@pytest.mark.slow
def test_features_collapse_without_the_stop_gradient_alone():
    """Chen & He (2021), figure 2: the loss reaches its minimum at once and all features become one."""
    ends = {}
    for target in ("online", "free"):
        family = self_supervised(omniglot_8(), target)
        curves = training_curves(family, optax.sgd(0.1, momentum=0.9), 400, 400, batch_size=64)["test"]
        ends[target] = curves["loss"][-1], curves["spread"][-1]
    assert ends["free"][0] < 0.02 and ends["free"][1] < 0.1
    assert ends["online"][0] > 0.1 and ends["online"][1] > 0.5


def test_unknown_names_are_refused_with_the_known_ones(images, unchecked_annotations):
    with pytest.raises(ValueError, match="target='momentum': use one of online, random, slow, free"):
        self_supervised(images, "momentum")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="predictor='linear': use one of trained, eigen"):
        self_supervised(images, predictor="linear")  # pyright: ignore[reportArgumentType]
