"""A mesh of devices for the workers of `spread`, or for a user's own shard_map over them."""

from __future__ import annotations

import jax

from learned_opt.algorithms.round import WORKERS


def make_worker_mesh(num_devices: int | None = None) -> jax.sharding.Mesh:
    """A one-axis mesh named "workers" over the first `num_devices` devices (default: all).

    Raises:
      ValueError: more devices than there are, or none.
    """
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
