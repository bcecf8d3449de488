"""Cost of one optimizer step on three trees of parameters, over that of `optax.adamw` on the same tree.

A step is the update and its addition to the parameters, jitted, with parameters and state donated. The steps that are
compared are timed in turns within one process.
"""

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax

import learned_opt
from eval.speed.trees import Shapes, mlp_shapes
from meta_train.gpu_check.clock import is_small, seconds_of

NUM_WORKERS = 8
REPEATS = 9


def transformer_shapes(width: int, num_blocks: int, vocabulary: int, length: int) -> Shapes:
    """A GPT-2: embeddings, blocks of 12 tensors, a last normalisation."""
    shapes: Shapes = {"tokens": (vocabulary, width), "positions": (length, width)}
    for block in range(num_blocks):
        for name, fan_in, fan_out in (
            ("attention", width, 3 * width),
            ("projection", width, width),
            ("up", width, 4 * width),
            ("down", 4 * width, width),
        ):
            shapes |= {f"{block}/{name}": (fan_in, fan_out), f"{block}/{name}_bias": (fan_out,)}
        shapes |= {f"{block}/norm{i}{part}": (width,) for i in (1, 2) for part in ("", "_bias")}
    return shapes | {"norm": (width,), "norm_bias": (width,)}


def trees() -> dict[str, Shapes]:
    """By name; the last one is GPT-2 small with its 124 million parameters."""
    if is_small():
        return {"MLP": {"w": (12, 8), "b": (8,)}, "transformer": transformer_shapes(8, 1, 16, 8)}
    return {
        "MLP": mlp_shapes(),
        "transformer": transformer_shapes(384, 6, 384, 256),
        "GPT-2 small": transformer_shapes(768, 12, 50257, 1024),
    }


def optimizers() -> dict[str, learned_opt.LearnedOptimizer]:
    """Those that are measured: one for a single machine, in two sizes, and the two kinds of server optimizer."""
    return {
        "adafac_mlp_lopt, 4 units": learned_opt.adafac_mlp_lopt(hidden_size=4),
        "adafac_mlp_lopt, 32 units": learned_opt.adafac_mlp_lopt(hidden_size=32),
        "lopt_a, 32 units": learned_opt.lopt_a(hidden_size=32),
        f"lagg_a, 32 units, K = {NUM_WORKERS}": learned_opt.lagg_a(num_workers=NUM_WORKERS, hidden_size=32),
    }


def rows() -> Iterator[dict[str, Any]]:
    """One for each tree and optimizer, as they are measured."""
    for tree, shapes in trees().items():
        num_params = sum(math.prod(shape) for shape in shapes.values())
        for name, lopt in optimizers().items():
            row = {"tree": f"{tree}, {num_params / 1e6:.3g} M", "optimizer": name}
            try:
                yield row | _measured(lopt, shapes, num_params)
            except jax.errors.JaxRuntimeError as error:
                # The memory of the device does not suffice; the other rows do not depend on it.
                yield row | {"problem": f"{name} on {row['tree']}: {str(error).splitlines()[0]}"}


def _measured(lopt: learned_opt.LearnedOptimizer, shapes: Shapes, num_params: int) -> dict[str, float | None]:
    learned, temp_bytes = _stepper(lopt.transform(lopt.init(jax.random.key(1))), shapes, lopt.reads)
    adamw, _ = _stepper(optax.adamw(1e-3), shapes, "gradient")
    calls = 1 if is_small() else max(1, 2_000_000 // num_params)
    for step in (learned, adamw):
        seconds_of(step)
    pairs = [(seconds_of(adamw, calls), seconds_of(learned, calls)) for _ in range(REPEATS)]
    return {
        "adamw_ms": 1e3 * statistics.median(a for a, _ in pairs),
        "step_ms": 1e3 * statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "temp_bytes_per_param": None if temp_bytes is None else temp_bytes / num_params,
    }


def _stepper(tx: optax.GradientTransformation, shapes: Shapes, reads: str) -> tuple[Callable[[], Any], int | None]:
    """A function that takes one more step, and the bytes of temporaries that the program needs."""
    tx = optax.with_extra_args_support(tx)

    @jax.jit
    def start(key):
        keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
        params = {name: 0.1 * jax.random.normal(keys[name], shape) for name, shape in shapes.items()}
        workers = {}
        if reads == "workers":
            workers["worker_updates"] = {
                name: 0.01 * jax.random.normal(keys[name], (NUM_WORKERS, *shape)) for name, shape in shapes.items()
            }
        return params, jax.tree.map(lambda p: 0.1 * p, params), workers, tx.init(params)

    params, gradient, workers, state = start(jax.random.key(0))

    def step_fn(params, state, gradient, workers):
        updates, state = tx.update(gradient, state, params, **workers)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(step_fn, donate_argnums=(0, 1)).lower(params, state, gradient, workers).compile()
    held = [params, state]

    def step():
        held[:] = compiled(*held, gradient, workers)
        return held[0]

    memory = compiled.memory_analysis()
    return step, None if memory is None else int(memory.temp_size_in_bytes)
