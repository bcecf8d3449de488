"""What a run will need, before anything runs: bytes on each device, floating-point operations and time per meta-step.

Memory is what XLA assigns to the compiled programs (`memory_analysis`): arguments (particles, theta, data), results and
temporaries, less what donated arguments share with results. Nothing is allocated but the data. Operations are counted
on the lowered programs of one local step and one server step (`cost_analysis`) and multiplied,

    particles * rounds * (K * H * gradient step + server step),   3 gradient steps for one that is differentiated

so a loop inside a task's loss counts once. Time is operations over the speed of a matrix product measured here, times
an assumed share of it, stated in the report: inner problems are small, and reach less of it on an accelerator.
"""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt.base import LearnedOptimizer
from meta_train.config import MetaTrainConfig, single_runs
from meta_train.estimators.particle_mesh import make_particle_mesh, particle_shardings
from meta_train.trainer import Trainer, build_lopt, build_trainer
from tasks.base import TaskFamily
from tasks.suites import make_family

ASSUMED_SHARE = {"cpu": 0.5}
OTHER_SHARE = 0.05
"""Share of the speed of a large matrix product that inner training reaches: on CPUs, and on anything else."""
_CALIBRATION = {"cpu": 512}
_OTHER_CALIBRATION = 4096


class ProgramPlan(NamedTuple):
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


class Plan(NamedTuple):
    """Estimates of a run.

    Attributes:
      num_params: parameters of one inner task, by component.
      particle_bytes: state of all particles, by component, over all devices.
      data_bytes: on each device, by component.
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
    programs: dict[str, ProgramPlan]
    flops: dict[str, float]
    num_devices: int
    flops_per_second: float
    share: float

    @property
    def peak_bytes(self) -> int:
        """Largest need of a device: the hungriest program beside the particles and data of the others."""
        resident = sum(self.particle_bytes.values()) // self.num_devices + sum(self.data_bytes.values())
        return max(program.results + program.temporaries for program in self.programs.values()) + (
            resident + self.theta_bytes
        )


def make_plan(config: MetaTrainConfig, flops_per_second: float | None = None) -> Plan:
    """Lowers and compiles the programs of a run, and adds up.

    Args:
      config: of the run.
      flops_per_second: of a matrix product on one device; measured when None.
    """
    runs = single_runs(config)
    trainer, lopt = build_trainer(config), build_lopt(config)
    mesh = make_particle_mesh(
        math.gcd(*(run.num_tasks * run.pairs_per_task for run in runs.values())), config.worker_devices
    )
    state = abstract_state(trainer, mesh)
    particles = state.estimator_state if config.components else {config.task: state.estimator_state}
    families = {task: make_family(task) for task in dict.fromkeys(run.task for run in runs.values())}
    if trainer.lower is None:
        raise ValueError("trainer: it cannot be lowered; build it with build_trainer")
    programs = {name: _program_plan(lowered) for name, lowered in trainer.lower(state).items()}
    rest = (state.theta, state.theta_average, state.opt_state)
    backend = jax.default_backend()
    share = ASSUMED_SHARE.get(backend, OTHER_SHARE)
    speed = flops_per_second or measure_matmul_speed()
    return Plan(
        num_params={name: _num_params(families[run.task]) for name, run in runs.items()},
        particle_bytes={name: tree_bytes(particles[name]) for name in runs},
        data_bytes={name: _data_bytes(config, families[run.task]) for name, run in runs.items()},
        theta_bytes=tree_bytes(rest),
        programs=programs,
        flops={name: run_flops(run, lopt, families[run.task]) for name, run in runs.items()},
        num_devices=mesh.size,
        flops_per_second=speed * share,
        share=share,
    )


def abstract_state(trainer: Trainer, mesh: jax.sharding.Mesh) -> Any:
    """Shapes and placement of a trainer's state; nothing is allocated."""
    shapes = jax.eval_shape(trainer.init, jax.random.key(0))
    replicated = jax.NamedSharding(mesh, jax.P())
    shardings = jax.tree.map(lambda _: replicated, shapes)
    shardings = shardings._replace(estimator_state=particle_shardings(shapes.estimator_state, mesh))
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
        transform = lopt.transform(theta)
        mean = jax.tree.map(lambda x: jnp.mean(x, axis=0), worker_updates)
        return transform.update(
            mean, transform.init(params), params, worker_updates=worker_updates, value=jnp.float32(0)
        )

    updates = jax.tree.map(lambda x: jax.ShapeDtypeStruct((config.num_workers, *x.shape), x.dtype), params)
    gradient = _flops(local_step, params, task_config, data)
    server = _flops(server_step, theta, params, updates)
    backprop = config.estimator.endswith("backprop")
    particles = config.num_tasks * (1 if backprop else 2 * config.pairs_per_task)
    rounds = config.truncation_length
    if config.estimator.startswith("full"):
        rounds = (config.min_unroll_length + config.max_unroll_length) // 2
    inner = particles * rounds * (config.num_workers * config.num_local_steps * gradient + server)
    # Forward again for rematerialisation, and backward, which is about twice the forward.
    return inner * (4 if backprop else 1)


def measure_matmul_speed(seconds: float = 0.2) -> float:
    """Operations per second of a float32 matrix product on the first device."""
    size = _CALIBRATION.get(jax.default_backend(), _OTHER_CALIBRATION)
    product = jax.jit(lambda a: a @ a)
    a = jnp.full((size, size), 1 / size, jnp.float32)
    product(a).block_until_ready()
    start, repeats = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        product(a).block_until_ready()
        repeats += 1
    return 2 * size**3 * repeats / (time.perf_counter() - start)


def report(config: MetaTrainConfig, plan: Plan) -> str:
    """The plan in lines."""
    lines = [
        f"{config.preset}: {config.optimizer} over {len(plan.flops)} component(s), {plan.num_devices} device(s) of "
        f"{jax.devices()[0].device_kind}"
    ]
    for name in plan.flops:
        lines.append(
            f"  {name}: {plan.num_params[name]:,} parameters, particles {_size(plan.particle_bytes[name])}, "
            f"data {_size(plan.data_bytes[name])}, {plan.flops[name]:.2e} operations"
        )
    lines.append(f"  theta, its average and the meta-optimizer's state: {_size(plan.theta_bytes)}")
    for name, program in plan.programs.items():
        lines.append(
            f"  program {name}: arguments {_size(program.arguments)}, results {_size(program.results)}, "
            f"temporaries {_size(program.temporaries)} on each device"
        )
    share = config.components_per_step / len(plan.flops) if config.components_per_step else 1.0
    flops = share * sum(plan.flops.values())
    seconds = flops / (plan.flops_per_second * plan.num_devices)
    lines.append(f"  peak memory of a device: {_size(plan.peak_bytes)}")
    lines.append(
        f"  a meta-step: {flops:.2e} operations, about {seconds:.3g} s if inner training reaches {plan.share:.0%} of a "
        f"matrix product's {plan.flops_per_second / plan.share:.2e} operations/s (measured on one device); "
        f"{config.meta_steps} of them: {_clock(seconds * config.meta_steps)}"
    )
    return "\n".join(lines)


def tree_bytes(tree: Any) -> int:
    """Bytes of the arrays of a tree, or of what has their shapes."""
    return sum(math.prod(leaf.shape) * jnp.dtype(_storage(leaf)).itemsize for leaf in jax.tree.leaves(tree))


def _storage(leaf: Any) -> Any:
    return "uint64" if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.dtype


def _program_plan(lowered: jax.stages.Lowered) -> ProgramPlan:
    memory: Any = lowered.compile().memory_analysis()
    return ProgramPlan(
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


def _clock(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "unknown"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
