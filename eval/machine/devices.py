"""Every CPU core as a JAX device of its own.

Independent runs spread over one-core devices finish about twice as fast on two cores as on one
device that splits every small operation over its threads.

There are never fewer than two: XLA optimizes a program for a single device differently from the same
program for several, and a result would have other last bits on a machine with one core.
"""

import math
import os
from pathlib import Path

import jax


def use_all_cores() -> None:
    """Makes one CPU device per usable core, at least two; call it before the first use of a device.

    Does nothing where the devices exist already or their number was chosen by hand, and leaves
    accelerators alone.
    """
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if chosen:
        return
    try:
        if jax.config.jax_num_cpu_devices == -1:  # pyright: ignore[reportAttributeAccessIssue]
            jax.config.update("jax_num_cpu_devices", max(2, usable_cores()))
    except RuntimeError:
        # Too late, a device is in use: correct all the same, only slower.
        return


def usable_cores() -> int:
    """Cores this process may use: its affinity mask and its container's quota, if it has one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores
