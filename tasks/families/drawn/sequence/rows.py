"""Sequences of drawn problems and their answers, as functions of uniform numbers.

One function serves NumPy, which makes the fixed data, and JAX, which draws training sequences anew from a key: `xp` is
`numpy` or `jax.numpy`. Shapes below leave out the leading axes of a batch; tokens are int32, points and curves float32.
"""

from types import ModuleType
from typing import Any

import numpy as np

from tasks.families.drawn.sequence.choices import Choices


def num_uniforms(choices: Choices) -> int:
    """Uniform numbers that make one sequence and its answers."""
    c = choices
    needed = {
        "recall": c.symbols + c.parts + 1,
        "automaton": c.length,
        "neighbours": 2 * c.symbols * c.parts + c.length * (1 + 2 * c.symbols) + c.num_outputs,
        "rewrite": c.parts,
        "count": c.symbols + c.length,
        "chain": c.parts + 2 * (c.length + 1),
        "curve": 2 * c.parts + 1 + c.length,
    }
    return needed[c.kind] + 2 * c.num_answers


def sequences_of(choices: Choices, table: np.ndarray, uniforms: Any, xp: ModuleType) -> dict[str, Any]:
    """`x` [length, fields] int32 or [length, num_inputs] float32, and `y` [num_answers], from [num_uniforms].

    Args:
      choices: of the problem.
      table: of `tables`; empty where the kind has none.
      uniforms: independent, uniform in [0, 1).
      xp: whose arrays these are.
    """
    c, make = choices, _MAKERS[choices.kind]
    x, y = make(c, table, uniforms[..., : -2 * c.num_answers], xp)
    if c.kind == "curve":
        return {"x": x.astype(np.float32), "y": y.astype(np.float32)}
    if c.noise and c.variant != "periodic":
        ends = uniforms[..., -2 * c.num_answers :]
        anew = ends[..., : c.num_answers] < c.noise
        y = xp.where(anew, _integers(ends[..., c.num_answers :], c.num_outputs, xp), y)
    return {"x": x.astype(np.float32 if c.kind == "neighbours" else np.int32), "y": y.astype(np.int32)}


def _integers(uniforms, bound: int, xp):
    # The product may round up to the bound.
    return xp.minimum(xp.floor(uniforms * np.float32(bound)).astype(np.int32), np.int32(bound - 1))


def _one_hot(index, size: int):
    """Booleans [..., size]."""
    return index[..., None] == np.arange(size, dtype=np.int32).reshape((1,) * index.ndim + (size,))


def _gaussian(uniforms, xp):
    """Normal numbers [...] of uniform ones [..., 2], by the formula of Box and Muller."""
    radius = xp.sqrt(-2 * xp.log1p(-uniforms[..., 0]))
    return radius * xp.cos(np.float32(2 * np.pi) * uniforms[..., 1])


def _recall(c: Choices, table, u, xp):
    """Keys that differ, their values, then one of the keys: pairs at one position or at two. Last token: no value."""
    keys = xp.argsort(u[..., : c.symbols], axis=-1)[..., : c.parts].astype(np.int32)
    values = _integers(u[..., c.symbols : c.symbols + c.parts], c.symbols, xp)
    which = _integers(u[..., -1:], c.parts, xp)
    key, value = (xp.take_along_axis(of, which, axis=-1) for of in (keys, values))
    tokens = values + np.int32(c.symbols)
    if c.variant == "joint":
        nothing = xp.full_like(key, 2 * c.symbols)
        fields = [xp.concatenate(pair, axis=-1) for pair in ((keys, key), (tokens, nothing))]
        return xp.stack(fields, axis=-1), value
    pairs = xp.stack([keys, tokens], axis=-1).reshape(*keys.shape[:-1], 2 * c.parts)
    return xp.concatenate([pairs, key], axis=-1)[..., None], value


def _automaton(c: Choices, table, u, xp):
    """Letters, and the state after each of the last ones; the first state is 0."""
    letters = _integers(u, c.symbols, xp)
    following, state, states = xp.asarray(table.reshape(-1)), xp.zeros_like(letters[..., 0]), []
    for t in range(c.length):
        state = following[state * np.int32(c.symbols) + letters[..., t]]
        states.append(state)
    return letters[..., None], xp.stack(states[-c.num_answers :], axis=-1)


def _neighbours(c: Choices, table, u, xp):
    """Points about centres of their own with labels of their own; the answer is that of the last one's neighbour."""
    centres_end, classes_end = 2 * c.symbols * c.parts, 2 * c.symbols * c.parts + c.length
    points_end = classes_end + 2 * c.symbols * c.length
    batch = u.shape[:-1]
    centres = _gaussian(u[..., :centres_end].reshape(*batch, c.parts, c.symbols, 2), xp)
    classes = _integers(u[..., centres_end:classes_end], c.parts, xp)
    noise = _gaussian(u[..., classes_end:points_end].reshape(*batch, c.length, c.symbols, 2), xp)
    points = _one_hot(classes, c.parts).astype(np.float32) @ centres + np.float32(c.spread) * noise
    names = xp.argsort(u[..., points_end:], axis=-1)[..., : c.parts].astype(np.int32)
    labels = xp.take_along_axis(names, classes, axis=-1)
    distances = xp.sum(xp.square(points[..., :-1, :] - points[..., -1:, :]), axis=-1)
    nearest = xp.argmin(distances, axis=-1)[..., None]
    told = _one_hot(labels, c.num_outputs).astype(np.float32)
    told = xp.concatenate([told[..., :-1, :], xp.zeros_like(told[..., -1:, :])], axis=-2)
    return xp.concatenate([points, told], axis=-1), xp.take_along_axis(labels, nearest, axis=-1)


def _rewrite(c: Choices, table, u, xp):
    """Tokens and as many blanks, at which they are wanted as they are, backwards or in order."""
    tokens = _integers(u, c.symbols, xp)
    x = xp.concatenate([tokens, xp.full_like(tokens, c.symbols)], axis=-1)
    answers = {"copy": tokens, "reverse": tokens[..., ::-1], "sort": xp.sort(tokens, axis=-1)}
    return x[..., None], answers[c.variant]


def _count(c: Choices, table, u, xp):
    """Tokens of a distribution of the sequence's own: how often 0 came so far, or which token is the most frequent."""
    rates = xp.square(u[..., : c.symbols])
    bounds = xp.cumsum(rates, axis=-1) / xp.sum(rates, axis=-1, keepdims=True)
    tokens = xp.sum(u[..., c.symbols :, None] > bounds[..., None, :-1], axis=-1, dtype=np.int32)
    if c.variant == "majority":
        return tokens[..., None], xp.argmax(xp.sum(_one_hot(tokens, c.symbols), axis=-2), axis=-1)[..., None]
    so_far = xp.cumsum(tokens == 0, axis=-1, dtype=np.int32)[..., -c.num_answers :]
    return tokens[..., None], xp.minimum(so_far, np.int32(c.num_outputs - 1))


def _chain(c: Choices, table, u, xp):
    """A Markov chain, or a pattern of the sequence's own again and again; the answers are the next tokens."""
    first, steps, others = np.split(np.arange(u.shape[-1]), [c.parts, c.parts + c.length + 1])
    drawn = _integers(u[..., steps], c.symbols, xp)
    if c.variant == "periodic":
        pattern = _integers(u[..., first], c.symbols, xp)
        repeated = pattern[..., np.arange(c.length + 1) % c.parts]
        tokens = xp.where(u[..., others] < c.noise, drawn, repeated) if c.noise else repeated
    else:
        bounds, order = xp.asarray(table[:, :-1]), 2 if c.variant == "markov2" else 1
        chosen = [drawn[..., t] for t in range(order)]
        for t in range(order, c.length + 1):
            state = chosen[-1] if order == 1 else chosen[-2] * np.int32(c.symbols) + chosen[-1]
            chosen.append(xp.sum(u[..., steps[t], None] > bounds[state], axis=-1, dtype=np.int32))
        tokens = xp.stack(chosen, axis=-1)
    return tokens[..., :-1, None], tokens[..., 1:][..., -c.num_answers :]


def _curve(c: Choices, table, u, xp):
    """Values of a sum of waves with noise, one of them hidden, and where it is; the answer is that value."""
    angular, phase = u[..., : c.parts], u[..., c.parts : 2 * c.parts]
    angular = np.float32(0.1) + np.float32(c.spread - 0.1) * angular
    time = np.arange(c.length, dtype=np.float32).reshape((1,) * (u.ndim - 1) + (c.length, 1))
    angles = angular[..., None, :] * time + np.float32(2 * np.pi) * phase[..., None, :]
    values = np.float32((2 / c.parts) ** 0.5) * xp.sum(xp.sin(angles), axis=-1)
    noise = np.float32(12**0.5 * c.noise) * (u[..., -c.length :] - np.float32(0.5))
    where = _integers(u[..., 2 * c.parts : 2 * c.parts + 1], c.length, xp)
    if c.variant != "anywhere":
        where = xp.full_like(where, c.length - 1 if c.variant == "end" else c.length // 2)
    hidden = _one_hot(where[..., 0], c.length)
    x = xp.stack([xp.where(hidden, np.float32(0), values + noise), hidden.astype(np.float32)], axis=-1)
    return x, xp.take_along_axis(values, where, axis=-1)


_MAKERS = {
    "recall": _recall,
    "automaton": _automaton,
    "neighbours": _neighbours,
    "rewrite": _rewrite,
    "count": _count,
    "chain": _chain,
    "curve": _curve,
}
