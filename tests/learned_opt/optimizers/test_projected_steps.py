"""Nero, AdamP, SGDP and perpGrad against NumPy loops, and their invariants."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.optimizers.adamp import adamp
from learned_opt.optimizers.nero import SIZE_OF_ZEROS, nero
from learned_opt.optimizers.perp_grad import perp_adam, perp_grad
from learned_opt.optimizers.sgdp import sgdp

NUM_STEPS = 4


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's Adam raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


def draw(seed=0):
    """A convolution's kernel, a vector and a vector of zeros; gradients that are at right angles to every channel of
    the kernel, then to the kernel as a whole, then to nothing."""
    rng = np.random.default_rng(seed)
    params = {"kernel": rng.normal(size=(2, 3, 4)), "vector": rng.normal(size=5), "zeros": np.zeros(3)}
    gradients = []
    for i in range(NUM_STEPS):
        gradient = {name: rng.normal(size=p.shape) for name, p in params.items()}
        gradient["kind"] = ("channel", "tensor", "none", "channel")[i]
        gradients.append(gradient)
    return params, gradients


def turned(gradient, kernel):
    """The kernel's gradient without what the kind says."""
    g, w = gradient["kernel"], kernel
    if gradient["kind"] == "channel":
        return g - w * (g * w).sum((0, 1)) / (w * w).sum((0, 1))
    if gradient["kind"] == "tensor":
        g = g - w * (g * w).sum() / (w * w).sum()
        # At right angles as a whole, while two channels are not.
        g[..., 0] += w[..., 0] / (w[..., 0] ** 2).sum()
        g[..., 1] -= w[..., 1] / (w[..., 1] ** 2).sum()
    return g


def compare(optimizer, loop, rtol=2e-5):
    """`loop` is (parameter, gradient of step t, memory, t) -> parameter after it; every tensor has its memory."""
    params, gradients = draw()
    update = jax.jit(optimizer.update)
    found: Any = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
    state, memories = optimizer.init(found), {name: {} for name in params}
    for t, given in enumerate(gradients, start=1):
        gradient = {**{n: given[n] for n in params}, "kernel": turned(given, params["kernel"])}
        wide = jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), gradient)
        updates, state = update(wide, state, found)
        found = optax.apply_updates(found, updates)
        params = {name: loop(p, gradient[name], memories[name], t) for name, p in params.items()}
        for name, p in params.items():
            np.testing.assert_allclose(found[name], p, rtol=rtol, atol=1e-6, err_msg=f"{name}, step {t}")
    return found


def test_nero_equals_a_loop_over_neurons():
    def loop(p, g, memory, t):
        neurons = range(p.shape[-1]) if p.ndim > 1 else range(p.size)
        p = p.copy()
        if t == 1:
            memory["size"] = 1.0 if p.ndim > 1 else (np.abs(p).mean() or SIZE_OF_ZEROS)
        for i in neurons:
            v = memory[i] = 0.9 * memory.get(i, 0) + 0.1 * np.sum(g[..., i] ** 2)
            p[..., i] -= 0.02 * memory["size"] * g[..., i] / np.sqrt(v / (1 - 0.9**t))
            if p.ndim > 1:
                p[..., i] -= p[..., i].mean()
                p[..., i] /= np.linalg.norm(p[..., i])
        return p

    found = compare(nero(0.02, b2=0.9), loop)
    np.testing.assert_allclose(np.linalg.norm(found["kernel"], axis=(0, 1)), 1, rtol=1e-6)


def test_neros_first_step_turns_a_projected_neuron_by_its_rate():
    """|step| = lr at right angles to a neuron of norm 1: the tangent of the angle is lr."""
    column = np.array([[1.0], [-1.0], [0.0]], np.float32) / np.sqrt(2)
    gradient = np.array([[1.0], [1.0], [-2.0]], np.float32)
    optimizer: Any = nero(0.1)
    updates, _ = optimizer.update(jnp.asarray(gradient), optimizer.init(column), column)
    cosine = np.sum(column * (column + np.asarray(updates)))
    np.testing.assert_allclose(np.tan(np.arccos(cosine)), 0.1, rtol=1e-3)


def test_nero_takes_a_row_of_single_entries_for_a_vector():
    """Less its mean a neuron of one entry is nothing, and a layer with one input was dead after a step."""
    vector, gradient = jnp.float32([2.0, -1.0, 0.5]), jnp.float32([0.3, 0.2, -0.1])
    optimizer: Any = nero(0.1)
    expected, _ = optimizer.update(gradient, optimizer.init(vector), vector)
    found, _ = optimizer.update(gradient[None], optimizer.init(vector[None]), vector[None])
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def projected(d, g, w, delta=0.1):
    """d of a tensor with the channels last, and whether it was projected, channel by channel in loops."""
    if w.ndim < 2:
        return d, False
    flat = [(x.reshape(-1, x.shape[-1])) for x in (d, g, w)]
    channels = [tuple(x[:, i] for x in flat) for i in range(w.shape[-1])]
    whole = [tuple(x.reshape(-1) for x in (d, g, w))]
    for views in (channels, whole):
        cosines = [abs(g @ w) / (np.linalg.norm(g) * np.linalg.norm(w)) for _, g, w in views]
        if max(cosines) < delta / np.sqrt(len(views[0][0])):
            done = [d - (d @ w) / (w @ w) * w for d, _, w in views]
            return (np.stack(done, axis=-1) if views is channels else done[0]).reshape(w.shape), True
    return d, False


def test_adamp_equals_a_loop_over_channels():
    kinds = []

    def loop(p, g, memory, t):
        memory["m"] = 0.8 * memory.get("m", 0) + 0.2 * g
        memory["v"] = 0.9 * memory.get("v", 0) + 0.1 * g**2
        d = memory["m"] / (1 - 0.8**t) / (np.sqrt(memory["v"] / (1 - 0.9**t)) + 1e-6)
        d, was_projected = projected(d, g, p)
        kinds.extend([was_projected] * (p.ndim > 1))
        return p * (1 - 0.05 * 0.3 * (0.1 if was_projected else 1)) - 0.05 * d

    compare(adamp(0.05, b1=0.8, b2=0.9, eps=1e-6, weight_decay=0.3), loop)
    assert kinds == [True, True, False, True]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgdp_equals_a_loop_over_channels(nesterov):
    def loop(p, g, memory, t):
        b = memory["b"] = 0.8 * memory.get("b", 0) + g
        d, was_projected = projected(g + 0.8 * b if nesterov else b, g, p)
        return p * (1 - 0.05 * 0.3 * (0.1 if was_projected else 1) / 0.2) - 0.05 * d

    compare(sgdp(0.05, momentum=0.8, weight_decay=0.3, nesterov=nesterov), loop)


def test_without_right_angles_adamp_is_adam_and_sgdp_is_sgd():
    ours: Any
    theirs: Any
    for ours, theirs in ((adamp(0.1, delta=0.0), optax.adam(0.1)), (sgdp(0.1, delta=0.0), optax.sgd(0.1, 0.9))):
        params = jnp.ones((2, 3))
        states = [optimizer.init(params) for optimizer in (ours, theirs)]
        for i in range(3):
            gradient = jax.random.normal(jax.random.key(i), (2, 3))
            found, states[0] = ours.update(gradient, states[0], params)
            expected, states[1] = theirs.update(gradient, states[1], params)
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_perp_grad_by_hand():
    w, g = jnp.float32([3.0, 4.0]), jnp.float32([10.0, 5.0])
    # w . g = 50, w . w = 25: g' = (10 - 6, 5 - 8) = (4, -3) of norm 5, scaled to |g| = sqrt(125).
    optimizer: Any = perp_grad()
    found, _ = optimizer.update(g, optimizer.init(w), w)
    np.testing.assert_allclose(found, np.array([4.0, -3.0], np.float32) * np.sqrt(125) / 5, rtol=1e-6)
    along, _ = optimizer.update(2 * w, optimizer.init(w), w)
    assert float(jnp.linalg.norm(along)) <= 2 * float(jnp.linalg.norm(w)) * (1 + 1e-6)


def test_perp_adam_is_adam_on_gradients_that_are_perpendicular_already():
    w, g = jnp.float32([3.0, 4.0]), jnp.float32([-4.0, 3.0])
    ours: Any = perp_adam(0.1)
    adam: Any = optax.adam(0.1)
    found, _ = ours.update(g, ours.init(w), w)
    expected, _ = adam.update(g, adam.init(w), w)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
