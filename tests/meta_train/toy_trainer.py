"""A trainer with the real one's interface and a random walk for an estimator, for tests of the run around it.

Its particles lie spread over all devices of all processes, as the real ones do, so it takes part in a group of
processes. `python -m tests.meta_train.toy_trainer ARGUMENTS` is `python -m meta_train ARGUMENTS` with it;
TOY_SECONDS in the environment sets how long a meta-step takes.
"""

import functools
import os
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

import meta_train.processes.launch
import meta_train.runs.run
from learned_opt.architectures.lagg_a import lagg_a
from meta_train.__main__ import main
from meta_train.config import MetaTrainConfig
from meta_train.estimators.base import EstimatorInfo
from meta_train.estimators.particle_mesh import PARTICLES, make_particle_mesh, map_particles
from meta_train.flat_theta import flat_form
from meta_train.meta_update import MetaStepInfo, MetaTrainState
from meta_train.mixture import MetaTrainer
from meta_train.processes.distributed import place
from meta_train.runs.run_store import newest_checkpoint, read_rows

NUM_PARTICLES = 16
PROGRAM = (sys.executable, "-m", "tests.meta_train.toy_trainer")


@functools.cache
def toy_trainer(sleep: float = 0.0, first_bad_step: int = 10**9) -> MetaTrainer:
    """A meta-step adds noise to theta, compiled once a process; from `first_bad_step` on its
    meta-gradient is not finite."""
    lopt = lagg_a(num_workers=2, hidden_size=2)
    form = flat_form(lopt)
    mesh = make_particle_mesh(NUM_PARTICLES)

    @jax.jit
    def on_one_device(key):
        theta = form.ravel(lopt.init(key))
        return MetaTrainState(
            step=jnp.int32(0),
            key=key,
            theta=theta,
            theta_average=jnp.copy(theta),
            opt_state={"momentum": jnp.zeros(5, jnp.bfloat16), "none": None},
            particles=(jax.random.split(key, NUM_PARTICLES), jnp.zeros((0, 2), bool)),
            num_skipped_in_row=jnp.int32(0),
        )

    def init(key):
        state = on_one_device(key)
        keys, flags = state.particles
        keys = place(keys, jax.NamedSharding(mesh, jax.P(PARTICLES)))
        rest = place((state._replace(particles=None), flags), jax.NamedSharding(mesh, jax.P()))
        return rest[0]._replace(particles=(keys, rest[1]))

    def walk(scale, number, key):
        del number
        new_key, noise_key = jax.random.split(key)
        return new_key, scale * jax.random.normal(noise_key)

    def step_fn(state):
        key = jax.random.fold_in(state.key, state.step)
        keys, flags = state.particles
        keys, draws = map_particles(walk, mesh)(jnp.float32(0.1), NUM_PARTICLES, keys)
        theta = state.theta + jnp.mean(draws) * jax.random.normal(key, state.theta.shape)
        bad = state.step + 1 >= first_bad_step
        state = state._replace(
            step=state.step + 1,
            theta=theta,
            theta_average=0.9 * state.theta_average + 0.1 * theta,
            opt_state={**state.opt_state, "momentum": state.opt_state["momentum"] + 1},
            particles=(keys, flags),
            num_skipped_in_row=jnp.where(bad, state.num_skipped_in_row + 1, 0),
        )
        norm = jnp.where(bad, jnp.nan, jnp.sum(theta**2))
        counts = {name: jnp.int32(0) for name in ("num_clamped", "num_diverged", "num_skipped_estimates")}
        estimate = EstimatorInfo(norm, norm, norm, norm, **counts, mean_age=jnp.float32(1), max_age=jnp.int32(1))
        info = MetaStepInfo(
            estimate=estimate,
            gradient_norm=norm,
            num_skipped=bad.astype(jnp.int32),
            num_skipped_in_row=state.num_skipped_in_row,
            learning_rate=jnp.float32(1e-3),
            by_component={},
        )
        return state, info

    jitted = jax.jit(step_fn, donate_argnums=0)

    def step(state):
        time.sleep(sleep)
        return jitted(state)

    return MetaTrainer(
        init,
        step,
        lambda state: {"meta_step": jitted.lower(state)},
        lopt,
        form.unravel,
        card={"task": "toy", "num_workers": 2},
        local_opt={"name": "sgd", "learning_rate": 0.25},
    )


def toy_config(run_dir: Path, **changes) -> MetaTrainConfig:
    """Settings of a run of 30 meta-steps with a checkpoint every 7."""
    settings = {"meta_steps": 30, "checkpoint_every": 7, "warmup_steps": 1, **changes}
    return MetaTrainConfig(run_dir=str(run_dir), **settings)


def result_of(run_dir: Path) -> tuple[int, dict[str, tuple], list[dict]]:
    """What a run computed: its newest checkpoint's step and bits, and its metrics without the
    clock."""
    checkpoint, damages = newest_checkpoint(run_dir)
    assert checkpoint is not None and not damages
    bits = {k: (v.dtype, v.shape, v.tobytes()) for k, v in checkpoint.arrays.items()}
    rows = read_rows(run_dir / "metrics.jsonl")
    clock = ("seconds", "elapsed")
    return (
        checkpoint.step,
        bits,
        [{k: v for k, v in row.items() if k not in clock} for row in rows],
    )


if __name__ == "__main__":
    meta_train.processes.launch.PROGRAM = PROGRAM
    seconds = float(os.environ.get("TOY_SECONDS", "0.003"))
    meta_train.runs.run.build_trainer = lambda config, given: toy_trainer(sleep=seconds)
    sys.exit(main(sys.argv[1:]))
