"""Problems whose objective is drawn at random: what is minimised, of what network and on what follows from one seed.

`sampled_network` draws networks for ordinary losses; here the loss is one of twenty kinds, most of them neither a mean
of squares nor a cross-entropy of labels: `views`, `densities`, `answers` and `decisions` say which. Several are
functions of the whole batch, several have noise of their own, and of two the gradient is not that of the reported
number. Half of the problems are on images, Fashion-MNIST at 8x8, the others on mixtures of Gaussians or on vectors near
a curved surface.

A seed stands for one problem: its data are fixed, its initial parameters and batches are not. Views and noise follow
from a `seed` of every example, drawn anew in every batch or once. Losses are scaled so that the best constant answer
has about 1 and none has less than 0; `FLOOR` is added, so that they have logarithms in spite of rounding errors.

Held out, and so not among the kinds, is what suites judge on: cross-correlation of views (Barlow Twins), prediction of
another view with a stopped gradient (SimSiam, BYOL, DirectPred), score matching, optimal transport, equations, weights
from a hypernetwork, classification by attention, mixing or residual convolutions. Denoising here is of high-dimensional
inputs at one noise level and reports no score.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from tasks.base import SPLITS, Batch, Data, Params, TaskFamily
from tasks.families.drawn.family import check_seed, drawn_family, sample_split
from tasks.families.drawn.objective import answers, decisions, densities, views
from tasks.families.drawn.objective.choices import Choices, choices_of
from tasks.families.drawn.objective.networks import apply, initial, masked_apply, shapes_of
from tasks.families.drawn.objective.rows import EVALUATED_ROWS, Net, Objective, Rows, draw_rows

FLOOR = 1e-4
"""Part of every loss."""

MakeObjective = Callable[[Choices, Rows, np.random.Generator], Objective]

OBJECTIVES: dict[str, MakeObjective] = {
    "denoising": densities.denoising,
    "nt_xent": views.nt_xent,
    "temporal_difference": decisions.temporal_difference,
    "quantile": answers.quantile,
    "vae": densities.vae,
    "triplet": answers.triplet,
    "policy": decisions.policy,
    "masked": densities.masked,
    "survival": answers.survival,
    "vicreg": views.vicreg,
    "mixture": densities.mixture,
    "transformation": views.transformation,
    "control": decisions.control,
    "poisson": answers.poisson,
    "autoregressive": densities.autoregressive,
    "correlation": views.correlation,
    "policy_gradient": decisions.policy_gradient,
    "distillation": answers.distillation,
    "noise_contrastive": views.noise_contrastive,
    "ranking": answers.ranking,
}


def sampled_objective(seed: int = 0, name: str = "") -> TaskFamily:
    """The problem of a seed.

    Args:
      seed: decides everything but initial parameters and batches; see `choices_of`.
      name: the family's name; "sampled_objective_<seed>" where empty.

    Raises:
      ValueError: a negative seed.
    """
    check_seed(seed)
    choices, rng = choices_of(seed), np.random.default_rng([24, seed])
    objective = OBJECTIVES[choices.kind](choices, draw_rows(choices, rng), rng)
    shapes = {}
    for network, (inputs, outputs) in objective.networks.items():
        shapes |= shapes_of(choices, network, inputs, outputs)

    def sample_batch(key: Key[Array, ""], data: Data, split: str, batch_shape: tuple[int, ...]) -> Batch:
        row_key, seed_key = jax.random.split(key)
        rows = sample_split(row_key, data, split, batch_shape)
        if objective.noisy and choices.fresh:
            rows["seed"] = jax.random.bits(seed_key, batch_shape, jnp.uint32)
        return rows

    return drawn_family(
        name or f"sampled_objective_{seed}",
        _splits(choices, objective, rng),
        shapes,
        functools.partial(initial, choices),
        lambda params, batch: FLOOR + objective.loss(_networks(choices, params), batch),
        1 + FLOOR,
        sample_batch=sample_batch,
    )


def _networks(choices: Choices, params: Params) -> Net:
    if choices.kind == "autoregressive":
        return lambda _, x: masked_apply(choices, params, x)
    return lambda name, x: apply(choices, params, name, x)


def _splits(choices: Choices, objective: Objective, rng: np.random.Generator) -> Data:
    leaves = dict(objective.leaves)
    if objective.noisy:
        leaves["seed"] = rng.integers(2**32, size=len(leaves["x"]), dtype=np.uint32)
    ends = [0, *(choices.num_rows + EVALUATED_ROWS * np.arange(len(SPLITS)))]
    return {
        split: {name: leaf[start:end] for name, leaf in leaves.items()}
        for split, start, end in zip(SPLITS, ends[:-1], ends[1:], strict=True)
    }
