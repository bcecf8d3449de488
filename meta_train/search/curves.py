"""Training curves of many candidates, by one compiled program per problem."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.algorithms.round import simulate
from learned_opt.base import LocalAlgorithm
from meta_train.references import find_family
from meta_train.search.problems import Problem
from tasks.augmentation import with_dirichlet_workers
from tasks.base import Batch, Data, TaskFamily

ROUNDS_PER_POINT = 4
NUM_EXAMPLES = 384
"""Training examples that a point of a curve is measured on."""
LARGEST_RATIO, SMALLEST_RATIO = 1.5, 1e-9
"""Losses over that of a constant guess are clipped to these; one that is not finite counts as the largest."""
LARGEST_GAIN, LARGEST_LOSS = 0.5, 0.8
"""Of logarithms of speed-ups, so that one problem decides no generation; what is lost counts more than what is won."""
ENDS = (0.5, 0.75, 1.0)
"""Shares of a training after which it is judged by rounds."""
EARLY_SHARE = 1 / 3
"""Of a training, which is not judged by its losses: where it ends is what counts."""

Curves = Callable[[np.ndarray, list[int]], np.ndarray]
"""(candidates [P, D], seeds [S]) -> log normalised losses [P, S, points] of the parameters that are evaluated."""


def build_curves(problem: Problem, *algorithms: Callable[[Any], LocalAlgorithm]) -> list[Curves]:
    """Builds the measurements on one problem, each of which compiles when it is called for the first time.

    Args:
      problem: what is trained.
      *algorithms: candidate [D] -> the algorithm for one worker; each has a measurement of its own.

    Raises:
      ValueError, FileNotFoundError: as `meta_train.references.find_family`.
    """
    family = find_family(problem.family)
    if problem.dirichlet_alpha is not None:
        family = with_dirichlet_workers(family, problem.dirichlet_alpha, problem.num_workers)
    rows = len(jax.tree.leaves(family.data["train"])[0])
    shown = np.linspace(0, rows - 1, min(NUM_EXAMPLES, rows)).astype(int)
    examples = jax.tree.map(lambda x: np.asarray(x)[shown], family.data["train"])
    batch = family.eval_batch({"train": examples}, "train")
    data = jax.device_put(family.data)
    return [_curves_of(algorithm, problem, family, data, batch) for algorithm in algorithms]


def _curves_of(
    algorithm: Callable[[Any], LocalAlgorithm], problem: Problem, family: TaskFamily, data: Data, batch: Batch
) -> Curves:
    points = problem.num_rounds // ROUNDS_PER_POINT
    shape = (problem.num_workers, problem.num_local_steps, problem.batch_size)

    def train(candidate, seed, data, batch):
        task_key, init_key, run_key = jax.random.split(jax.random.key(seed), 3)
        task = family.task(family.sample(task_key), data)
        simulated = simulate(algorithm(candidate), problem.num_workers)

        def one_round(state, t):
            batch_key, round_key = jax.random.split(jax.random.fold_in(run_key, t))
            batches = task.sample_batch(batch_key, "train", shape)
            return simulated.round(task.loss, state, round_key, batches)[0], None

        def point(state, rounds):
            state, _ = jax.lax.scan(one_round, state, rounds)
            return state, task.metrics(simulated.params(state), batch)["loss"]

        rounds = jnp.arange(points * ROUNDS_PER_POINT).reshape(points, ROUNDS_PER_POINT)
        return jax.lax.scan(point, simulated.init(task.init(init_key)), rounds)[1]

    run = jax.jit(
        lambda xs, seeds, data, batch: jax.lax.map(lambda each: train(each[0], each[1], data, batch), (xs, seeds))
    )

    def curves(candidates, seeds):
        xs = np.repeat(np.asarray(candidates, np.float32), len(seeds), axis=0)
        losses = np.asarray(run(xs, np.tile(np.asarray(seeds), len(candidates)), data, batch))
        ratios = np.nan_to_num(losses / family.uninformed_loss, nan=LARGEST_RATIO, posinf=LARGEST_RATIO)
        logs = np.log(np.clip(ratios, SMALLEST_RATIO, LARGEST_RATIO))
        return logs.reshape(len(candidates), len(seeds), points)

    return curves


def score_by_loss(logs: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean difference of log losses from those of a reference after `EARLY_SHARE` of a training; below 0 is lower.

    Args:
      logs: [..., points].
      reference: [..., points], same seeds.
    """
    difference = np.float64(logs) - reference
    return np.asarray(np.mean(difference[..., int(EARLY_SHARE * difference.shape[-1]) :], axis=-1))


def score_by_rounds(logs: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean logarithm of the rounds that a curve takes over those that its reference takes; below 0 is faster.

    At each of `ENDS` both are followed to the loss of the one that stands worse, after which they stay at or below it.
    So what is won or lost is measured in rounds, the same on problems whose losses hardly fall and on those where they
    fall by orders of magnitude. The one that stands worse counts as having moved for half of the time at least.

    Args:
      logs: [..., points].
      reference: [..., points], same seeds.
    """
    logs, reference = np.broadcast_arrays(np.float64(logs), np.float64(reference))
    found = []
    for end in ENDS:
        last = max(1, round(end * logs.shape[-1]))
        own, other = logs[..., :last], reference[..., :last]
        target = np.asarray(np.maximum(own[..., -1], other[..., -1]))
        ratio = np.log(_points_to(own, target) / _points_to(other, target))
        found.append(np.clip(ratio, -LARGEST_GAIN, LARGEST_LOSS))
    return np.asarray(np.mean(found, axis=0))


def _points_to(logs: np.ndarray, target: np.ndarray) -> np.ndarray:
    """When curves [..., points] come to stay at or below targets [...], in points from 1 on, interpolated; half of the
    points at least where the target is a curve's own end."""
    highest_to_come = np.maximum.accumulate(logs[..., ::-1], axis=-1)[..., ::-1]
    above = np.asarray(np.sum(highest_to_come > target[..., None], axis=-1))

    def at(i):
        return np.take_along_axis(highest_to_come, np.clip(i, 0, logs.shape[-1] - 1)[..., None], axis=-1)[..., 0]

    before, after = at(above - 1), at(above)
    share = np.divide(before - target, before - after, out=np.ones_like(target), where=before > after)
    found = np.where(above > 0, above + share, 1.0)
    return np.asarray(np.where(logs[..., -1] >= target, np.maximum(found, logs.shape[-1] / 2), found))
