"""Problems on sequences and tables drawn at random: kind, sizes, network and loss follow from one seed.

    recall      pairs of keys and values, then a key: its value
    automaton   letters: the state of a finite automaton, some of them those of a group that does not commute
    neighbours  labelled points of classes that are each sequence's own, then a point: its nearest neighbour's label
    rewrite     tokens: the same as they came, backwards or in order
    count       tokens: how often one came, or the most frequent one
    chain       tokens of a Markov chain or of a noisy pattern that repeats: the next one
    table       two elements: a random operation, that of a group or one of low rank, on a part of all pairs
    curve       values of a sum of waves, one of them hidden: that value

The networks are those of `layers`. With z the answers of a network for C classes, y the label and e its unit vector,
the losses are

    cross_entropy  logsumexp(z) - z_y                       squared  |z - e|^2 (curves: (z - y)^2)
    smoothed       the same, less 0.1 (mean(z) - z_y)       hinge    max(0, 1 + max_{c != y} z_c - z_y)

(smoothed: Szegedy et al. 2016, arXiv 1512.00567; hinge: Crammer & Singer 2001). Training sequences are drawn anew from
the key in some problems, from a fixed set in others. That everything is drawn follows Metz et al. 2022, arXiv
2211.09760; the choices are our own.

Held out, because optimizers are judged on it: modular arithmetic (no group here is cyclic, and the letters of no
automaton all commute), parities, in-context linear regression, selecting a planted token, and text; of networks GRUs,
LSTMs and linear attention.

A seed stands for one problem: its data are fixed, its initial parameters and batches are not.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tasks.base import SPLITS, Batch, Data, Params, TaskFamily
from tasks.families.drawn.family import check_seed, drawn_family, entropy, sample_split
from tasks.families.drawn.sequence.choices import Choices, choices_of
from tasks.families.drawn.sequence.layers import answers_of, initial, shapes_of
from tasks.families.drawn.sequence.rows import num_uniforms, sequences_of
from tasks.families.drawn.sequence.tables import automaton, chain, operation
from tasks.networks.classification import cross_entropy

_EVALUATED_ROWS = 512
_SMOOTHING = 0.1


def sampled_sequence(seed: int = 0, name: str = "") -> TaskFamily:
    """The problem of a seed.

    Args:
      seed: decides everything but initial parameters and batches; see `choices_of`.
      name: the family's name; "sampled_sequence_<seed>" where empty.

    Raises:
      ValueError: a negative seed.
    """
    check_seed(seed)
    choices = choices_of(seed)
    table, data = _table_and_data(choices, seed)

    def losses(params: Params, batch: Batch) -> tuple[Float[Array, ""], Array]:
        answers = answers_of(choices, params, batch["x"])
        return jnp.mean(_losses(choices.loss, answers, batch["y"])), answers

    def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
        loss, answers = losses(params, batch)
        if choices.kind == "curve":
            return {"loss": loss}
        right = jnp.argmax(answers, axis=-1) == batch["y"]
        return {"loss": loss, "accuracy": jnp.mean(right.astype(jnp.float32))}

    def sample_batch(key: Key[Array, ""], data: Data, split: str, batch_shape: tuple[int, ...]) -> Batch:
        if split == "train" and choices.fresh:
            uniforms = jax.random.uniform(key, (*batch_shape, num_uniforms(choices)), jnp.float32)
            return sequences_of(choices, table, uniforms, jnp)
        return sample_split(key, data, split, batch_shape)

    return drawn_family(
        name or f"sampled_sequence_{seed}",
        data,
        shapes_of(choices),
        functools.partial(initial, choices),
        lambda params, batch: losses(params, batch)[0],
        _uninformed(choices, data["train"]["y"]),
        metrics,
        sample_batch,
    )


def _losses(loss: str, answers: Float[Array, "batch answers outputs"], y: Array) -> Float[Array, "batch answers"]:
    if jnp.issubdtype(y.dtype, jnp.floating):
        return jnp.square(answers[..., 0] - y)
    if loss == "cross_entropy":
        return cross_entropy(answers, y)
    label = jax.nn.one_hot(y, answers.shape[-1], dtype=answers.dtype)
    if loss == "squared":
        return jnp.sum(jnp.square(answers - label), axis=-1)
    picked = jnp.sum(answers * label, axis=-1)
    if loss == "smoothed":
        return cross_entropy(answers, y) - _SMOOTHING * (jnp.mean(answers, axis=-1) - picked)
    return jnp.maximum(1 + jnp.max(jnp.where(label > 0, -1e9, answers), axis=-1) - picked, 0)


def _uninformed(choices: Choices, y: np.ndarray) -> float:
    """The loss of the best constant guess on the training answers."""
    if choices.kind == "curve":
        return float(np.var(y))
    shares = np.bincount(y.ravel(), minlength=choices.num_outputs) / y.size
    if choices.loss == "squared":
        return float(1 - np.sum(np.square(shares)))
    if choices.loss == "hinge":
        # No guess is better than none unless one class has more than half.
        return float(min(1.0, 2 * (1 - shares.max())))
    if choices.loss == "smoothed":
        shares = (1 - _SMOOTHING) * shares + _SMOOTHING / choices.num_outputs
    return entropy(shares)


def _table_and_data(choices: Choices, seed: int) -> tuple[np.ndarray, Data]:
    """The fixed table of the problem (empty where it has none) and every split."""
    rng = np.random.default_rng([24, seed])
    if choices.kind == "table":
        return np.zeros(0), _pairs(choices, rng)
    tables = {"automaton": automaton, "chain": chain}
    has_table = choices.kind in tables and choices.variant != "periodic"
    table = tables[choices.kind](choices, rng) if has_table else np.zeros(0)
    sizes = [_rows(choices, split) for split in SPLITS]
    uniforms = rng.random((sum(sizes), num_uniforms(choices)), np.float32)
    leaves = sequences_of(choices, table, uniforms, np)
    ends = np.cumsum(sizes)[:-1]
    parts = {leaf: np.split(rows, ends) for leaf, rows in leaves.items()}
    return table, {split: {leaf: parts[leaf][i] for leaf in parts} for i, split in enumerate(SPLITS)}


def _rows(choices: Choices, split: str) -> int:
    return choices.num_rows if split == "train" and not choices.fresh else _EVALUATED_ROWS


def _pairs(choices: Choices, rng: np.random.Generator) -> Data:
    """All pairs of elements in random order: a share of them to train on, a third of the rest for each other split."""
    n, answers = choices.parts, operation(choices, rng)
    pairs = rng.permutation(np.mgrid[:n, :n].reshape(2, -1).T)
    y = answers[pairs[:, 0], pairs[:, 1]]
    anew = rng.random(len(y)) < choices.noise
    y = np.where(anew, rng.integers(choices.num_outputs, size=len(y)), y).astype(np.int32)[:, None]
    x = (pairs + np.array([[0, n]])).astype(np.int32)[..., None]
    rest = np.array_split(np.arange(choices.num_rows, len(y)), len(SPLITS) - 1)
    rows = [np.arange(choices.num_rows), *rest]
    return {split: {"x": x[i], "y": y[i]} for split, i in zip(SPLITS, rows, strict=True)}
