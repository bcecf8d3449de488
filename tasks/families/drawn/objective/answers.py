"""Objectives on answers that are neither classes nor means.

    distillation  divergence from a fixed random network's probabilities at a temperature (Hinton et al. 2015, arXiv
                  1503.02531)
    quantile      pinball loss of several quantiles of an answer whose spread depends on the input (Koenker & Bassett
                  1978)
    poisson       deviance of counts whose rate is the exponential of the output
    survival      deviance of times to an event, exponential or Weibull of known shape, of which some are censored
    ranking       -log probability of the order of two or four inputs (Plackett-Luce; of two the logistic loss)
    triplet       softplus(s (margin + |a - p|^2 - |a - n|^2)) of the features of an anchor, an input of its class and
                  one of another (after Schroff et al. 2015, arXiv 1503.03832, whose hinge would be zero somewhere)

All are divided by what the best constant answer has.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch
from tasks.families.drawn.objective.choices import Choices
from tasks.families.drawn.objective.rows import (
    EVALUATED_ROWS,
    Net,
    Objective,
    Rows,
    answers,
    rate_and_log,
    standardised,
)


def distillation(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    classes, temperature = choices.size + 2, float(rng.choice([1.0, 2.0, 4.0]))
    h = rows.x / rows.scale
    for _ in range(3):
        h = np.tanh(h @ (1.7 * rng.standard_normal((h.shape[1], 24)) * h.shape[1] ** -0.5))
    logits = 3 * standardised(h @ rng.standard_normal((24, classes)), rows) / temperature
    p = np.exp(logits - logits.max(1, keepdims=True))
    p = (p / p.sum(1, keepdims=True)).astype(np.float32)
    train = p[: rows.num_train].astype(np.float64)
    constant = float(np.mean(np.sum(train * np.log(np.maximum(train, 1e-30) / train.mean(0)), axis=1)))

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        p, log_q = batch["y"], jax.nn.log_softmax(net("net", batch["x"]) / temperature, axis=1)
        return jnp.mean(jnp.sum(p * (jnp.log(jnp.maximum(p, 1e-30)) - log_q), axis=1)) / constant

    return Objective({"net": (rows.x.shape[1], classes)}, {"x": rows.x, "y": p}, loss)


def quantile(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    levels = (0.1, 0.5, 0.9) if choices.few else (0.05, 0.25, 0.5, 0.75, 0.95)
    y = answers(rows, rng, 2)
    y = (y[:, :1] + choices.noise * np.exp(0.7 * y[:, 1:]) * rng.standard_normal((len(y), 1))).astype(np.float32)
    share = np.array(levels, np.float32)[None]
    above = y[: rows.num_train] - np.quantile(y[: rows.num_train], levels)[None]
    constant = float(np.mean(np.maximum(share * above, (share - 1) * above)))

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        above = batch["y"] - net("net", batch["x"])
        parts = jnp.asarray(levels, above.dtype)[None]
        return jnp.mean(jnp.maximum(parts * above, (parts - 1) * above)) / constant

    return Objective({"net": (rows.x.shape[1], len(levels))}, {"x": rows.x, "y": y}, loss)


def poisson(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    size = min(choices.size, 4)
    y = rng.poisson(np.exp(2 * choices.level + 0.8 * answers(rows, rng, size))).astype(np.float32)
    train = y[: rows.num_train].astype(np.float64)
    constant = float(2 * np.mean(train * np.log(np.maximum(train, 1) / train.mean(0))))

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        y, (rate, log_rate) = batch["y"], rate_and_log(net("net", batch["x"]), 5.0)
        return 2 * jnp.mean(y * (jnp.log(jnp.maximum(y, 1)) - log_rate) - (y - rate)) / constant

    return Objective({"net": (rows.x.shape[1], size)}, {"x": rows.x, "y": y}, loss)


def survival(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    """Outputs log rate^shape; of u = (rate time)^shape the deviance is u - log u - 1, or u where censored."""
    shape = 1.0 if choices.few else 2.5
    log_rate = shape * answers(rows, rng, 1)
    log_u = np.log(rng.exponential(size=log_rate.shape) + 1e-4) - log_rate
    censored = np.log(rng.exponential(size=log_rate.shape) + 1e-4) + (0.5 + 2 * choices.level) * shape
    event = (log_u <= censored).astype(np.float32)
    log_time = np.minimum(log_u, censored).astype(np.float32)
    t, seen = np.exp(log_time[: rows.num_train].astype(np.float64)), event[: rows.num_train] > 0
    u = t * seen.sum() / t.sum()
    constant = float(np.mean(np.where(seen, u - np.log(u) - 1, u)))

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        rate, log_rate = rate_and_log(net("net", batch["x"]), 5.0)
        u = rate * jnp.exp(batch["log_time"])
        return jnp.mean(u - batch["event"] * (log_rate + batch["log_time"] + 1)) / constant

    leaves = {"x": rows.x, "log_time": log_time, "event": event}
    return Objective({"net": (rows.x.shape[1], 1)}, leaves, loss)


def blocks(rows: Rows) -> list[np.ndarray]:
    """Indices of every split's rows."""
    ends = rows.num_train + EVALUATED_ROWS * np.arange(len(SPLITS))
    return np.split(np.arange(len(rows.x)), ends[:-1])


def ranking(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    number = 2 if choices.few else 4
    score = answers(rows, rng, 1, choices.noise)[:, 0]
    lists = np.concatenate(
        [np.stack([rng.permutation(block) for _ in range(number)], axis=1) for block in blocks(rows)]
    )
    lists = np.take_along_axis(lists, np.argsort(-score[lists], axis=1), axis=1)

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        x = batch["x"]
        f = net("net", x.reshape(-1, x.shape[2])).reshape(-1, number)
        surprise = [jax.nn.logsumexp(f[:, i:], axis=1) - f[:, i] for i in range(number - 1)]
        return jnp.mean(jnp.sum(jnp.stack(surprise), axis=0)) / math.log(math.factorial(number))

    return Objective({"net": (rows.x.shape[1], 1)}, {"x": rows.x[lists]}, loss)


def triplet(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    margin, sharpness = 0.3 + choices.level, float(rng.choice([1.0, 4.0]))
    triples = np.empty((len(rows.x), 3), np.int64)
    for block in blocks(rows):
        for label in np.unique(rows.labels[block]):
            same = block[rows.labels[block] == label]
            others = block[rows.labels[block] != label]
            triples[same] = np.stack([same, rng.choice(same, len(same)), rng.choice(others, len(same))], axis=1)

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        x = batch["x"]
        z = net("net", x.reshape(-1, x.shape[2])).reshape(len(x), 3, -1)
        if choices.few:
            z = z * jax.lax.rsqrt(jnp.sum(z * z, axis=2, keepdims=True) + 1e-6)
        near, far = (jnp.sum(jnp.square(z[:, 0] - z[:, i]), axis=1) for i in (1, 2))
        constant = math.log1p(math.exp(sharpness * margin))
        return jnp.mean(jax.nn.softplus(sharpness * (margin + near - far))) / constant

    return Objective({"net": (rows.x.shape[1], choices.size)}, {"x": rows.x[triples]}, loss)
