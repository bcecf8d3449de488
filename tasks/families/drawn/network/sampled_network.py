"""Problems drawn at random: inputs, network, target and loss follow from one seed.

What a learned optimizer meets outside its meta-training differs from it in ways that nobody listed. Meta-training on
problems whose every part is drawn answers that (Metz et al. 2022, arXiv 2211.09760, appendix on VeLO's tasks; here with
choices of our own): Gaussian vectors with a power-law spectrum, or tokens with a learned embedding; a network whose
layers are plain, residual, normalised, gated, products of two matrices, one matrix applied again and again, attention
over the inputs, or vectors alone; answers of a random network, of random waves or of products of projections, with
and without noise; and as loss the squared error, that of an equation (the answers are a linear combination of the
network's value and its first two derivatives along a direction given with the input), log-cosh, or cross-entropy.

A seed stands for one problem: its data are fixed, its initial parameters and batches are not. The best constant guess
has a loss of about 1, or of the entropy of the classes.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, TaskFamily
from tasks.families.drawn.family import check_seed, drawn_family, entropy
from tasks.families.drawn.network.choices import Choices, choices_of
from tasks.families.drawn.network.layers import answers_of, initial, shapes_of
from tasks.networks.classification import cross_entropy

_EVALUATED_ROWS = 512


def sampled_network(seed: int = 0, name: str = "") -> TaskFamily:
    """The problem of a seed.

    Args:
      seed: decides everything but initial parameters and batches; see `choices_of`.
      name: the family's name; "sampled_network_<seed>" where empty.

    Raises:
      ValueError: a negative seed.
    """
    check_seed(seed)
    choices = choices_of(seed)
    data = _data(choices, seed)
    uninformed_loss = 1.0
    if choices.loss == "cross_entropy":
        uninformed_loss = entropy(np.bincount(data["train"]["y"], minlength=choices.num_outputs) / choices.num_rows)
    return drawn_family(
        name or f"sampled_network_{seed}",
        data,
        shapes_of(choices),
        functools.partial(initial, choices),
        functools.partial(_loss, choices),
        uninformed_loss,
    )


def _equation(f: Callable[[Array], Array], x: Array, direction: Array, terms: Array) -> Float[Array, "batch outputs"]:
    """terms . (f, f', f'') at x, the derivatives along the directions [B, num_inputs]."""

    def first(x):
        return jax.jvp(f, (x,), (direction,))

    (value, slope), (_, curvature) = jax.jvp(first, (x,), (direction,))
    return terms[0] * value + terms[1] * slope + terms[2] * curvature


def _loss(choices: Choices, params: Params, batch: Batch) -> Float[Array, ""]:
    x, y = batch["x"], batch["y"]
    if choices.loss == "cross_entropy":
        return jnp.mean(cross_entropy(answers_of(choices, params, x), y))
    if choices.loss == "equation":
        answers = _equation(lambda x: answers_of(choices, params, x), x, batch["direction"], batch["terms"][0])
    else:
        answers = answers_of(choices, params, x)
    error = answers - y
    if choices.loss == "log_cosh":
        # Twice the function, which is a square for small errors and linear for large ones.
        return 2 * jnp.mean(jnp.sum(jnp.logaddexp(error, -error) - jnp.log(2.0), axis=1))
    return jnp.mean(jnp.sum(jnp.square(error), axis=1))


def _data(choices: Choices, seed: int) -> Data:
    """Inputs and answers of every split."""
    rng = np.random.default_rng([18, seed])
    target = _target(choices, rng)
    terms = np.float32(rng.permutation([1.0, 0.5, 0.2]))
    center = scale = None
    splits = {}
    for split in SPLITS:
        rows = choices.num_rows if split == "train" else _EVALUATED_ROWS
        x = _inputs(choices, rng, rows)
        leaves = {"x": x}
        z = _features(choices, x)
        if choices.loss == "equation":
            direction = rng.standard_normal(x.shape)
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            leaves |= {"direction": direction.astype(np.float32), "terms": np.broadcast_to(terms, (rows, 3))}
            answers = np.asarray(
                _equation(target, jnp.asarray(z), jnp.asarray(leaves["direction"]), jnp.asarray(terms))
            )
        else:
            answers = np.asarray(target(jnp.asarray(z)))
        if center is None or scale is None:
            center = answers.mean(0)
            scale = np.sqrt(np.mean(np.sum(np.square(answers - center), axis=1)))
        answers = (answers - center) / scale
        if choices.loss == "cross_entropy":
            labels = np.argmax(answers / answers.std(0), axis=1)
            anew = rng.random(rows) < choices.noise
            leaves["y"] = np.where(anew, rng.integers(choices.num_outputs, size=rows), labels).astype(np.int32)
        else:
            noise = choices.noise * choices.num_outputs**-0.5 * rng.standard_normal(answers.shape)
            leaves["y"] = (answers + noise).astype(np.float32)
        splits[split] = leaves
    return splits


def _inputs(choices: Choices, rng: np.random.Generator, rows: int) -> np.ndarray:
    if choices.vocabulary:
        return rng.integers(choices.vocabulary, size=(rows, choices.num_inputs)).astype(np.int32)
    scales = np.arange(1, choices.num_inputs + 1) ** (-choices.spectrum / 2)
    scales /= np.sqrt(np.mean(scales**2))
    return (rng.standard_normal((rows, choices.num_inputs)) * scales).astype(np.float32)


def _features(choices: Choices, x: np.ndarray) -> np.ndarray:
    """What the target reads: the inputs, tokens as unit vectors side by side."""
    if not choices.vocabulary:
        return x
    return np.eye(choices.vocabulary, dtype=np.float32)[x].reshape(len(x), -1) * choices.vocabulary**0.5 / 2


def _target(choices: Choices, rng: np.random.Generator) -> Callable[[Array], Array]:
    """A function of rows [B, features] to answers [B, outputs], before they are centred and scaled."""
    size = choices.num_inputs * max(choices.vocabulary, 1)
    hidden, outputs = 12, choices.num_outputs

    def matrix(rows, columns, scale):
        return jnp.asarray(scale * rng.standard_normal((rows, columns)), jnp.float32)

    first, second = matrix(size, hidden, 1.5 * size**-0.5), matrix(size, hidden, size**-0.5)
    last, phases = matrix(hidden, outputs, 1.0), matrix(1, hidden, 3.0)
    if choices.target == "network":
        return lambda x: jnp.tanh(x @ first) @ last
    if choices.target == "waves":
        return lambda x: jnp.cos(x @ first + phases) @ last
    return lambda x: ((x @ first) * (x @ second)) @ last + (x @ second) @ last
