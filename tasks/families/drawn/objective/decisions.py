"""Objectives on values and actions. In two of them the gradient is not that of the number that is reported.

    temporal_difference  the gradient is that of (v(s) - [r + g v(s')])^2 with the bracket held fixed, no
                         function's (TD(0); Sutton 1988); the number is the squared error against the true values,
                         (1 - g P)^-1 r of a Markov chain over some of the inputs, met as often as the chain meets them
    policy               a known quadratic reward of an action, with curvatures i^-a in a rotated basis
    control              the summed cost of a few steps under known dynamics z <- z + (tanh(z) A + a B) / 2 + noise
    policy_gradient      the number is the expected regret of a softmax policy, the gradient its estimate from one
                         sampled action (REINFORCE; Williams 1992), in half of the problems less a baseline

Costs are divided by what the best constant action has (of control: no action), and values have variance 1.
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
    value_with_gradient_of,
    variance_of,
)

_STATES, _ACTIONS = 4, 2


def temporal_difference(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    number, discount = 48 if choices.few else 192, 0.6 + 0.35 * choices.level
    reward = answers(rows, rng, 1, choices.noise)[:number, 0].astype(np.float64)
    states = rows.x[:number]
    successors = rng.integers(number, size=(number, 3))
    if rng.random() < 0.5:
        # Along a direction of the inputs, so that neighbours have values alike.
        order = np.argsort(states @ rng.standard_normal(states.shape[1]))
        place = np.argsort(order)
        successors = order[(place[:, None] + rng.integers(-4, 5, size=(number, 3))) % number]
    chances = 0.95 * rng.dirichlet(np.ones(3), number)
    chain = np.full((number, number), 0.05 / number)
    np.add.at(chain, (np.arange(number)[:, None], successors), chances)
    met = np.linalg.matrix_power(chain, 512).mean(0)
    value = np.linalg.solve(np.eye(number) - discount * chain, reward)
    center = met @ value
    scale = np.sqrt(met @ (value - center) ** 2)
    value, reward = (value - center) / scale, (reward - (1 - discount) * center) / scale
    now = rng.choice(number, len(rows.x), p=met / met.sum())
    then = (rng.random((len(now), 1)) > np.cumsum(chain, axis=1)[now]).sum(1).clip(max=number - 1)

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        found = net("net", batch["x"])
        aim = batch["reward"] + discount * jax.lax.stop_gradient(net("net", batch["next_x"]))
        error = jnp.mean(jnp.square(found - batch["value"]))
        return value_with_gradient_of(error, jnp.mean(jnp.square(found - aim)))

    numbers = {"reward": reward[now, None].astype(np.float32), "value": value[now, None].astype(np.float32)}
    return Objective({"net": (states.shape[1], 1)}, {"x": states[now], "next_x": states[then]} | numbers, loss)


def policy(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    basis = np.linalg.qr(rng.standard_normal((choices.size, choices.size)))[0]
    basis = (basis * np.arange(1, choices.size + 1) ** -choices.level).astype(np.float32)
    best = answers(rows, rng, choices.size, choices.noise)
    constant = variance_of(best @ basis, rows)

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        action = net("net", batch["x"])
        if choices.few:
            action = 3 * jnp.tanh(action / 3)
        missed = (action - batch["y"]) @ jnp.asarray(basis, action.dtype)
        return jnp.mean(jnp.sum(jnp.square(missed), axis=1)) / constant

    return Objective({"net": (rows.x.shape[1], choices.size)}, {"x": rows.x, "y": best}, loss)


def control(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    steps, price = 3 if choices.few else 6, 0.02 + 0.2 * choices.level
    start = standardised(rows.x @ rng.standard_normal((rows.x.shape[1], _STATES)), rows).astype(np.float32)
    drift = rng.standard_normal((_STATES, _STATES)).astype(np.float32) * 0.7
    push = rng.standard_normal((_ACTIONS, _STATES)).astype(np.float32)

    def cost(net: Net, batch: Batch) -> Float[Array, ""]:
        z, total = batch["x"], 0
        a, b = jnp.asarray(drift, z.dtype), jnp.asarray(push, z.dtype)
        noise = 0.1 * normals(batch["seed"], steps * _STATES, z).reshape(len(z), steps, _STATES)
        for step in range(steps):
            # A third, as an untrained policy of large actions would cost much more than none.
            action = net("net", z) / 3
            z = z + (jnp.tanh(z) @ a + action @ b) / 2 + noise[:, step]
            total = total + jnp.sum(jnp.square(z), axis=1) + price * jnp.sum(jnp.square(action), axis=1)
        return jnp.mean(jnp.asarray(total))

    z, constant = start[: rows.num_train].astype(np.float64), 0.0
    for _ in range(steps):
        z = z + np.tanh(z) @ drift / 2 + 0.1 * rng.standard_normal(z.shape)
        constant += float(np.mean(np.sum(np.square(z), axis=1)))
    return Objective({"net": (_STATES, _ACTIONS)}, {"x": start}, lambda net, batch: cost(net, batch) / constant, True)


def policy_gradient(choices: Choices, rows: Rows, rng: np.random.Generator) -> Objective:
    number = choices.size + 2
    costs = answers(rows, rng, number)
    regret = costs - costs.min(1, keepdims=True)
    constant = float(regret[: rows.num_train].mean(0).min())

    def loss(net: Net, batch: Batch) -> Float[Array, ""]:
        regret, logits = batch["regret"] / constant, net("net", batch["x"])
        log_chances = jax.nn.log_softmax(logits, axis=1)
        expected = jnp.sum(jnp.exp(log_chances) * regret, axis=1)
        uniform = uniforms(batch["seed"], number, logits)
        sampled = jnp.argmax(logits - jnp.log(-jnp.log(jnp.maximum(uniform, 1e-7))), axis=1)
        sampled = jax.nn.one_hot(sampled, number, dtype=logits.dtype)
        surplus = jnp.sum(sampled * regret, axis=1) - (0 if choices.few else expected)
        estimate = jnp.mean(jnp.sum(sampled * log_chances, axis=1) * jax.lax.stop_gradient(surplus))
        return value_with_gradient_of(jnp.mean(expected), estimate)

    return Objective({"net": (rows.x.shape[1], number)}, {"x": rows.x, "regret": regret}, loss, True)
