"""What meta-training costs: `python -m meta_train.speed BENCHMARK` prints one JSON line.

`meta_step`: a meta-step of the preset `lagg_fmnist8_k8_h4` against the bare task gradients of the same particles,
workers and steps, i.e. the same rounds with plain averaging for a server and no estimator; interleaved in one process.
`pes`: PES on an MLP 784-128-10 (random pixels: only the shapes matter), batch 64, 8 tasks, truncation 20, K = H = 1,
`adafac_mlp_lopt(hidden_size=4)`; inner steps per second, both signs counted.

`python -m eval.speed` runs both, each in a process of its own so that compilation is cold, beside the other
benchmarks.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from eval.machine.devices import use_all_cores
from learned_opt.algorithms.local_sgd import local_sgd
from meta_train.config import MetaTrainConfig
from meta_train.estimators.particle_mesh import make_particle_mesh, map_particles
from meta_train.estimators.unroll import make_unroll
from meta_train.mixture import MetaTrainer
from meta_train.presets import PRESETS
from meta_train.references import Given, find_local_optimizer
from meta_train.trainer import build_trainer
from tasks.base import SPLITS
from tasks.families.images.image_mlp import image_mlp
from tasks.suites import make_family

REPEATS = 9


def _seconds(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(step())
    return time.perf_counter() - start


def _stepper(trainer: MetaTrainer) -> tuple[float, Callable[[], Any]]:
    """Seconds of initialisation, compilation and first step, and a function that takes one more."""
    start = time.perf_counter()
    state, info = trainer.step(trainer.init(jax.random.key(0)))
    jax.block_until_ready(info)
    first = time.perf_counter() - start
    held = [state]

    def step():
        held[0], info = trainer.step(held[0])
        return info

    return first, step


def bare_gradients(config: MetaTrainConfig) -> Callable[[], Any]:
    """The rounds of one meta-step with plain averaging: same batches, workers, signs and layout of particles."""
    family = make_family(config.task)
    averaging = local_sgd(find_local_optimizer(config.local_optimizer), optax.sgd(1.0))
    unroll = make_unroll(
        lambda theta, num_rounds: averaging,
        family,
        num_workers=config.num_workers,
        num_local_steps=config.num_local_steps,
        batch_size=config.batch_size,
        truncation_length=config.truncation_length,
        meta_loss_split=config.meta_loss_split,
    )
    theta = jnp.zeros(0)
    data = jax.device_put(family.data)

    def train_pair(data, pair_id, state):
        key = jax.random.fold_in(jax.random.key(0), pair_id)
        state, info = jax.vmap(unroll.step, in_axes=(None, 0, None, None))(theta, state, key, data)
        return state, info.losses

    over_pairs = map_particles(train_pair, make_particle_mesh(config.num_tasks))
    state = jax.vmap(jax.vmap(lambda key: unroll.reset(theta, key, data, jnp.int32(config.max_unroll_length))))(
        jax.random.split(jax.random.key(0), (config.num_tasks, 2))
    )
    step = jax.jit(lambda state: over_pairs(data, config.num_tasks, state))
    held = [state]

    def run():
        held[0], losses = step(held[0])
        return losses

    jax.block_until_ready(run())
    return run


def benchmark_meta_step() -> dict[str, float]:
    """Seconds per meta-step, its ratio to the bare gradients, seconds until the first is done."""
    config = PRESETS["lagg_fmnist8_k8_h4"]()
    first, step = _stepper(build_trainer(config))
    bare = bare_gradients(config)
    pairs = [(_seconds(bare), _seconds(step)) for _ in range(REPEATS)]
    return {
        "bare_gradients_s": statistics.median(b for b, _ in pairs),
        "meta_step_s": statistics.median(s for _, s in pairs),
        "ratio": statistics.median(s / b for b, s in pairs),
        "compile_and_first_step_s": first,
    }


def benchmark_pes() -> dict[str, float]:
    """Inner steps per second of PES for a single-machine optimizer."""
    rng = np.random.default_rng(0)
    split = {
        "image": rng.integers(0, 256, (10_000, 28, 28), dtype=np.uint8),
        "label": rng.integers(0, 10, 10_000).astype(np.int32),
    }
    family = image_mlp(dict.fromkeys(SPLITS, split), hidden_sizes=(128,))
    config = MetaTrainConfig(
        task="random_pixels",
        optimizer="adafac_mlp_lopt,hidden_size=4",
        num_workers=1,
        num_local_steps=1,
        batch_size=64,
        num_tasks=8,
        sigma=0.01,
        truncation_length=20,
        min_unroll_length=200,
        max_unroll_length=200,
    )
    trainer = build_trainer(config, Given(families={"random_pixels": family}))
    first, step = _stepper(trainer)
    seconds = statistics.median(_seconds(step) for _ in range(REPEATS))
    return {
        "inner_steps_per_s": 2 * config.num_tasks * config.truncation_length / seconds,
        "meta_step_s": seconds,
        "compile_and_first_step_s": first,
    }


BENCHMARKS = {"meta_step": benchmark_meta_step, "pes": benchmark_pes}


def main(arguments: list[str]) -> int:
    """Runs the benchmark named; exit code 2 for an unknown one."""
    if len(arguments) != 1 or arguments[0] not in BENCHMARKS:
        print(f"benchmark {arguments}: name one of {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    use_all_cores()
    print(json.dumps(BENCHMARKS[arguments[0]]()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
