"""Objectives on noisy views of the inputs, and of inputs against what is none.

nt_xent            -log softmax of cos(z_i, z_i') / t among the features of other inputs (Chen et al. 2020, arXiv
                   2002.05709), here the 7 next ones of the batch in both views, so that its cost is linear
vicreg             |z - z'|^2, a hinge on every feature's standard deviation, squared covariances (Bardes et al.
                   2021, arXiv 2105.04906)
transformation     which of a few fixed rotations and flips, or permutations with signs, was applied (Gidaris et al.
                   2018, arXiv 1803.07728)
correlation        1 - the mean squared canonical correlation of two networks' features of the inputs' halves
                   (Andrew et al. 2013, Deep CCA), a function of the whole batch
noise_contrastive  logistic loss of inputs against k noisy copies (Gutmann & Hyvarinen 2010; noise around the
                   input as Ceylan & Gutmann 2018); the network is the log-ratio of the densities
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import Batch
from tasks.families.drawn.objective.choices import Choices
from tasks.families.drawn.objective.rows import Net, Objective, Rows, normals, uniforms

_OTHERS = 7
_EPSILON = 1e-6


def two_views(choices: Choices, batch: Batch) -> tuple[Array, Array]:
    """Inputs with noise, in half of the problems with a quarter of the entries set to zero."""
    x, share = batch["x"], 0.25 if choices.few else 0.0
    uniform = uniforms(batch["seed"], 2 * x.shape[1], x).reshape(len(x), 2, -1)
    scale = 12**0.5 * (0.1 + 0.6 * choices.level) * choices.input_scale
    noise = scale * ((uniform - share) / (1 - share) - 0.5)
    views = jnp.where(uniform < share, 0, x[:, None] + noise)
    return views[:, 0], views[:, 1]


def _features(choices: Choices, net: Net, batch: Batch) -> tuple[Array, Array]:
    first, second = jnp.split(net("net", jnp.concatenate(two_views(choices, batch))), 2)
    return first, second


def nt_xent(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    temperature = float(rng.choice([0.1, 0.2, 0.5]))

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        first, second = (
            z * jax.lax.rsqrt(jnp.sum(z * z, axis=1, keepdims=True) + _EPSILON) for z in _features(choices, net, batch)
        )
        others = range(1, min(_OTHERS, len(first) - 1) + 1)
        aims = [second] + [jnp.roll(z, -shift, axis=0) for z in (first, second) for shift in others]
        logits = jnp.stack([jnp.sum(first * aim, axis=1) for aim in aims]) / temperature
        return jnp.mean(jax.nn.logsumexp(logits, axis=0) - logits[0]) / np.log(max(len(aims), 2)).item()

    return Objective({"net": (rows.x.shape[1], 2 * choices.size)}, {"x": rows.x}, loss, True)


def vicreg(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    invariance, decorrelation = float(rng.choice([0.5, 2.0])), float(rng.choice([0.1, 0.3]))

    def spread(z: Array) -> Array:
        z = z - jnp.mean(z, axis=0, keepdims=True)
        covariance = z.T @ z / len(z)
        variance = jnp.diagonal(covariance)
        hinge = jnp.mean(jax.nn.relu(1 - jnp.sqrt(variance + 1e-4)))
        return hinge + decorrelation / len(variance) * (jnp.sum(covariance**2) - jnp.sum(variance**2))

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        first, second = _features(choices, net, batch)
        return (spread(first) + spread(second)) / 2 + invariance * jnp.mean(jnp.square(first - second))

    return Objective({"net": (rows.x.shape[1], choices.size)}, {"x": rows.x}, loss, True)


def transformation(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    number, size = 4 if choices.few else 8, rows.x.shape[1]
    signs = np.ones((number, size), np.float32)
    if choices.inputs == "images":
        places = np.arange(64).reshape(8, 8)
        turned = [np.rot90(side, turns) for side in (places, places.T) for turns in range(4)]
        orders = np.stack([image.reshape(-1) for image in turned[:number]])
    else:
        orders = np.stack([rng.permutation(size) for _ in range(number)])
        signs = rng.choice(np.array([-1, 1], np.float32), (number, size))

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        x, which = batch["x"], (batch["seed"] % number).astype(jnp.int32)
        moved = jnp.take_along_axis(x, jnp.asarray(orders, jnp.int32)[which], axis=1)
        logits = net("net", moved * jnp.asarray(signs, x.dtype)[which])
        picked = jnp.sum(logits * jax.nn.one_hot(which, number, dtype=logits.dtype), axis=1)
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - picked) / np.log(number).item()

    return Objective({"net": (size, number)}, {"x": rows.x}, loss, True)


def orthonormal(features: Float[Array, "batch size"]) -> Float[Array, "batch size"]:
    """Columns centred and made orthonormal one after the other; a column that has nothing of its own is short."""
    columns: list[Array] = []
    for column in (features - jnp.mean(features, axis=0, keepdims=True)).T:
        for other in columns:
            column = column - jnp.sum(column * other) * other
        columns.append(column * jax.lax.rsqrt(jnp.sum(column**2) + 1e-4 * len(column)))
    return jnp.stack(columns, axis=1)


def correlation(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    del rng
    half, size = rows.x.shape[1] // 2, min(choices.size, 4)

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        first = orthonormal(net("first", batch["x"][:, :half]))
        second = orthonormal(net("second", batch["x"][:, half:]))
        return 1 - jnp.sum(jnp.square(first.T @ second)) / size

    return Objective({"first": (half, size), "second": (half, size)}, {"x": rows.x}, loss)


def noise_contrastive(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    del rng
    number, kept = 1 if choices.few else 3, 0.3 + 0.5 * choices.level
    spread = (1 - kept**2) ** 0.5 * rows.x[: rows.num_train].std(0)
    constant = np.log(1 + number).item() + number * np.log((1 + number) / number).item()

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        x = batch["x"]
        noise = normals(batch["seed"], number * x.shape[1], x).reshape(len(x), number, -1)
        noise = kept * x[:, None] + noise * jnp.asarray(spread, x.dtype)[None, None]
        ratios = net("net", jnp.concatenate([x, noise.reshape(-1, x.shape[1])]))[:, 0] - np.log(number).item()
        real, unreal = jnp.mean(jax.nn.softplus(-ratios[: len(x)])), jnp.mean(jax.nn.softplus(ratios[len(x) :]))
        return (real + number * unreal) / constant

    return Objective({"net": (rows.x.shape[1], 1)}, {"x": rows.x}, loss, True)
