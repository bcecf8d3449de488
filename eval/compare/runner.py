"""Trains any `LocalAlgorithm` over many settings and seeds with one compiled program.

A run is a scan over rounds with its batches drawn inside. Runs are independent: a wave of them is spread over the
devices with shard_map along a mesh axis "runs", `chunk` at a time on each, and the same program serves every wave, so
tuning, a grid that grows and the final runs need one compile. What the curve needs is a snapshot of the parameters
every `eval_every` rounds; eval/compare/curves.py turns them into losses with a program that all contenders share.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, PyTree

from eval.compare.contenders import Contender
from eval.compare.grids import settings
from eval.compare.initial_states import InitialStates
from eval.compare.parameter_average import parameter_average
from eval.compare.split_metrics import diverged_is_inf
from eval.diagnostics.table import SENT, handed_over, round_measure
from eval.protocol import EvalProtocol
from learned_opt.algorithms.measured import measured
from learned_opt.algorithms.round import simulate
from learned_opt.base import LocalAlgorithm
from tasks.base import TaskFamily

MAX_CHUNK = 64
"""Runs vmapped together on one accelerator, at most."""

CHUNK_BYTES = 4 * 2**30
"""Memory that the snapshots and the workers' parameters of a chunk may take."""

RUNS = "runs"

COUNTED = ("communications", "num_local_steps")
"""Diagnostics of a round that are counted, not sampled: they say how many there were in it."""

Hparams = Mapping[str, Any]


class Runs(NamedTuple):
    """Finished runs as numpy arrays with a leading [runs] axis.

    Attributes:
      params: final parameters as they are evaluated (they may hold NaN): the average of the protocol's `ema`, if any.
      snapshots: parameters after every `eval_every` rounds, leaves [runs, points, ...]; None if not recorded.
      minibatch_loss: [runs, rounds] mean over workers and local steps of the round's minibatch losses, inf where it
        is not finite.
      diagnostics: name -> [runs, points], of the last of every `eval_every` rounds, see
        eval/diagnostics/worker_agreement.py; nan if not recorded.
      counts: name of COUNTED -> [runs, points], how many so far; of algorithms that choose their number themselves.
    """

    params: PyTree
    snapshots: PyTree
    minibatch_loss: Any
    diagnostics: dict[str, Any]
    counts: dict[str, Any]


class Runner(NamedTuple):
    """One contender, traced.

    Attributes:
      train: (settings, starts, progress, record) -> Runs; run i has setting i // seeds and seed i % seeds;
        `progress(done, total)` counts runs; `record`: keep the snapshots, and measure the protocol's diagnostics.
      cost: () -> `compile_seconds`, `seconds_per_round` of the last call's runs (gradients and batches included; a
        wave of runs counts as one), `state_bytes` of server and worker state together, `memory_bytes` of temporaries
        on one device; None where unknown.
      wave_size: runs that are trained side by side; any other number is filled up.
      fingerprint: () -> SHA-256 of the program: equal ones give the same bits on the same inputs, JAX and device.
    """

    train: Callable[..., Runs]
    cost: Callable[[], dict[str, float | None]]
    wave_size: int
    fingerprint: Callable[[], str]


def make_runner(
    family: TaskFamily,
    contender: Contender,
    protocol: EvalProtocol,
    data: Mapping[str, PyTree],
    starts: InitialStates,
    pool: Executor | None = None,
) -> Runner:
    """Traces one contender's training and starts its compilation.

    Args:
      family: the task family.
      contender: its `make` is called with traced float32 scalars.
      protocol: rounds, workers, batch size.
      data: what the runs may see: the split "train" and no other.
      starts: any, for their shapes.
      pool: where to compile, so that several programs can compile side by side; None: here and now.
    """
    mesh = jax.make_mesh((len(jax.devices()),), (RUNS,), axis_types=(jax.sharding.AxisType.Auto,))
    grid_settings = settings(contender.grid)
    num_runs = max(len(grid_settings) * protocol.tuning_seeds if contender.grid else 1, protocol.num_seeds)
    chunk = _chunk_size(protocol, starts, -(-num_runs // mesh.size))
    wave_size = mesh.size * chunk

    def device_wave(hparams, starts, data, record):
        def one(inputs):
            hparams, start = inputs
            algorithm = contender.make(hparams)
            if round_measure(protocol.diagnostics, protocol.num_workers) is not None:
                # What is handed over is measured here: not in every round, and not while tuning.
                algorithm = measured(algorithm, handed_over)
            algorithm = simulate(algorithm, protocol.num_workers)
            return _train_one(family, algorithm, protocol, start, data, record)

        return jax.lax.map(one, (hparams, starts), batch_size=chunk if chunk > 1 else None)

    split, replicated = PartitionSpec(RUNS), PartitionSpec()
    wave = jax.jit(
        jax.shard_map(
            device_wave, mesh=mesh, in_specs=(split, split, replicated, replicated), out_specs=split, check_vma=False
        )
    )
    data = jax.device_put(dict(data), NamedSharding(mesh, replicated))
    over_runs = NamedSharding(mesh, split)

    def inputs(settings_, starts, run):
        num_seeds = len(starts.batch_keys)
        hparams = {name: np.array([s[name] for s in settings_], np.float32) for name in settings_[0]}
        hparams = {name: column[run // num_seeds] for name, column in hparams.items()}
        return jax.device_put((hparams, jax.tree.map(lambda x: x[run % num_seeds], starts)), over_runs)

    lowered = wave.lower(*inputs(grid_settings[:1], starts, np.zeros(wave_size, np.int64)), data, np.False_)
    compiled = _submit(pool, lambda: _timed_compile(lowered))
    state_bytes = _state_bytes(contender, grid_settings[0], protocol, starts)
    pace: list[float] = []

    def train(
        settings_: Sequence[Hparams],
        starts: InitialStates,
        progress: Callable[[int, int], None],
        record: bool = False,
    ) -> Runs:
        total = len(settings_) * len(starts.batch_keys)
        progress(0, total)
        program, _ = compiled.result()
        pace.clear()
        waves = []
        for first in range(0, total, wave_size):
            # The last wave is filled up with copies of the last run, so that every wave has the
            # compiled shape.
            run = np.minimum(np.arange(first, first + wave_size), total - 1)
            start = time.monotonic()
            runs = jax.block_until_ready(program(*inputs(settings_, starts, run), data, np.bool_(record)))
            pace.append((time.monotonic() - start) / protocol.num_rounds)
            waves.append(jax.device_get(runs if record else runs._replace(snapshots=None)))
            progress(min(first + wave_size, total), total)
        runs = jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *waves)
        counts = {name: np.cumsum(values, axis=1) for name, values in runs.counts.items()}
        return runs._replace(minibatch_loss=diverged_is_inf(runs.minibatch_loss), counts=counts)

    def cost() -> dict[str, float | None]:
        program, compile_seconds = compiled.result()
        memory = program.memory_analysis()
        return {
            "compile_seconds": round(compile_seconds, 2),
            "seconds_per_round": float(np.median(pace)) if pace else None,
            "state_bytes": state_bytes,
            "memory_bytes": None if memory is None else int(memory.temp_size_in_bytes),
        }

    def fingerprint() -> str:
        return hashlib.sha256(lowered.as_text().encode()).hexdigest()

    return Runner(train, cost, wave_size, fingerprint)


def _chunk_size(protocol: EvalProtocol, starts: InitialStates, num_runs: int) -> int:
    """Runs vmapped together: one on a CPU, where a device is one core; on accelerators what fits."""
    if jax.default_backend() == "cpu":
        return 1
    num_params = sum(leaf.size for leaf in jax.tree.leaves(starts.params)) // len(starts.batch_keys)
    copies = protocol.num_rounds // protocol.eval_every + 8 * protocol.num_workers
    return max(1, min(MAX_CHUNK, num_runs, CHUNK_BYTES // (4 * num_params * copies)))


def _submit(pool: Executor | None, function: Callable[[], Any]) -> Future:
    if pool is not None:
        return pool.submit(function)
    done: Future = Future()
    done.set_result(function())
    return done


def _timed_compile(lowered: Any) -> tuple[Any, float]:
    start = time.monotonic()
    program = lowered.compile()
    return program, time.monotonic() - start


def _state_bytes(contender: Contender, hparams: Hparams, protocol: EvalProtocol, starts: InitialStates) -> int:
    """Shared state once and worker state K times, less the parameters that are evaluated."""

    def state(params):
        algorithm = simulate(contender.make(hparams), protocol.num_workers)
        whole = algorithm.init(params)
        return whole, algorithm.params(whole)

    whole, evaluated = jax.eval_shape(state, jax.tree.map(lambda x: x[0], starts.params))
    return _bytes(whole) - _bytes(evaluated)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _train_one(
    family: TaskFamily,
    algorithm: LocalAlgorithm,
    protocol: EvalProtocol,
    start: InitialStates,
    data: Mapping[str, PyTree],
    record: Bool[Array, ""],
) -> Runs:
    task = family.task(start.task_config, data)
    batch_shape = (protocol.num_workers, protocol.num_local_steps, protocol.batch_size)

    average = parameter_average(protocol.ema)
    measure = round_measure(protocol.diagnostics, protocol.num_workers)
    is_point = jnp.arange(protocol.eval_every) == protocol.eval_every - 1

    def one_round(carry, inputs):
        (state, averaged), (keys, is_point) = carry, inputs
        batch_key, round_key = map(jax.random.wrap_key_data, keys)
        batches = task.sample_batch(batch_key, "train", batch_shape)
        state, info = algorithm.round(task.loss, state, round_key, batches)
        diagnostics = dict(info.diagnostics)
        if SENT in diagnostics and measure is not None:
            diagnostics |= _measured_if(record & is_point, measure, diagnostics.pop(SENT))
        # A curve is of one number a round.
        diagnostics = {name: value for name, value in diagnostics.items() if _is_scalar(value)}
        return (state, average.add(averaged, algorithm.params(state))), (jnp.mean(info.losses), diagnostics)

    def segment(carry, keys):
        carry, (losses, diagnostics) = jax.lax.scan(one_round, carry, (keys, is_point))
        counts = {name: jnp.sum(diagnostics.pop(name)) for name in COUNTED if name in diagnostics}
        return carry, (losses, evaluated(carry), jax.tree.map(lambda x: x[-1], diagnostics), counts)

    def evaluated(carry):
        return average.read(carry[1], algorithm.params(carry[0]))

    keys = (start.batch_keys, start.round_keys)
    segments = jax.tree.map(lambda x: x.reshape((-1, protocol.eval_every, x.shape[-1])), keys)
    carry = (algorithm.init(start.params), average.init(start.params))
    carry, (losses, snapshots, diagnostics, counts) = jax.lax.scan(segment, carry, segments)
    return Runs(evaluated(carry), snapshots, losses.reshape(-1), diagnostics, counts)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float | jax.Array) and jnp.shape(value) == ()


def _measured_if(wanted: Bool[Array, ""], measure: Callable[[Any], dict[str, Array]], sent: PyTree) -> dict[str, Array]:
    """Of a round's pseudo-gradients; nan, and no work, where it is not wanted: some cost more than a round."""
    shapes = jax.eval_shape(measure, sent)
    return jax.lax.cond(
        wanted, measure, lambda sent: {name: jnp.full(x.shape, jnp.nan, x.dtype) for name, x in shapes.items()}, sent
    )
