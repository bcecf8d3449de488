"""Objectives that restore or model the inputs, or the density of an answer.

    denoising       squared error of the inputs restored from noisy ones
    masked          squared error of the entries that were set to zero
    vae             squared error of inputs restored from a sample of a Gaussian code, and the code's divergence from a
                    standard normal one (Kingma & Welling 2013, arXiv 1312.6114), the decoder's variance fixed
    mixture         -log density of an answer with several branches under a mixture of Gaussians (Bishop 1994)
    autoregressive  -log probability of the signs of the entries, each given those before it, by masked matrices

Squared errors are divided by the inputs' variance, -log probabilities by the entropy of independent signs. Standard
deviations of mixtures are at least `LEAST`, so that their loss has a bound, which is its zero; its unit is that of one
Gaussian for all inputs.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import Batch
from tasks.families.drawn.objective.choices import Choices
from tasks.families.drawn.objective.rows import (
    Net,
    Objective,
    Rows,
    answers,
    normals,
    standardised,
    uniforms,
    variance_of,
)

LEAST = 0.1


def denoising(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    del rng
    size, variance = rows.x.shape[1], variance_of(rows.x, rows)
    scale = (0.2 + 0.8 * choices.level) * rows.scale

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        x = batch["x"]
        restored = net("net", x + scale * normals(batch["seed"], size, x))
        return jnp.mean(jnp.sum(jnp.square(restored - x), axis=1)) / variance

    return Objective({"net": (size, size)}, {"x": rows.x}, loss, True)


def masked(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    del rng
    size, share = rows.x.shape[1], 0.2 + 0.5 * choices.level
    variance = share * variance_of(rows.x, rows)

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        x = batch["x"]
        hidden = uniforms(batch["seed"], size, x) < share
        restored = net("net", jnp.where(hidden, 0, x))
        return jnp.mean(jnp.sum(jnp.where(hidden, jnp.square(restored - x), 0), axis=1)) / variance

    return Objective({"net": (size, size)}, {"x": rows.x}, loss, True)


def vae(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    del rng
    size, code, variance = rows.x.shape[1], choices.size, variance_of(rows.x, rows)
    weight = 2 * (0.02 + 0.2 * choices.level) / size

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        x = batch["x"]
        mean, log_variance = jnp.split(net("encoder", x), 2, axis=1)
        log_variance = 4 * jnp.tanh(log_variance / 4)
        sample = mean + jnp.exp(log_variance / 2) * normals(batch["seed"], code, x)
        error = jnp.sum(jnp.square(net("decoder", sample) - x), axis=1) / variance
        divergence = jnp.sum(jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance, axis=1) / 2
        return jnp.mean(error + weight * divergence)

    return Objective({"encoder": (size, 2 * code), "decoder": (code, size)}, {"x": rows.x}, loss, True)


def mixture(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    branches, components = int(rng.choice([1, 2])), 2 if choices.few else 4
    y = answers(rows, rng, branches)
    y = np.take_along_axis(y, rng.integers(branches, size=(len(y), 1)), axis=1)
    y = standardised(y + choices.noise / 2 * rng.standard_normal(y.shape), rows).astype(np.float32)
    least = np.log(np.sqrt(2 * np.pi) * LEAST).item()
    constant = (0.5 * np.log(2 * np.pi * np.e)).item() - least

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        logits, mean, spread = jnp.split(net("net", batch["x"]), 3, axis=1)
        # Means apart at the start, of components that are otherwise alike.
        mean = mean + jnp.linspace(-1, 1, components, dtype=mean.dtype)[None]
        spread = LEAST + jax.nn.softplus(spread)
        terms = logits - jnp.log(spread / LEAST) - jnp.square((batch["y"] - mean) / spread) / 2
        surprise = jax.nn.logsumexp(logits, axis=1) - jax.nn.logsumexp(terms, axis=1)
        return jnp.mean(surprise) / constant

    return Objective({"net": (rows.x.shape[1], 3 * components)}, {"x": rows.x, "y": y}, loss)


def autoregressive(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    del rng
    signs, size = np.where(rows.x > 0, 1, -1).astype(np.float32), rows.x.shape[1]
    share = np.clip((signs[: rows.num_train] > 0).mean(0), 1e-6, 1 - 1e-6)
    entropy = float(-np.sum(share * np.log(share) + (1 - share) * np.log(1 - share)))

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        logits = net("net", choices.input_scale * batch["x"])
        return jnp.mean(jnp.sum(jax.nn.softplus(-logits * batch["x"]), axis=1)) / entropy

    return Objective({"net": (size, size)}, {"x": signs}, loss)
