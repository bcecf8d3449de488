"""Rows of drawn problems that a model can fit without remainder (`sampled_interpolation`).

    classes    a Gaussian for each class, variances i^-alpha; rows nearer than a margin to another class are left out
    planted    Gaussian inputs, answers x_S B that read some entries, or x A B of low rank (by turns of the rank)
    tree       the leaves of a binary tree, inputs orthogonal; an answer keeps its sign down the tree but for rare flips
               (Saxe, McClelland & Ganguli 2019, arXiv 1810.10531)
    shapes     spheres around each other, two half-circles, or two rings that hold each other
    labels     Gaussian inputs and labels that mean nothing; the splits share the rows: nothing else can be learnt
    teacher    orthogonal inputs, answers of few tanh units
    relations  (subject, relation, object), true where a bilinear form of hidden vectors is large

Numbers become signs or, by the largest, labels where the loss wants them. All is NumPy.
"""

from collections.abc import Mapping

import numpy as np

from tasks.base import SPLITS
from tasks.families.drawn.interpolation.choices import SIGNS, Choices

_EVALUATED_ROWS = 256
_CHEBYSHEV_FEATURES = 96
Rows = tuple[np.ndarray, np.ndarray]


def rows_of(choices: Choices, seed: int) -> Mapping[str, Mapping[str, np.ndarray]]:
    """`{split: {"x", "y"}}`: x float32 [N, D] or int32 [N, 2 or 3]; y float32 [N, outputs], or int32 [N] labels."""
    c, rng = choices, np.random.default_rng([24, seed])
    total = c.num_rows + 3 * _EVALUATED_ROWS
    if c.data == "relations":
        x, values = _relations(c, rng)
    else:
        draw = {"classes": _classes, "planted": _planted, "tree": _tree, "shapes": _shapes}
        x, values = (draw | {"labels": _labels, "teacher": _teacher})[c.data](c, rng, total)
        x = _chebyshev(c, rng, x) if c.model == "features" else x
        x = (x * c.input_scale / np.sqrt(np.mean(np.square(x[: c.num_rows])))).astype(np.float32)
    y = _answers(c, rng, values)
    shared = c.data in ("labels", "tree")
    parts = [slice(0, c.num_rows)] * 4 if shared else _parts(len(x), c.num_rows)
    return {split: {"x": x[part], "y": y[part]} for split, part in zip(SPLITS, parts, strict=True)}


def _parts(total: int, num_train: int) -> list[slice]:
    ends = np.linspace(num_train, total, 4).astype(int)
    return [slice(0, num_train), *(slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True))]


def _answers(c: Choices, rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """Of values [N, classes]: themselves at a size of one, noisy; the largest's place; or signs, one of two classes."""
    is_label = c.data in ("classes", "shapes", "labels")
    if not is_label:
        values = values / np.sqrt(np.mean(np.square(values[: c.num_rows]), axis=0))
    shown = values[:, : c.num_outputs]
    if c.loss == "squared" and not is_label:
        return (shown + c.noise * rng.standard_normal(shown.shape)).astype("f4")
    anew = rng.random(len(values)) < c.noise
    if c.loss in SIGNS and not is_label:
        return np.sign(np.where(anew[:, None], rng.uniform(-1, 1, shown.shape), shown)).astype("f4")
    labels = np.where(anew, rng.integers(values.shape[1], size=len(values)), np.argmax(values, axis=1))
    if c.loss == "softmax":
        return labels.astype("i4")
    signs = 2.0 * (labels[:, None] == np.arange(c.num_classes)[None]) - 1
    return signs[:, : c.num_outputs].astype("f4")


def _gaussian(c: Choices, rng: np.random.Generator, rows: int) -> np.ndarray:
    scales = np.arange(1, c.num_inputs + 1) ** (-c.spectrum / 2)
    return rng.standard_normal((rows, c.num_inputs)) * scales / np.sqrt(np.mean(scales**2))


def _classes(c: Choices, rng: np.random.Generator, rows: int) -> Rows:
    centres = rng.standard_normal((c.num_classes, c.num_inputs))
    centres *= 3 / np.linalg.norm(centres, axis=1, keepdims=True)
    labels = np.arange(16 * rows) % c.num_classes
    x = centres[labels] + _gaussian(c, rng, len(labels))
    scores = x @ centres.T
    own = labels[:, None] == np.arange(c.num_classes)[None]
    ahead = scores[own] - np.max(np.where(own, -np.inf, scores), axis=1)
    # Where fewer than asked for lie so far apart, those that lie farthest do.
    kept = np.flatnonzero(ahead >= min(9 * c.margin, np.sort(ahead)[-rows]))[:rows]
    return x[kept], np.eye(c.num_classes)[labels[kept]]


def _planted(c: Choices, rng: np.random.Generator, rows: int) -> Rows:
    x, k = _gaussian(c, rng, rows), c.rank
    if k % 2:
        read = np.eye(c.num_inputs)[rng.permutation(c.num_inputs)[: k + 1]].T
    else:
        read = rng.standard_normal((c.num_inputs, k))
    return x, x @ read @ rng.standard_normal((read.shape[1], c.num_classes))


def _tree(c: Choices, rng: np.random.Generator, rows: int) -> Rows:
    del rows
    values = np.where(rng.random((1, c.num_classes)) < 0.5, 1.0, -1.0)
    while len(values) < c.num_inputs:
        values = np.repeat(values, 2, axis=0)
        values = np.where(rng.random(values.shape) < 0.2, -values, values)
    # An answer that never differs would not be one.
    values[0] = np.where(np.abs(values.sum(0)) == len(values), -values[0], values[0])
    return _orthogonal(rng, c.num_inputs), values


def _shapes(c: Choices, rng: np.random.Generator, rows: int) -> Rows:
    """Points in space, half-circles flat but for the spread; a fourth entry of one serves models without biases."""
    labels, angle = np.arange(rows) % c.num_classes, rng.uniform(0, 2 * np.pi, rows)
    sign, flat = 1.0 - 2 * labels, np.zeros(rows)
    if c.shape == "rings":
        x = rng.standard_normal((rows, 3))
        x *= (1.0 + labels)[:, None] / np.linalg.norm(x, axis=1, keepdims=True)
    elif c.shape == "moons":
        x = np.stack([sign * (np.cos(angle / 2) - 0.5), sign * (np.sin(angle / 2) - 0.25), flat], axis=1)
    else:
        # The second ring stands upright and goes through the middle of the first.
        up, along = labels * np.sin(angle), (1 - labels) * np.sin(angle)
        x = np.stack([np.cos(angle) + labels, along, up], axis=1)
    x = x + 0.2 * (0.5 - c.margin) * rng.standard_normal(x.shape)
    return np.concatenate([x, np.ones((rows, 1))], axis=1), np.eye(c.num_classes)[labels]


def _labels(c: Choices, rng: np.random.Generator, rows: int) -> Rows:
    values = np.eye(c.num_classes)[rng.permutation(rows) % c.num_classes]
    return _gaussian(c, rng, rows), values


def _teacher(c: Choices, rng: np.random.Generator, rows: int) -> Rows:
    frames = [_orthogonal(rng, c.num_inputs) for _ in range(-(-rows // c.num_inputs))]
    x = np.concatenate(frames)[:rows] * c.num_inputs**0.5
    hidden = np.tanh(1.5 * x @ rng.standard_normal((c.num_inputs, c.rank + 1)) * c.num_inputs**-0.5)
    return x, hidden @ rng.standard_normal((c.rank + 1, c.num_classes))


def _orthogonal(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


def _relations(c: Choices, rng: np.random.Generator) -> Rows:
    """Pairs (subject, relation) with a value for each object, or triples with one, in random order."""
    n, k = c.num_inputs, c.rank + 1
    subjects, objects = rng.standard_normal((2, n, k))
    forms = rng.standard_normal((c.num_classes, k, k))
    truth = np.einsum("ik,rkl,jl->irj", subjects, forms, objects) / k
    axes = truth.shape[:2] if c.loss == "softmax" else truth.shape
    x = rng.permutation(np.indices(axes).reshape(len(axes), -1).T)
    values = truth[tuple(x.T)].reshape(len(x), -1)
    return x.astype(np.int32), values


def _chebyshev(c: Choices, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """T_1, T_2, T_3 and T_4 of random projections into [-1, 1], times degree^-alpha."""
    directions = rng.standard_normal((x.shape[1], _CHEBYSHEV_FEATURES // 4)) * x.shape[1] ** -0.5
    angles = np.arccos(np.tanh(x @ directions / np.sqrt(np.mean(np.square(x)))))
    return np.concatenate([k**-c.spectrum * np.cos(k * angles) for k in range(1, 5)], axis=1)
