"""Diagnostics of what a classifier puts out and of its last layer, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.diagnostics.class_outputs import centred_logits, features, last_layer
from eval.diagnostics.input_sensitivity import input_sensitivity
from eval.diagnostics.neural_collapse import NEURAL_COLLAPSE, class_norms
from eval.diagnostics.ntk_drift import ntk_drift, tangent_kernel
from tests.eval.diagnostics.tiny_tasks import classifier, inputs, linear_logits, measured, two_layers

RNG = np.random.default_rng(3)
CENTRE_4 = np.eye(4) - 1 / 4


def test_logits_are_recovered_from_the_loss():
    snapshot = classifier()
    found = measured(snapshot, lambda s: jax.vmap(lambda example: centred_logits(s, s.params, example))(s.batch))
    logits = linear_logits(snapshot)
    np.testing.assert_allclose(found, logits - logits.mean(axis=1, keepdims=True), atol=2e-6)


def test_features_are_recovered_from_the_loss():
    x, labels = RNG.normal(size=(9, 5)), np.arange(9) % 4
    snapshot = two_layers(x, labels)
    expected = x @ np.float64(snapshot.params["Dense_2"])
    np.testing.assert_allclose(measured(snapshot, features), expected, rtol=1e-4, atol=1e-5)
    assert last_layer(snapshot.params, 4) == (jax.tree_util.DictKey("Dense_10"),)
    assert last_layer(snapshot.params, 7) is None


def test_input_sensitivity_of_softmax_regression():
    # z = x K + b, centred: the Jacobian is the kernel, less its mean over the classes.
    snapshot = classifier()
    kernel = np.float64(snapshot.params["Dense_0"]["kernel"])
    expected = np.linalg.norm(kernel - kernel.mean(axis=1, keepdims=True), 2)
    assert float(measured(snapshot, input_sensitivity)) == pytest.approx(expected, rel=1e-4)


def collapse(h, labels, head):
    """NC1 to NC3 by the definitions, with every matrix written out."""
    means = np.stack([h[labels == c].mean(axis=0) for c in range(4)])
    m = means - means.mean(axis=0)
    within = sum(np.outer(x - means[c], x - means[c]) for x, c in zip(h, labels, strict=True)) / len(h)
    between = m.T @ m / 4
    norms = np.linalg.norm(m, axis=1)
    cosines = m @ m.T / np.outer(norms, norms)
    return {
        "nc1": np.trace(within @ np.linalg.pinv(between, rcond=1e-8)) / 4,
        "nc2_norms": norms.std() / norms.mean(),
        "nc2_angles": np.mean([abs(cosines[c, d] + 1 / 3) for c in range(4) for d in range(4) if c != d]),
        "nc3": np.linalg.norm(head / np.linalg.norm(head) - m.T / np.linalg.norm(m)),
        "smallest_class_norm": norms.min(),
        "largest_class_norm": norms.max(),
    }


LABELS = RNG.permutation(np.arange(40) % 4)
ALIKE = two_layers(np.zeros((40, 4)), LABELS, width=4)
"""What all the cases of neural collapse are shaped like, so that one program measures them."""


@jax.jit
def collapse_of(params, batch):
    snapshot = ALIKE._replace(params=params, batch=batch)
    return {d.name: d.measure(snapshot) for d in NEURAL_COLLAPSE} | {"norms": class_norms(snapshot)}


def found_collapse(x, labels, first, last):
    params = {"Dense_2": jnp.float32(first), "Dense_10": jnp.float32(last)}
    return collapse_of(params, {"x": jnp.float32(x), "label": jnp.asarray(labels, jnp.int32)})


def test_neural_collapse_by_its_definitions():
    x = RNG.normal(size=(40, 4)) + 2 * RNG.normal(size=(4, 4))[LABELS]
    first, last = RNG.normal(size=(2, 4, 4))
    found = found_collapse(x, LABELS, first, last)
    for measure, value in collapse(x @ first, LABELS, last).items():
        assert float(found[measure]) == pytest.approx(value, rel=1e-3), measure


def test_a_collapsed_network_has_no_distance_from_the_simplex():
    # Features on the corners of a simplex, and a last layer that is their transpose at another scale.
    found = found_collapse(CENTRE_4[LABELS], LABELS, np.eye(4), 2.5 * CENTRE_4)
    for measure in ("nc1", "nc2_norms", "nc2_angles", "nc3"):
        assert float(found[measure]) == pytest.approx(0, abs=2e-6), measure
    np.testing.assert_allclose(found["norms"], np.sqrt(3) / 2, rtol=1e-5)


def test_a_class_that_is_not_in_the_batch_does_not_count():
    labels = LABELS % 3
    corners = np.pad(np.eye(3) - 1 / 3, (0, 1))
    last = corners + np.array([0, 0, 0, 9.0])
    found = found_collapse(corners[labels], labels, np.eye(4), last)
    # Sizes differ, which a mean over examples would show.
    for measure in ("nc1", "nc2_norms", "nc2_angles", "nc3"):
        assert float(found[measure]) == pytest.approx(0, abs=2e-6), measure
    assert np.isnan(found["norms"][3]) and np.isfinite(found["norms"][:3]).all()


def test_a_run_that_has_blown_up_has_no_collapse():
    found = found_collapse(np.ones((40, 4)), LABELS, np.full((4, 4), np.nan), np.eye(4))
    assert all(np.isnan(value).all() for value in found.values())


def test_the_tangent_kernel_of_a_linear_classifier_never_turns():
    # Every class's logits have the gradient (x, 1) in its own column: the kernel is (C - 1)(x x' + 1) everywhere.
    snapshot = classifier()
    x = inputs(snapshot)
    moved = snapshot._replace(params=jax.tree.map(lambda p: 3 * p + 1, snapshot.params))
    kernel, drift = measured(moved, lambda s: tangent_kernel(s, s.params), ntk_drift)
    np.testing.assert_allclose(kernel, 2 * (x @ x.T + 1), rtol=1e-4)
    assert drift == pytest.approx(0, abs=1e-5)


def test_the_tangent_kernel_of_two_linear_layers():
    # z = x A B: gradients x (x) B_c in A and (x A) (x) e_c in B, B and e_c centred over the classes.
    x, labels = RNG.normal(size=(8, 5)), np.arange(8) % 4
    start = two_layers(x, labels)
    now = {name: leaf + jnp.float32(RNG.normal(size=leaf.shape)) for name, leaf in start.params.items()}

    def kernel(params):
        h, head = x @ np.float64(params["Dense_2"]), np.float64(params["Dense_10"]) @ CENTRE_4
        return (x @ x.T) * np.sum(head**2) + 3 * (h @ h.T)

    h = np.eye(8) - 1 / 8
    one, other = (h @ kernel(p) @ h for p in (start.params, now))
    expected = 1 - np.sum(one * other) / np.sqrt(np.sum(one * one) * np.sum(other * other))
    assert expected > 0.01
    found, drift = measured(start._replace(params=now), lambda s: tangent_kernel(s, s.params), ntk_drift)
    np.testing.assert_allclose(found, kernel(now), rtol=1e-3, atol=1e-3)
    assert drift == pytest.approx(expected, rel=1e-3)
