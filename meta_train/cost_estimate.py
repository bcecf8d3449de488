"""What a run will need, before anything runs: bytes on each device, floating-point operations and time per meta-step.

Memory is what XLA assigns to the compiled programs (`memory_analysis`): arguments (particles, theta, data), results and
temporaries, less what donated arguments share with results. Nothing is allocated but the data. Operations are counted
on the lowered programs of one local step and one server step (`cost_analysis`) and multiplied,

    particles * rounds * (K * H * gradient step + server step),   4 of each for one that is differentiated

(forward, forward again for rematerialisation, and a backward pass of twice the forward), so a loop inside a task's loss
counts once. Time is operations over the speed of a matrix product measured here, times an assumed share of it, stated
in the report: inner problems are small, and reach less of it on an accelerator.
"""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eval.machine.progress import hours_minutes_seconds
from learned_opt.base import LearnedOptimizer
from meta_train.config import MetaTrainConfig, component_runs
from meta_train.estimators.particle_mesh import particle_shardings
from meta_train.mixture import MetaTrainer
from meta_train.references import NOTHING, Given, find_estimator, find_family
from meta_train.trainer import build_lopt, build_mesh, build_trainer
from tasks.base import TaskFamily

ASSUMED_SHARE = {"cpu": 0.5}
OTHER_SHARE = 0.05
"""Share of the speed of a large matrix product that inner training reaches: on CPUs, and on anything else."""
_CALIBRATION = {"cpu": 512}
_OTHER_CALIBRATION = 4096
_CALIBRATION_SECONDS = 0.2


class ProgramBytes(NamedTuple):
    """Bytes of one compiled program on each device.

    Attributes:
      arguments: of them; donated ones are counted here.
      results: beyond the memory of donated arguments.
      temporaries: while it runs.
    """

    arguments: int
    results: int
    temporaries: int

    @property
    def peak(self) -> int:
        """Their sum."""
        return self.arguments + self.results + self.temporaries


class CostEstimate(NamedTuple):
    """Estimates of a run.

    Attributes:
      num_params: parameters of one inner task, by component.
      particle_bytes: state of all particles, by component, over all devices.
      data_bytes: on each device, by component; 0 where an earlier one has the same family, whose data both read.
      theta_bytes: meta-parameters, their average and the meta-optimizer's state, on each device.
      programs: by name.
      flops: of a meta-step, all devices, by component.
      num_devices: that take part.
      flops_per_second: of one device, assumed share included.
      share: that share.
    """

    num_params: dict[str, int]
    particle_bytes: dict[str, int]
    data_bytes: dict[str, int]
    theta_bytes: int
    programs: dict[str, ProgramBytes]
    flops: dict[str, float]
    num_devices: int
    flops_per_second: float
    share: float

    @property
    def peak_bytes(self) -> int:
        """Largest need of a device: that of one program, beside the particles and data of the others."""
        resident = sum(self.particle_bytes.values()) // self.num_devices + sum(self.data_bytes.values())
        return max(program.results + program.temporaries for program in self.programs.values()) + (
            resident + self.theta_bytes
        )


def estimate_cost(
    config: MetaTrainConfig, given: Given = NOTHING, flops_per_second: float | None = None
) -> CostEstimate:
    """Lowers and compiles the programs of a run, and adds up.

    Args:
      config: of the run.
      given: what it names that was made in Python.
      flops_per_second: of a matrix product on one device; measured when None.

    Raises:
      ValueError, FileNotFoundError: as in `build_trainer`.
      RuntimeError: a program cannot be compiled.
    """
    runs = component_runs(config)
    trainer, lopt, mesh = build_trainer(config, given), build_lopt(config, given), build_mesh(config)
    families = {task: find_family(task, given) for task in dict.fromkeys(run.task for run in runs.values())}
    try:
        state = abstract_state(trainer, mesh)
        programs = {name: _program_bytes(lowered) for name, lowered in trainer.lower(state).items()}
        flops = {name: run_flops(run, lopt, families[run.task]) for name, run in runs.items()}
    except ValueError as error:
        raise RuntimeError("a program of the run cannot be compiled") from error
    first_of = {run.task: name for name, run in reversed(runs.items())}
    share = ASSUMED_SHARE.get(jax.default_backend(), OTHER_SHARE)
    speed = flops_per_second or measure_matmul_speed()
    return CostEstimate(
        num_params={name: _num_params(families[run.task]) for name, run in runs.items()},
        particle_bytes={name: tree_bytes(state.particles[name]) for name in runs},
        data_bytes={
            name: _data_bytes(config, families[run.task]) if first_of[run.task] == name else 0
            for name, run in runs.items()
        },
        theta_bytes=tree_bytes((state.theta, state.theta_average, state.opt_state)),
        programs=programs,
        flops=flops,
        num_devices=mesh.size,
        flops_per_second=speed * share,
        share=share,
    )


def abstract_state(trainer: MetaTrainer, mesh: jax.sharding.Mesh) -> Any:
    """Shapes and placement of a trainer's state; nothing is allocated."""
    shapes = jax.eval_shape(trainer.init, jax.random.key(0))
    replicated = jax.NamedSharding(mesh, jax.P())
    shardings = jax.tree.map(lambda _: replicated, shapes)
    shardings = shardings._replace(particles=particle_shardings(shapes.particles, mesh))
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)


def run_flops(config: MetaTrainConfig, lopt: LearnedOptimizer, family: TaskFamily) -> float:
    """Operations of one meta-step of a configuration without components."""
    data = jax.tree.map(_shape, family.data)
    theta = jax.eval_shape(lopt.init, jax.random.key(0))

    def start(data):
        task_config = family.sample(jax.random.key(0))
        return task_config, family.task(task_config, data).init(jax.random.key(0))

    task_config, params = jax.eval_shape(start, data)

    def local_step(params, task_config, data):
        task = family.task(task_config, data)
        batch = task.sample_batch(jax.random.key(0), "train", (config.batch_size,))
        return jax.value_and_grad(task.loss)(params, jax.random.key(0), batch)

    def server_step(theta, params, worker_updates):
        transform = lopt.transform(theta, num_steps=config.max_unroll_length)
        mean = jax.tree.map(lambda x: jnp.mean(x, axis=0), worker_updates)
        return transform.update(
            mean, transform.init(params), params, worker_updates=worker_updates, value=jnp.float32(0)
        )

    updates = jax.tree.map(lambda x: jax.ShapeDtypeStruct((config.num_workers, *x.shape), x.dtype), params)
    gradient = _flops(local_step, params, task_config, data)
    server = _flops(server_step, theta, params, updates)
    estimator = find_estimator(config.estimator)
    particles = config.num_tasks * (1 if estimator.differentiates else 2 * config.pairs_per_task)
    rounds = _mean_length(config) if estimator.whole_episodes else config.truncation_length
    inner = particles * rounds * (config.num_workers * config.num_local_steps * gradient + server)
    return inner * (4 if estimator.differentiates else 1)


def _mean_length(config: MetaTrainConfig) -> float:
    """Of an episode, in rounds: lengths are log-uniform."""
    shortest, longest = config.min_unroll_length, config.max_unroll_length
    return shortest if shortest == longest else (longest - shortest) / math.log(longest / shortest)


def measure_matmul_speed() -> float:
    """Operations per second of a float32 matrix product on the first device."""
    size = _CALIBRATION.get(jax.default_backend(), _OTHER_CALIBRATION)
    product = jax.jit(lambda a: a @ a)
    a = jnp.full((size, size), 1 / size, jnp.float32)
    product(a).block_until_ready()
    start, repeats = time.perf_counter(), 0
    while time.perf_counter() - start < _CALIBRATION_SECONDS:
        product(a).block_until_ready()
        repeats += 1
    return 2 * size**3 * repeats / (time.perf_counter() - start)


def report(config: MetaTrainConfig, estimate: CostEstimate) -> str:
    """The estimate in lines."""
    lines = [
        f"{config.preset}: {config.optimizer} over {len(estimate.flops)} component(s), "
        f"{estimate.num_devices} device(s) of {jax.devices()[0].device_kind}"
    ]
    for name in estimate.flops:
        lines.append(
            f"  {name}: {estimate.num_params[name]:,} parameters, particles {_size(estimate.particle_bytes[name])}, "
            f"data {_size(estimate.data_bytes[name])}, {estimate.flops[name]:.2e} operations"
        )
    lines.append(f"  theta, its average and the meta-optimizer's state: {_size(estimate.theta_bytes)}")
    for name, program in estimate.programs.items():
        lines.append(
            f"  program {name}: arguments {_size(program.arguments)}, results {_size(program.results)}, "
            f"temporaries {_size(program.temporaries)} on each device"
        )
    share = config.components_per_step / len(estimate.flops) if config.components_per_step else 1.0
    flops = share * sum(estimate.flops.values())
    seconds = flops / (estimate.flops_per_second * estimate.num_devices)
    lines.append(f"  peak memory of a device: {_size(estimate.peak_bytes)}")
    lines.append(
        f"  a meta-step: {flops:.2e} operations, about {seconds:.3g} s if inner training reaches {estimate.share:.0%} "
        f"of a matrix product's {estimate.flops_per_second / estimate.share:.2e} operations/s (measured here); "
        f"{config.meta_steps} of them: {hours_minutes_seconds(seconds * config.meta_steps)}"
    )
    return "\n".join(lines)


def tree_bytes(tree: Any) -> int:
    """Bytes of the arrays of a tree, or of what has their shapes."""
    return sum(math.prod(leaf.shape) * jnp.dtype(_storage(leaf)).itemsize for leaf in jax.tree.leaves(tree))


def _storage(leaf: Any) -> Any:
    return "uint64" if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.dtype


def _program_bytes(lowered: jax.stages.Lowered) -> ProgramBytes:
    memory: Any = lowered.compile().memory_analysis()
    return ProgramBytes(
        arguments=memory.argument_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
    )


def _flops(fn: Any, *arguments: Any) -> float:
    cost: Any = jax.jit(fn).lower(*arguments).cost_analysis()
    return float(cost["flops"]) if isinstance(cost, Mapping) and "flops" in cost else math.nan


def _num_params(family: TaskFamily) -> int:
    def start(data):
        return family.task(family.sample(jax.random.key(0)), data).init(jax.random.key(0))

    params = jax.eval_shape(start, jax.tree.map(_shape, family.data))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _data_bytes(config: MetaTrainConfig, family: TaskFamily) -> int:
    whole = tree_bytes(family.data)
    if not config.resident_bytes:
        return whole
    train = tree_bytes(family.data["train"])
    # The next window is placed before the old one is dropped.
    return whole - train + 2 * min(train, config.resident_bytes)


def _size(count: int) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"
