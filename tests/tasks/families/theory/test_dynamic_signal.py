import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks.base import SPLITS
from tasks.families.theory.dynamic_signal import Architecture, dynamic_signal, signal_data
from tests.tasks.training_curves import training_curves

K, D = 3, 4
SHAPES: dict[Architecture, tuple[int, int]] = {"cnn": (1, D), "local": (K, D), "mlp": (K, K * D)}


def start(architecture):
    family = dynamic_signal(architecture, num_patches=K, patch_size=D)
    config = family.sample(jax.random.key(0))
    return family, family.task(config, family.data), np.asarray(config["signal"], np.float64)


@pytest.mark.parametrize("architecture", SHAPES)
def test_loss_and_metrics_are_the_written_out_formulas(architecture):
    family, task, signal = start(architecture)
    params = {
        "filters": jax.random.normal(jax.random.key(1), SHAPES[architecture]),
        "threshold": jnp.full(1, 0.3, jnp.float32),
    }
    batch = family.eval_batch(family.data, "test")
    filters = np.asarray(params["filters"], np.float64)
    losses, hits = [], []
    for noise, patch, label in zip(*(np.asarray(batch[k]) for k in ("noise", "patch", "label")), strict=True):
        x = noise.astype(np.float64)
        x[patch] += label * signal
        output = 0.0
        for i in range(K):
            h = x.ravel() @ filters[i] if architecture == "mlp" else x[i] @ filters[i % len(filters)]
            output += np.sign(h) * max(abs(h) - 0.3, 0)
        losses.append(np.log1p(np.exp(-label * output)))
        hits.append(label * output > 0)
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], np.mean(hits), rtol=1e-6)
    share = ((filters.reshape(-1, D) @ signal) ** 2).sum() / (filters**2).sum()
    np.testing.assert_allclose(metrics["signal_share"], share, rtol=1e-5)
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), metrics["loss"], rtol=1e-6)


def test_each_network_contains_the_one_before():
    """Equal filters make the local network a convolution; filters that see one patch make the full one local."""
    losses = []
    shared = jax.random.normal(jax.random.key(1), (D,))
    for architecture in SHAPES:
        family, task, _ = start(architecture)
        per_patch = jnp.broadcast_to(shared, (K, D))
        filters = {
            "cnn": shared[None],
            "local": per_patch,
            "mlp": (jnp.eye(K)[..., None] * per_patch[:, None]).reshape(K, K * D),
        }[architecture]
        params = {"filters": filters, "threshold": jnp.full(1, 0.2, jnp.float32)}
        losses.append(task.loss(params, jax.random.key(0), family.eval_batch(family.data, "train")))
    np.testing.assert_allclose(losses[1:], losses[:1] * 2, rtol=1e-6)


@pytest.mark.parametrize("architecture, number", [("cnn", 17), ("local", 129), ("mlp", 1025)])
def test_number_of_parameters(architecture, number):
    family = dynamic_signal(architecture)
    params = jax.eval_shape(family.task({}, family.data).init, jax.random.key(0))
    assert sum(p.size for p in jax.tree.leaves(params)) == number


def test_data_are_what_they_should_be():
    data = signal_data(8, 16, 0.3, 2000)
    for split in SPLITS:
        rows = data[split]
        assert rows["label"].sum() == 0
        np.testing.assert_allclose(np.bincount(rows["patch"], minlength=8) / len(rows["patch"]), 1 / 8, atol=0.06)
        np.testing.assert_allclose(rows["noise"].std(), 0.3, rtol=0.02)
    rows = np.concatenate([data[split]["noise"][:, 0] for split in SPLITS])
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_a_constant_guess_costs_the_uninformed_loss():
    family, task, _ = start("local")
    params = jax.tree.map(jnp.zeros_like, task.init(jax.random.key(0)))
    loss = task.loss(params, jax.random.key(0), family.eval_batch(family.data, "test"))
    np.testing.assert_allclose(loss, family.uninformed_loss, rtol=1e-6)


@pytest.mark.slow
def test_weight_sharing_needs_fewer_examples():
    """All three fit 128 examples; on new ones the convolution is better by far. That the local network is better than
    the full one, as published, does not show at this size: 72 and 77 % against 91 %."""
    clean = {}
    for architecture in SHAPES:
        runs = [
            training_curves(dynamic_signal(architecture, num_train=128), optax.adam(0.01), 1000, 1000, seed=seed)
            for seed in range(3)
        ]
        assert np.mean([run["train"]["accuracy"][-1] for run in runs]) > 0.95
        clean[architecture] = np.mean([run["test"]["accuracy"][-1] for run in runs])
    assert clean["cnn"] > clean["local"] + 0.1 and clean["cnn"] > clean["mlp"] + 0.1


@pytest.mark.parametrize("arguments", [{"num_patches": 0}, {"noise_std": 0.0}, {"num_train": 0}])
def test_bad_arguments(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        dynamic_signal(**arguments)


def test_an_unknown_network_names_the_known_ones(unchecked_annotations):
    with pytest.raises(ValueError, match="architecture='fcn': use one of cnn, local, mlp"):
        dynamic_signal("fcn")  # pyright: ignore[reportArgumentType]
