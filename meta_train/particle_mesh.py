"""Particles spread over devices, in an order of arithmetic that does not depend on how many devices there are.

Each device maps over its particles in chunks of a fixed size; what they return is gathered and can be averaged in
particle order. With the chunk fixed, 1, 2, 4 or 8 devices give the same bits. On a CPU one device per core and a
chunk of one antithetic pair is also the fastest layout: a pair's working set stays in cache and cores need not
synchronise.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

PARTICLES = "particles"


def make_particle_mesh(num_particles: int) -> jax.sharding.Mesh:
    """A one-axis mesh over the largest number of devices that divides `num_particles`."""
    devices = jax.devices()
    num_devices = max(n for n in range(1, len(devices) + 1) if num_particles % n == 0)
    return jax.sharding.Mesh(
        np.asarray(devices[:num_devices]),
        (PARTICLES,),
        axis_types=(jax.sharding.AxisType.Auto,),
    )


def default_chunk(num_particles: int) -> int:
    """Particles computed at once: 1 on a CPU, all of a device's elsewhere."""
    return 1 if jax.default_backend() == "cpu" else num_particles


def map_particles(fn: Callable[..., Any], mesh: jax.sharding.Mesh, chunk: int) -> Callable[..., tuple[Any, Any]]:
    """Lifts `fn(shared, particle) -> (kept, sent)` to all particles.

    Returns:
      (shared, particles) -> (kept, sent): `particles` and `kept` have a leading particle axis and stay on their
      devices; `sent` is gathered, so every device has all of it, in particle order.
    """

    def on_device(shared, particles):
        count = jax.tree.leaves(particles)[0].shape[0]
        size = min(chunk, count)
        if count % size:
            raise ValueError(f"chunk={chunk} does not divide the {count} particles of a device")
        over_chunk = jax.vmap(fn, in_axes=(None, 0))
        chunks = jax.tree.map(lambda x: jnp.reshape(x, (count // size, size, *x.shape[1:])), particles)
        results = jax.lax.map(lambda chunk: over_chunk(shared, chunk), chunks)
        kept, sent = jax.tree.map(lambda x: jnp.reshape(x, (count, *x.shape[2:])), results)
        sent = jax.tree.map(lambda x: jax.lax.all_gather(x, PARTICLES, tiled=True), sent)
        return kept, sent

    # all_gather makes `sent` equal on every device, which the replication check cannot prove.
    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(PARTICLES)),
        out_specs=(PartitionSpec(PARTICLES), PartitionSpec()),
        check_vma=False,
    )
