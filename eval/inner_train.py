"""Trains any `LocalAlgorithm` over many settings and seeds with one compiled program.

A run is a scan over rounds with its batches drawn inside. Runs are independent: a wave of them is
spread over the devices with shard_map along a mesh axis "runs", `chunk` at a time on each, and the
same program serves every wave, so a grid that grows needs no second compile.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree

from eval.protocol import EvalProtocol
from eval.split_metrics import diverged_is_inf, split_metrics
from eval.starts import Starts
from learned_opt.local_sgd import LocalAlgorithm
from tasks.base import TaskFamily

MAX_CHUNK = 64
"""Runs vmapped together on one accelerator."""

RUNS = "runs"

Hparams = Mapping[str, Any]


class Runs(NamedTuple):
    """Finished runs as numpy arrays with a leading [runs] axis; losses that are not finite are inf.

    Attributes:
      params: final parameters, as they are (they may hold NaN).
      train_loss: [runs, points] on the fixed training images, after every `eval_every` rounds;
        None without a curve.
      minibatch_loss: [runs, rounds] mean over workers and local steps of the round's minibatch
        losses.
    """

    params: PyTree
    train_loss: Any
    minibatch_loss: Any


TrainFn = Callable[[Sequence[Hparams], Callable[[int, int], None]], Runs]
"""(settings, progress) -> Runs; run i has setting i // seeds and seed i % seeds. `progress(done,
total)` counts runs."""


def make_trainer(
    family: TaskFamily,
    make_algorithm: Callable[[Hparams], LocalAlgorithm],
    protocol: EvalProtocol,
    data: Mapping[str, PyTree],
    starts: Starts,
    *,
    with_curve: bool,
    num_settings: int = 1,
) -> TrainFn:
    """Prepares one contender; it compiles at the first call of the function returned.

    Args:
      family: the task family.
      make_algorithm: hyper-parameters (traced float32 scalars) -> algorithm.
      protocol: rounds, workers, batch size.
      data: what the runs may see: the split "train" and no other.
      starts: one per seed.
      with_curve: whether to measure the training loss on the way.
      num_settings: about how many settings a call will bring; bounds the size of a wave.
    """
    num_seeds = len(starts.batch_keys)
    mesh = jax.make_mesh((len(jax.devices()),), (RUNS,), axis_types=(jax.sharding.AxisType.Auto,))
    chunk = 1
    if jax.default_backend() != "cpu":
        chunk = min(MAX_CHUNK, -(-num_settings * num_seeds // mesh.size))
    curve_data = {}
    if with_curve:
        curve_data = {"train": curve_examples(data["train"], protocol.num_curve_examples)}

    def device_wave(hparams, starts, data, curve_data):
        def one(inputs):
            hparams, start = inputs
            algorithm = make_algorithm(hparams)
            return _train_one(family, algorithm, protocol, start, data, curve_data)

        return jax.lax.map(one, (hparams, starts), batch_size=chunk if chunk > 1 else None)

    split, replicated = PartitionSpec(RUNS), PartitionSpec()
    wave = jax.jit(
        jax.shard_map(
            device_wave,
            mesh=mesh,
            in_specs=(split, split, replicated, replicated),
            out_specs=split,
            check_vma=False,
        )
    )
    everywhere = NamedSharding(mesh, replicated)
    data, curve_data = jax.device_put((dict(data), curve_data), everywhere)
    wave_size = mesh.size * chunk

    def train(settings: Sequence[Hparams], progress: Callable[[int, int], None]) -> Runs:
        total = len(settings) * num_seeds
        columns = {name: np.array([s[name] for s in settings], np.float32) for name in settings[0]}
        progress(0, total)
        waves = []
        for first in range(0, total, wave_size):
            # The last wave is filled up with copies of the last run, so that every wave has the
            # compiled shape.
            run = np.minimum(np.arange(first, first + wave_size), total - 1)
            hparams = {name: column[run // num_seeds] for name, column in columns.items()}
            wave_starts = jax.tree.map(lambda x, run=run: x[run % num_seeds], starts)
            waves.append(jax.device_get(wave(hparams, wave_starts, data, curve_data)))
            progress(min(first + wave_size, total), total)
        runs = jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *waves)
        losses = (runs.train_loss, runs.minibatch_loss)
        return Runs(runs.params, *jax.tree.map(diverged_is_inf, losses))

    return train


def curve_examples(split: PyTree, number: int) -> PyTree:
    """`number` evenly spaced examples of a split (all of a smaller one): the same for every
    contender and seed."""
    available = len(jax.tree.leaves(split)[0])
    index = np.linspace(0, available - 1, min(number, available)).round().astype(np.int64)
    return jax.tree.map(lambda x: np.asarray(x)[index], split)


def _train_one(
    family: TaskFamily,
    algorithm: LocalAlgorithm,
    protocol: EvalProtocol,
    start: Starts,
    data: Mapping[str, PyTree],
    curve_data: Mapping[str, PyTree],
) -> Runs:
    task = family.task(start.task_config, data)
    batch_shape = (protocol.num_workers, protocol.num_local_steps, protocol.batch_size)

    def one_round(state, keys):
        batch_key, round_key = map(jax.random.wrap_key_data, keys)
        batches = task.sample_batch(batch_key, "train", batch_shape)
        state, info = algorithm.round(task.loss, state, round_key, batches)
        return state, jnp.mean(info.losses)

    def segment(state, keys):
        state, losses = jax.lax.scan(one_round, state, keys)
        point = split_metrics(family, task, state.params, curve_data, "train")["loss"]
        return state, (losses, point)

    keys = (start.batch_keys, start.round_keys)
    state = algorithm.init(start.params)
    if not curve_data:
        state, minibatch_loss = jax.lax.scan(one_round, state, keys)
        train_loss = None
    else:
        segments = jax.tree.map(lambda x: x.reshape((-1, protocol.eval_every, x.shape[-1])), keys)
        state, (minibatch_loss, train_loss) = jax.lax.scan(segment, state, segments)
    return Runs(state.params, train_loss, minibatch_loss.reshape(-1))
