import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks.base import SPLITS
from tasks.families.theory.xor_clusters import bayes_accuracy, clusters, xor_clusters
from tests.tasks.training_curves import training_curves


def test_the_best_classifier_reaches_the_bayes_accuracy():
    """The classifier that knows the means, on many clean examples; the means from averages over the clusters."""
    data = clusters(num_features=5, separation=1.5, flip_rate=0.0, num_train=40_000)
    x, label = data["train"]["x"].astype(np.float64), data["train"]["label"]
    # Within a class the covariance is I + mu mu^T: its first eigenvector is the direction of the class's means.
    directions = [np.linalg.eigh(np.cov(x[label == sign].T))[1][:, -1] for sign in (1, -1)]
    guess = np.where(abs(x @ directions[0]) > abs(x @ directions[1]), 1, -1)
    standard_error = 0.5 / 40_000**0.5
    assert abs((guess == label).mean() - bayes_accuracy(1.5)) < 4 * standard_error
    assert bayes_accuracy(0.0) == 0.5 and bayes_accuracy(4.0) == pytest.approx(0.99534, abs=1e-5)


def test_clusters_have_the_stated_means():
    data = clusters(num_features=40, separation=4.0, flip_rate=0.0, num_train=40_000)["train"]
    # E[x x^T] = I + (mu_1 mu_1^T + mu_2 mu_2^T) / 2: two eigenvalues 1 + 4^2 / 2, the rest 1.
    eigenvalues = np.linalg.eigvalsh(data["x"].T.astype(np.float64) @ data["x"] / 40_000)
    np.testing.assert_allclose(eigenvalues[-2:], 9.0, rtol=0.03)
    np.testing.assert_allclose(eigenvalues[:-2], 1.0, rtol=0.1)
    assert data["label"].sum() == 0


def test_only_training_labels_are_flipped_and_at_the_stated_rate():
    noisy, clean = (clusters(40, 4.0, rate, 200) for rate in (0.1, 0.0))
    assert (noisy["train"]["label"] != clean["train"]["label"]).sum() == 20
    right = abs(bayes_accuracy(4.0))
    for split in SPLITS[1:]:
        x, label = noisy[split]["x"].astype(np.float64), noisy[split]["label"]
        directions = [np.linalg.eigh(np.cov(x[label == sign].T))[1][:, -1] for sign in (1, -1)]
        guess = np.where(abs(x @ directions[0]) > abs(x @ directions[1]), 1, -1)
        assert (guess == label).mean() > right - 0.02
    rows = np.concatenate([noisy[split]["x"] for split in SPLITS])
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_loss_and_accuracy_are_the_written_out_formulas():
    family = xor_clusters(num_features=6, width=4, num_train=16)
    task = family.task({}, family.data)
    params = {"hidden": jax.random.normal(jax.random.key(0), (6, 4))}
    batch = family.eval_batch(family.data, "train")
    x, label, hidden = (np.asarray(leaf, np.float64) for leaf in (batch["x"], batch["label"], params["hidden"]))
    output = np.maximum(x @ hidden, 0) @ np.array([0.5, 0.5, -0.5, -0.5])
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], np.log1p(np.exp(-label * output)).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], (np.sign(output) == label).mean())
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), metrics["loss"], rtol=1e-6)


def test_a_constant_guess_costs_the_uninformed_loss():
    family = xor_clusters()
    task = family.task({}, family.data)
    params = jax.tree.map(jnp.zeros_like, task.init(jax.random.key(0)))
    loss = task.loss(params, jax.random.key(0), family.eval_batch(family.data, "test"))
    np.testing.assert_allclose(loss, family.uninformed_loss, rtol=1e-6)


@pytest.mark.parametrize("arguments", [{"num_features": 1}, {"width": 3}, {"flip_rate": 0.5}])
def test_bad_arguments(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        xor_clusters(**arguments)


@pytest.mark.slow
def test_training_labels_are_memorised_long_before_clean_ones_are_predicted():
    """More features than examples, 10 % of the labels flipped: all of them are fitted within 20 steps of gradient
    descent, when every third clean label is still wrong; 9 of 10 are right ten times later (Xu et al. 2023)."""
    every = 2
    curves = training_curves(xor_clusters(2000, 64, 12.0, 0.1, 200), optax.sgd(0.1), 400, every)
    train, clean = curves["train"]["accuracy"], curves["test"]["accuracy"]
    memorised, generalises = every * np.argmax(train == 1), every * np.argmax(clean >= 0.9)
    assert 0 < memorised <= 20 and clean[memorised // every] < 0.75
    assert generalises >= 10 * memorised and (train[memorised // every :] == 1).all()
