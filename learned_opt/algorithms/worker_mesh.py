"""Workers spread over devices: the only shard_map of the library.

The body is the one of `local_sgd(..., axis_name="workers")`: each device trains K / devices workers, worker updates are
gathered, and every device takes the same server step. Global parameters and server state are replicated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec

from learned_opt.algorithms.local_sgd import LocalAlgorithm, LossFn, RoundInfo, RoundState

WORKERS = "workers"


def make_worker_mesh(num_devices: int | None = None) -> jax.sharding.Mesh:
    """A one-axis mesh named "workers" over the first `num_devices` devices (default: all)."""
    devices = jax.devices()
    num_devices = len(devices) if num_devices is None else num_devices
    if not 1 <= num_devices <= len(devices):
        raise ValueError(f"num_devices={num_devices}: this process sees {len(devices)} devices")
    return jax.make_mesh(
        (num_devices,),
        (WORKERS,),
        axis_types=(jax.sharding.AxisType.Auto,),
        devices=devices[:num_devices],
    )


def shard_round(
    algorithm: LocalAlgorithm, loss_fn: LossFn, mesh: jax.sharding.Mesh
) -> Callable[[RoundState, jax.Array, Any], tuple[RoundState, RoundInfo]]:
    """The round of an algorithm built with `axis_name="workers"`, spread over the mesh.

    Args:
      algorithm: from `local_sgd(..., axis_name="workers")`.
      loss_fn: (params, key, batch) -> scalar.
      mesh: with an axis "workers" whose size divides K.

    Returns:
      (state, key, batches) -> (state, info), to be jitted; arrays are global, leaves of `batches`
      [K, H, batch, ...], split over the mesh by their first axis.
    """
    replicated, split = PartitionSpec(), PartitionSpec(WORKERS)
    state_spec = RoundState(params=replicated, local_state=split, server_state=replicated)
    # The gathered values are equal on every device, which shard_map's replication check cannot see through all_gather.
    return jax.shard_map(
        lambda state, key, batches: algorithm.round(loss_fn, state, key, batches),
        mesh=mesh,
        in_specs=(state_spec, replicated, split),
        out_specs=(state_spec, replicated),
        check_vma=False,
    )
