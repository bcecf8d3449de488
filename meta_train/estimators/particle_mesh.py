"""Particles spread over devices, in an order of arithmetic that does not depend on how many devices there are.

The mesh has two axes: particles lie along the first, and along the second the K workers of each of them where one
device should not hold them all. Each device maps over its particles in chunks of a fixed size. Their estimates are
gathered, so that every device averages all of them in particle order; with the chunk fixed that gives the same bits on
2, 4, 8 or 16 devices. XLA optimizes a program for one device by itself, and there it may turn x / broadcast(y) into
x * broadcast(1 / y), as in the bias correction of optax's Adam. The commands therefore make two CPU devices even on one
core. The MLP, CNN and transformer families with local SGD hold no such quotient and have the same bits on one device
too. All that is over particles; fewer workers on a device are smaller matrix products, whose sums XLA may order
differently: those of a CNN it does.

On a CPU one device per core and a chunk of one antithetic pair is also the fastest layout: a pair's working set stays
in cache and cores need not synchronise.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Int

from learned_opt.algorithms.round import WORKER_DEVICES
from learned_opt.base import RoundState

PARTICLES = "particles"
WORKER_AXIS = 2
"""Where the states of workers have their worker axis: [particles, signs, workers, ...]."""


def make_particle_mesh(num_particles: int, worker_devices: int = 1) -> jax.sharding.Mesh:
    """A mesh [particles, workers] over as many devices as share out the particles equally, equally many of every
    process.

    Args:
      num_particles: particles, or antithetic pairs, that are mapped over it.
      worker_devices: devices that the workers of a particle are spread over, all of one process.

    Raises:
      ValueError: the particles cannot be shared out equally over the processes, or too few devices.
    """
    processes = jax.process_count()
    if num_particles % processes:
        multiple = processes * max(1, round(num_particles / processes))
        raise ValueError(f"num_tasks={num_particles}: use a multiple of the {processes} processes, e.g. {multiple}")
    local = jax.local_device_count()
    if not 1 <= worker_devices <= local:
        raise ValueError(f"worker_devices={worker_devices}: use at most the {local} devices that a process sees")
    share = num_particles // processes
    of_each = max(n for n in range(1, local // worker_devices + 1) if share % n == 0)
    chosen = [
        device
        for rank in range(processes)
        for device in jax.local_devices(process_index=rank)[: of_each * worker_devices]
    ]
    return jax.sharding.Mesh(
        np.asarray(chosen).reshape(-1, worker_devices),
        (PARTICLES, WORKER_DEVICES),
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )


def chunk_size(num_particles: int) -> int:
    """Of the particles of a device, how many are computed at once: one on a CPU, all of them elsewhere."""
    return 1 if jax.default_backend() == "cpu" else num_particles


def new_particles(shapes: Any, num_particles: int, mesh: jax.sharding.Mesh) -> Any:
    """Zeros for the state of all particles, placed as `map_particles` keeps it.

    Args:
      shapes: of one particle on one device, i.e. with the workers that this device holds.
      num_particles: leading axis.
      mesh: from `make_particle_mesh`.
    """

    def zeros(shape, spec):
        full = [num_particles, *shape.shape]
        if WORKER_DEVICES in spec:
            full[WORKER_AXIS] *= mesh.shape[WORKER_DEVICES]
        return jnp.zeros(full, shape.dtype, device=jax.NamedSharding(mesh, spec))

    return jax.tree.map(zeros, shapes, _particle_specs(shapes, mesh))


def particle_shardings(particles: Any, mesh: jax.sharding.Mesh) -> Any:
    """Where `map_particles` keeps the arrays of all particles, given them or their shapes."""
    return jax.tree.map(lambda spec: jax.NamedSharding(mesh, spec), _particle_specs(particles, mesh))


def map_particles(
    fn: Callable[[Any, Int[Array, ""], Any], tuple[Any, Any]], mesh: jax.sharding.Mesh
) -> Callable[[Any, int, Any], tuple[Any, Any]]:
    """Lifts `fn(shared, particle number, state) -> (state, estimate)` to all particles.

    Args:
      fn: of one particle; on a mesh with several worker devices it runs on each of them, and returns the same estimate.
      mesh: from `make_particle_mesh`.

    Returns:
      (shared, number of particles, states) -> (states, estimates): states have a leading particle axis and stay on
      their devices (`()` where particles keep none); estimates are gathered, so that every device has all of them, in
      particle order.
    """

    def on_device(shared, numbers, states):
        count = numbers.shape[0]
        size = chunk_size(count)
        over_chunk = jax.vmap(fn, in_axes=(None, 0, 0))
        chunks = jax.tree.map(lambda x: jnp.reshape(x, (count // size, size, *x.shape[1:])), (numbers, states))
        results = jax.lax.map(lambda chunk: over_chunk(shared, *chunk), chunks)
        states, estimates = jax.tree.map(lambda x: jnp.reshape(x, (count, *x.shape[2:])), results)
        estimates = jax.tree.map(lambda x: jax.lax.all_gather(x, PARTICLES, tiled=True), estimates)
        # The barrier keeps what follows out of the kernels before it, whatever the layout.
        return states, jax.lax.optimization_barrier(estimates)

    def mapped(shared, num_particles, states):
        specs = _particle_specs(states, mesh)
        # all_gather makes estimates equal on every device, which the replication check cannot prove.
        return jax.shard_map(
            on_device,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(PARTICLES), specs),
            out_specs=(specs, PartitionSpec()),
            check_vma=False,
        )(shared, jnp.arange(num_particles), states)

    return mapped


def _particle_specs(particles: Any, mesh: jax.sharding.Mesh) -> Any:
    """Partition of every leaf: by particle, and what a worker keeps by worker too."""
    on_particles = PartitionSpec(PARTICLES)
    on_workers = PartitionSpec(PARTICLES, *[None] * (WORKER_AXIS - 1), WORKER_DEVICES)

    def of_node(node):
        specs = jax.tree.map(lambda _: on_particles, node)
        if isinstance(node, RoundState) and mesh.shape[WORKER_DEVICES] > 1:
            specs = specs._replace(worker=jax.tree.map(lambda _: on_workers, node.worker))
        return specs

    return jax.tree.map(of_node, particles, is_leaf=lambda node: isinstance(node, RoundState))
