import jax
import numpy as np
import optax
import pytest
import scipy.optimize

from tasks.base import SPLITS
from tasks.families.theory.attention_svm import attention_svm, margins_of, max_margin, selection_data
from tests.tasks.training_curves import training_curves


def assert_optimal(constraints, w):
    """The conditions of Karush, Kuhn and Tucker, which suffice as the problem is convex: w is feasible, and a
    combination of the constraints that are tight, with weights that are not negative."""
    slack = constraints @ w - 1
    assert slack.min() > -1e-8
    tight = constraints[slack < 1e-8]
    assert len(tight) > 0
    _, distance = scipy.optimize.nnls(tight.T, w)
    assert distance < 1e-7 * np.linalg.norm(w)


def test_max_margin_solution_in_closed_form():
    np.testing.assert_allclose(max_margin(np.array([[2.0, 0.0], [5.0, 0.0]])), [0.5, 0], atol=1e-12)
    np.testing.assert_allclose(max_margin(np.array([[1.0, 1.0], [1.0, -1.0]])), [1, 0], atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_max_margin_solution_is_optimal(seed):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((60, 12))
    a = a[a @ rng.standard_normal(12) > 0.3]
    assert_optimal(a, max_margin(a))


def test_the_tasks_solution_is_that_of_its_training_set():
    family = attention_svm(num_tokens=4, num_features=5, num_train=20)
    constraints = []
    rows = {leaf: np.asarray(value, np.float64) for leaf, value in family.data["train"].items()}
    for tokens, query, relevant in zip(rows["tokens"], rows["query"], rows["relevant"].astype(int), strict=True):
        constraints += [np.outer(tokens[relevant] - tokens[t], query).ravel() for t in range(4) if t != relevant]
    np.testing.assert_allclose(margins_of(family.data["train"]), constraints, rtol=1e-12)
    w = np.asarray(family.sample(jax.random.key(0))["max_margin"], np.float64).ravel()
    assert_optimal(np.asarray(constraints), max_margin(np.asarray(constraints)))
    np.testing.assert_allclose(w, max_margin(np.asarray(constraints)), atol=1e-6)


def test_contradicting_examples_have_no_solution():
    with pytest.raises(ValueError, match="2 constraints"):
        max_margin(np.array([[1.0, 0.0], [-1.0, 0.0]]))


def test_loss_and_metrics_are_the_written_out_formulas():
    family = attention_svm(num_tokens=4, num_features=5, num_train=20)
    task = family.task(family.sample(jax.random.key(0)), family.data)
    w = jax.random.normal(jax.random.key(1), (5, 5))
    batch = family.eval_batch(family.data, "test")
    rows = {leaf: np.asarray(value, np.float64) for leaf, value in batch.items()}
    losses, hits = [], []
    for tokens, query, relevant, label in zip(
        *(rows[k] for k in ("tokens", "query", "relevant", "label")), strict=True
    ):
        scores = np.exp(tokens @ np.asarray(w, np.float64) @ query)
        output = 3 * (scores / scores.sum()) @ tokens[:, 0]
        losses.append(np.log1p(np.exp(-label * output)))
        hits.append(scores.argmax() == relevant)
    metrics = jax.jit(task.metrics)({"key_query": w}, batch)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["selection_accuracy"], np.mean(hits), rtol=1e-6)
    np.testing.assert_allclose(task.loss({"key_query": w}, jax.random.key(0), batch), metrics["loss"], rtol=1e-6)
    svm = family.sample(jax.random.key(0))["max_margin"]
    np.testing.assert_allclose(jax.jit(task.metrics)({"key_query": 7 * svm}, batch)["max_margin_cosine"], 1, rtol=1e-6)


def test_only_the_relevant_token_knows_the_label():
    data = selection_data(5, 8, 64)
    for split in SPLITS:
        rows = data[split]
        n = len(rows["label"])
        values = rows["tokens"][..., 0]
        np.testing.assert_array_equal(values[np.arange(n), rows["relevant"]], rows["label"])
        assert (np.abs(values).sum(axis=1) == 1).all()
        assert abs(rows["label"].mean()) < 4 * n**-0.5 and len(np.unique(rows["relevant"])) == 5
    tokens = np.concatenate([data[split]["tokens"] for split in SPLITS])
    assert len(np.unique(tokens[:, 0, 1])) == len(tokens)


@pytest.mark.slow
def test_gradient_descent_turns_to_the_max_margin_solution():
    """Steps of fixed length, as the gradient vanishes exponentially; the published direction, not a rate."""
    steps = optax.chain(optax.normalize_by_update_norm(), optax.scale(-0.02))
    curves = training_curves(attention_svm(num_features=6, num_train=24), steps, 1500, 500)
    cosine = curves["train"]["max_margin_cosine"]
    assert (np.diff(cosine) > 0).all() and cosine[0] < 0.5 and cosine[-1] > 0.98
    assert curves["train"]["selection_accuracy"][-1] == 1
    # Perfect attention costs log(1 + e^-3).
    np.testing.assert_allclose(curves["train"]["loss"][-1], np.log1p(np.exp(-3)), rtol=1e-3)


@pytest.mark.parametrize("arguments", [{"num_tokens": 1}, {"num_features": 1}, {"num_train": 0}])
def test_bad_arguments(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        attention_svm(**arguments)
