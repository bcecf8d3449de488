"""What meta-training costs: `python -m meta_train.speed BENCHMARK` prints one JSON line.

`meta_step`: a meta-step of the preset `lagg_fmnist8_k8_h4` against the bare task gradients of the same particles,
workers and steps, i.e. the same rounds with plain averaging for a server and no estimator; interleaved in one process.
`pes`: PES on an MLP 784-128-10 (random pixels: only the shapes matter), batch 64, 8 tasks, truncation 20, K = H = 1,
`adafac_mlp_lopt(hidden_size=4)`; inner steps per second, both signs counted.


`python -m eval.speed` runs the first two, each in a process of its own so that compilation is cold, beside the other
benchmarks.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

import learned_opt
from eval.machine.devices import use_all_cores
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.base import LearnedOptimizer
from meta_train.config import MetaTrainConfig
from meta_train.estimators.particle_mesh import default_chunk, make_particle_mesh, map_particles
from meta_train.estimators.pes import pes
from meta_train.estimators.truncation import constant_length
from meta_train.estimators.unroll import make_unroll
from meta_train.presets import PRESETS
from meta_train.trainer import Trainer, build_trainer, build_unroll, meta_trainer
from tasks.families.images.image_mlp import image_mlp
from tasks.suites import make_family

REPEATS = 9


def _seconds(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(step())
    return time.perf_counter() - start


def _stepper(trainer: Trainer) -> tuple[float, Callable[[], Any]]:
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
    averaging = LearnedOptimizer(
        init=lambda key: {},
        transform=lambda theta: optax.with_extra_args_support(optax.sgd(1.0)),
        config={},
    )
    unroll = build_unroll(config, averaging, family)
    data = jax.device_put(family.data)

    def train_pair(data, pair_id, state):
        key = jax.random.fold_in(jax.random.key(0), pair_id)
        state, info = jax.vmap(unroll.step, in_axes=(None, 0, None, None))({}, state, key, data)
        return state, info.losses

    over_pairs = map_particles(train_pair, make_particle_mesh(config.num_tasks), default_chunk(config.num_tasks))
    state = jax.vmap(jax.vmap(lambda key: unroll.reset({}, key, data)))(
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
    config = PRESETS["lagg_fmnist8_k8_h4"]
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
    num_tasks, truncation_length, batch_size = 8, 20, 64
    rng = np.random.default_rng(0)
    split = {
        "image": rng.integers(0, 256, (10_000, 28, 28), dtype=np.uint8),
        "label": rng.integers(0, 10, 10_000).astype(np.int32),
    }
    family = image_mlp(dict.fromkeys(("train", "outer_valid"), split), hidden_sizes=(128,))
    lopt = learned_opt.adafac_mlp_lopt(hidden_size=4)
    # With one worker, one step and learning rate 1 the pseudo-gradient is the gradient.
    unroll = make_unroll(
        lambda theta: local_sgd(optax.sgd(1.0), lopt.transform(theta)),
        family,
        num_workers=1,
        num_local_steps=1,
        batch_size=batch_size,
        truncation_length=truncation_length,
        meta_loss_split="train",
    )
    mesh = make_particle_mesh(num_tasks)
    estimator = pes(
        unroll,
        constant_length(10 * truncation_length, truncation_length),
        num_pairs=num_tasks,
        truncation_length=truncation_length,
        sigma=0.01,
        mesh=mesh,
    )
    trainer = meta_trainer(
        lopt,
        estimator,
        family.data,
        learning_rate=optax.constant_schedule(1e-3),
        weight_decay=0.0,
        max_gradient_norm=1.0,
        average_decay=0.0,
        mesh=mesh,
    )
    first, step = _stepper(trainer)
    seconds = statistics.median(_seconds(step) for _ in range(REPEATS))
    return {
        "inner_steps_per_s": 2 * num_tasks * truncation_length / seconds,
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
