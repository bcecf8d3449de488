"""Meta-steps of a preset: seconds until the first, how many a second after that, the most memory, and the bits."""

import dataclasses
import hashlib
import statistics
import time
from typing import Any

import jax

from meta_train.config import MetaTrainConfig
from meta_train.gpu_check.clock import is_small, peak_bytes, seconds_of
from meta_train.presets import PRESETS
from meta_train.runs.state_arrays import to_arrays
from meta_train.trainer import build_trainer

MEASURED_SECONDS = 15.0
MOST_STEPS = 12
STEPS_UNTIL_BITS = 3

SMALL = {
    "num_workers": 2,
    "num_local_steps": 2,
    "batch_size": 4,
    "num_tasks": 2,
    "truncation_length": 2,
    "min_unroll_length": 2,
    "max_unroll_length": 4,
    "components_per_step": 1,
}
"""The most of each on a CPU."""


def measured_config(name: str) -> MetaTrainConfig:
    """The preset, made small on a CPU."""
    config = PRESETS[name]()
    if not is_small():
        return config
    components = tuple(_limited(component) for component in config.components[:2])
    return dataclasses.replace(_limited(config), components=components)


def _limited(settings: Any) -> Any:
    present = {field: getattr(settings, field, None) for field in SMALL}
    return dataclasses.replace(settings, **{f: min(v, SMALL[f]) for f, v in present.items() if v is not None})


def preset_row(name: str) -> dict[str, Any]:
    """Speed and memory. Steps that compile a component of a mixture are in the slower half, which does not count."""
    trainer = build_trainer(measured_config(name))
    start = time.perf_counter()
    held = [trainer.init(jax.random.key(0))]

    def step():
        held[0], info = trainer.step(held[0])
        return info

    jax.block_until_ready(step())
    first = time.perf_counter() - start
    times: list[float] = []
    while len(times) < MOST_STEPS and (len(times) < 3 or sum(times) < MEASURED_SECONDS):
        times.append(seconds_of(step))
    faster = sorted(times)[: (len(times) + 1) // 2]
    return {
        "preset": name,
        "first_step_s": first,
        "meta_steps_per_s": 1 / statistics.median(faster),
        "peak_bytes": peak_bytes(),
    }


def layout_row(name: str) -> dict[str, Any]:
    """Speed on the devices that this process sees, and a hash of everything after a few meta-steps."""
    trainer = build_trainer(measured_config(name))
    state = trainer.init(jax.random.key(0))
    times = []
    for _ in range(STEPS_UNTIL_BITS):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(trainer.step(state))
        times.append(time.perf_counter() - start)
    arrays = to_arrays(state)
    content = b"".join(key.encode() + arrays[key].tobytes() for key in sorted(arrays))
    devices = {device for leaf in jax.tree.leaves(state.particles) for device in leaf.devices()}
    return {
        "devices": len(devices),
        "meta_step_s": min(times[1:]),
        "bits": hashlib.sha256(content).hexdigest()[:12],
    }
