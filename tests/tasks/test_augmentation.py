"""Wrappers: what they change, and that they leave the rest alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.augmentation import (
    with_dirichlet_workers,
    with_dtype,
    with_gradient_noise,
    with_label_noise,
    with_reduced_batches,
    with_reparametrisation,
)
from tasks.base import SPLITS, TaskFamily
from tasks.families.images.image_mlp import image_mlp


def make_data(num_examples=400, num_classes=4):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (num_examples, 2, 2, 1), dtype=np.uint8)
    label = rng.integers(0, num_classes, num_examples).astype(np.int32)
    return {split: {"image": image, "label": label} for split in SPLITS}


@pytest.fixture(scope="module")
def family() -> TaskFamily:
    return image_mlp(make_data(), (3,), "toy", num_classes=4)


def build(family, key=0):
    config = family.sample(jax.random.key(key))
    return config, family.task(config, family.data)


@pytest.mark.parametrize("per_tensor", [False, True])
def test_reparametrised_loss_is_the_inner_loss_and_gradients_are_scaled(family, per_tensor):
    wrapped = with_reparametrisation(family, (1e-2, 1e2), per_tensor)
    config, task = build(wrapped)
    inner = family.task(config["inner"], family.data)
    key = jax.random.key(1)
    batch = inner.sample_batch(key, "train", (16,))
    params, inner_params = task.init(key), inner.init(key)
    loss, grad = jax.value_and_grad(task.loss)(params, key, batch)
    inner_loss, inner_grad = jax.value_and_grad(inner.loss)(inner_params, key, batch)
    np.testing.assert_allclose(loss, inner_loss, rtol=1e-5)
    np.testing.assert_allclose(task.metrics(params, batch)["loss"], inner_loss, rtol=1e-5)
    leaves = jax.tree.leaves(inner_grad)
    scale = jnp.exp(jnp.broadcast_to(config["log_scale"], (len(leaves),)))
    assert config["log_scale"].shape == ((4,) if per_tensor else (1,))
    assert np.all(np.abs(np.log10(scale)) <= 2)
    for c, g, inner_g in zip(scale, jax.tree.leaves(grad), leaves, strict=True):
        np.testing.assert_allclose(g, c * inner_g, rtol=1e-4, atol=1e-6 * float(c))


def test_scales_are_log_uniform(family):
    wrapped = with_reparametrisation(family, (1e-3, 1e3))
    exponents = jax.vmap(lambda key: wrapped.sample(key)["log_scale"][0] / jnp.log(10.0))(
        jax.random.split(jax.random.key(0), 4000)
    )
    # Uniform on [-3, 3]: mean 0 and standard deviation sqrt(3), each within 4 standard errors.
    assert abs(exponents.mean()) < 4 * 3**0.5 / 4000**0.5
    assert abs(exponents.std() - 3**0.5) < 0.05
    assert exponents.min() >= -3 and exponents.max() <= 3


def test_reduced_batches_repeat_their_first_examples_in_training_only(family):
    wrapped = with_reduced_batches(family, max_halvings=3)
    _, inner = build(family)
    key = jax.random.key(5)
    seen = set()
    for seed in range(12):
        config, task = build(wrapped, seed)
        kept = 16 // 2 ** int(config["halvings"])
        seen.add(kept)
        batch = task.sample_batch(key, "train", (2, 16))
        full = inner.sample_batch(key, "train", (2, 16))
        np.testing.assert_array_equal(batch["label"], np.tile(full["label"][:, :kept], (1, 16 // kept)))
        held_out = task.sample_batch(key, "inner_valid", (16,))
        np.testing.assert_array_equal(held_out["image"], inner.sample_batch(key, "inner_valid", (16,))["image"])
    assert seen == {16, 8, 4, 2}
    assert build(wrapped)[1].sample_batch(key, "train", (1,))["label"].shape == (1,)


def test_label_noise_is_fixed_for_a_task_and_leaves_other_splits_alone(family):
    data = make_data(num_examples=4000)
    # The image names the example, so that its label can be looked up.
    for split in SPLITS:
        number = np.arange(4000)
        data[split]["image"] = np.stack([number % 256, number // 256, 0 * number, 0 * number], -1).astype(np.uint8)
        data[split]["image"] = data[split]["image"].reshape(4000, 2, 2, 1)
    wrapped = with_label_noise(image_mlp(data, (3,), "toy", num_classes=4), (0.4, 0.4))
    config, task = build(wrapped)

    def drawn(task, seed, split):
        batch = task.sample_batch(jax.random.key(seed), split, (20_000,))
        pixels = np.rint(255 * np.asarray(batch["image"])).reshape(-1, 4).astype(int)
        return pixels[:, 0] + 256 * pixels[:, 1], np.asarray(batch["label"])

    number, label = drawn(task, 0, "train")
    again_number, again_label = drawn(task, 1, "train")
    table = np.full(4000, -1)
    table[number] = label
    both = table[again_number] >= 0
    np.testing.assert_array_equal(table[again_number][both], again_label[both])
    # A redrawn label is the old one in a quarter of the cases.
    changed = (table != data["train"]["label"])[table >= 0].mean()
    assert abs(changed - 0.4 * 0.75) < 0.03
    number, label = drawn(task, 0, "outer_valid")
    np.testing.assert_array_equal(label, data["outer_valid"]["label"][number])
    other = build(wrapped, 1)[1].sample_batch(jax.random.key(0), "train", (20_000,))["label"]
    assert (np.asarray(other) != drawn(task, 0, "train")[1]).mean() > 0.2
    np.testing.assert_array_equal(wrapped.eval_batch(wrapped.data, "train")["label"], data["train"]["label"])


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.05, 0.75, 1.0), (1000.0, 0.24, 0.32)])
def test_dirichlet_alpha_sets_how_far_workers_differ(family, alpha, low, high):
    wrapped = with_dirichlet_workers(family, alpha, num_workers=6)
    shares = []
    for seed in range(8):
        config, task = build(wrapped, seed)
        np.testing.assert_allclose(config["class_probabilities"].sum(1), 1, rtol=1e-5)
        batch = task.sample_batch(jax.random.key(9), "train", (6, 5, 100))
        labels = np.asarray(batch["label"]).reshape(6, -1)
        found = np.stack([np.bincount(row, minlength=4) / 500 for row in labels])
        np.testing.assert_allclose(found, config["class_probabilities"], atol=0.1)
        shares.append(found.max(1))
    assert low < np.mean(shares) < high


def test_dirichlet_examples_are_training_examples_with_their_own_labels(family):
    data = make_data()
    data["train"]["image"][:, 0, 0, 0] = 10 * data["train"]["label"]
    wrapped = with_dirichlet_workers(image_mlp(data, (3,), "toy", num_classes=4), 0.5, num_workers=3)
    batch = build(wrapped)[1].sample_batch(jax.random.key(0), "train", (3, 2, 200))
    np.testing.assert_allclose(255 * batch["image"][..., 0, 0, 0], 10 * batch["label"], rtol=1e-5)
    known = {tuple(row) for row in data["train"]["image"].reshape(-1, 4)}
    drawn = {tuple(row) for row in np.rint(255 * np.asarray(batch["image"])).astype(np.uint8).reshape(-1, 4)}
    assert drawn <= known and len(drawn) > 200


def test_label_noise_goes_around_the_dirichlet_split(family):
    wrapped = with_label_noise(with_dirichlet_workers(family, 0.05, num_workers=2), (1.0, 1.0))
    batch = build(wrapped)[1].sample_batch(jax.random.key(0), "train", (2, 1, 400))
    assert len(np.unique(batch["label"])) == 4
    with pytest.raises(ValueError, match="put label_noise around the Dirichlet split"):
        with_dirichlet_workers(with_label_noise(family), 0.1, num_workers=2)


def test_gradient_noise_keeps_the_loss_and_has_the_stated_deviation(family):
    wrapped = with_gradient_noise(family, (0.3, 0.3))
    config, task = build(wrapped)
    inner = family.task(config["inner"], family.data)
    params = inner.init(jax.random.key(0))
    batch = inner.sample_batch(jax.random.key(1), "train", (16,))
    clean = jax.grad(inner.loss)(params, jax.random.key(2), batch)
    keys = jax.random.split(jax.random.key(3), 500)
    losses, grads = jax.jit(jax.vmap(jax.value_and_grad(task.loss), (None, 0, None)))(params, keys, batch)
    np.testing.assert_allclose(losses, inner.loss(params, keys[0], batch), rtol=1e-6)
    noise = np.concatenate(
        [
            (np.asarray(g) - np.asarray(c)).reshape(500, -1)
            for g, c in zip(*map(jax.tree.leaves, (grads, clean)), strict=True)
        ],
        1,
    )
    assert abs(noise.std() - 0.3) < 0.01 and abs(noise.mean()) < 0.01
    assert np.abs(np.corrcoef(noise.T) - np.eye(noise.shape[1])).max() < 0.25


def test_dtype_casts_parameters_and_returns_float32(family):
    _, task = build(with_dtype(family, jnp.bfloat16))
    params = task.init(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    batch = task.sample_batch(jax.random.key(1), "train", (64,))
    loss, grad = jax.value_and_grad(task.loss)(params, jax.random.key(2), batch)
    assert loss.dtype == jnp.float32 and jax.tree.leaves(grad)[0].dtype == jnp.bfloat16
    inner = build(family)[1]
    exact = inner.loss(inner.init(jax.random.key(0)), jax.random.key(2), batch)
    assert 0 < abs(loss - exact) < 0.02


def test_odd_arguments_are_named(family):
    for call, message in [
        (lambda: with_reparametrisation(family, (0.0, 1.0)), r"scale=\(0.0, 1.0\)"),
        (lambda: with_reparametrisation(family, (2.0, 1.0)), r"scale=\(2.0, 1.0\)"),
        (lambda: with_label_noise(family, (0.0, 1.5)), r"rate=\(0.0, 1.5\)"),
        (lambda: with_gradient_noise(family, (0.0, 1.0)), r"std=\(0.0, 1.0\)"),
        (lambda: with_reduced_batches(family, -1), "max_halvings=-1"),
        (lambda: with_dirichlet_workers(family, 0.0, 2), "alpha=0.0"),
        (lambda: with_dirichlet_workers(family, 1.0, 0), "num_workers=0"),
        (lambda: with_dtype(family, jnp.int32), "dtype="),
        (
            lambda: build(with_dirichlet_workers(family, 1.0, 2))[1].sample_batch(jax.random.key(0), "train", (3, 4)),
            "num_workers=2",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    unlabelled = family._replace(data={split: {"image": family.data[split]["image"]} for split in SPLITS})
    for wrapper in (with_label_noise, lambda f: with_dirichlet_workers(f, 1.0, 2)):
        with pytest.raises(ValueError, match="have no labels"):
            wrapper(unlabelled)
