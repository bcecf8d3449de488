"""Cost of one update of a learned optimizer against `optax.adam`: `python -m eval.speed.update TREE OPTIMIZER`.

TREE is a name of `eval.speed.trees`, OPTIMIZER an architecture with arguments: `adafac_mlp_lopt,hidden_size=4`. Both
updates are jitted with donated state and timed in turns within one process, so that other work on the machine hardly
changes their ratio: in seconds of the processor, all threads together, which it lengthens less, and in seconds of the
clock. So is the first call (tracing and compilation) beside that of `optax.adamw`.

What is timed is arithmetic and memory traffic: freed memory stays with the process (`freed_memory`), for both sides.
Neither donates the parameters: XLA then copies parameters and moments before it overwrites them, which makes Adam a
third slower.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from eval.speed.freed_memory import keep_freed_memory, page_faults
from eval.speed.trees import TREES, random_tree
from learned_opt.architectures import ARCHITECTURES
from learned_opt.base import LearnedOptimizer
from learned_opt.names import hint, resolve

REPEATS = 9
NUM_STEPS = 1000
"""Length of the training, for optimizers that are told."""


class Compiled(NamedTuple):
    """An update that is ready to run.

    Attributes:
      step: () -> updates; keeps the state.
      seconds: to trace and compile it.
      cpu_seconds: of all threads meanwhile.
      state_bytes: of the optimizer's state.
      temp_bytes: that the program needs beside its arguments and results; NaN where unknown.
    """

    step: Callable[[], Any]
    seconds: float
    cpu_seconds: float
    state_bytes: int
    temp_bytes: float


def compiled_update(tx: Any, params: Any, gradient: Any, extra: dict[str, Any]) -> Compiled:
    """Traces and compiles `tx.update`, with donated state and further arguments."""
    tx = optax.with_extra_args_support(tx)
    held = [jax.block_until_ready(tx.init(params))]

    def update(gradient, state, params, extra):
        return tx.update(gradient, state, params, **extra)

    begin, begin_cpu = time.perf_counter(), time.process_time()
    program = jax.jit(update, donate_argnums=(1,)).lower(gradient, held[0], params, extra).compile()
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu

    def step():
        updates, held[0] = program(gradient, held[0], params, extra)
        return updates

    memory = program.memory_analysis()
    temp_bytes = math.nan if memory is None else memory.temp_size_in_bytes
    return Compiled(step, seconds, cpu_seconds, sum(x.nbytes for x in jax.tree.leaves(held[0])), temp_bytes)


def extra_arguments(lopt: LearnedOptimizer, gradient: Any) -> dict[str, Any]:
    """What `update` is given beside gradients and parameters; an optimizer reads of it what it knows."""
    extra: dict[str, Any] = {"value": jnp.float32(1), "multipliers": jax.tree.map(lambda _: jnp.float32(1), gradient)}
    if lopt.reads == "workers":
        extra["worker_updates"] = jax.tree.map(lambda g: jnp.stack([g] * (lopt.num_workers or 1)), gradient)
    return extra


def benchmark_update(tree: str, lopt: LearnedOptimizer) -> dict[str, float]:
    """Milliseconds of an update and of Adam's, compilation against AdamW's, and memory per parameter.

    `ratio` and `cpu_ratio` are medians over pairs of an update's time and Adam's; `page_faults` is the median of a
    pair's faults per update, 0 where the figures hold.
    """
    shapes = TREES[tree]()
    params = random_tree(shapes)
    gradient = jax.tree.map(lambda p: 0.1 * p, params)
    num_params = sum(map(math.prod, shapes.values()))
    # What JAX sets up once in a process is no part of anyone's first call.
    jax.jit(lambda x: jnp.sin(x) + 1)(jnp.ones(3)).block_until_ready()
    adamw = compiled_update(optax.adamw(1e-3), params, gradient, {})
    theta = lopt.init(jax.random.key(1))
    learned = compiled_update(lopt.transform(theta, NUM_STEPS), params, gradient, extra_arguments(lopt, gradient))
    adam = compiled_update(optax.adam(1e-3), params, gradient, {})
    inner = min(100, max(3, 2_000_000 // num_params))

    def spent(step):
        """Seconds of the processor and of the clock an update."""
        start, start_cpu = time.perf_counter(), time.process_time()
        for _ in range(inner):
            updates = step()
        jax.block_until_ready(updates)
        return np.asarray([time.process_time() - start_cpu, time.perf_counter() - start]) / inner

    spent(learned.step)
    spent(adam.step)
    adam_spent, learned_spent, faults = [], [], []
    for _ in range(REPEATS):
        before = page_faults()
        adam_spent.append(spent(adam.step))
        learned_spent.append(spent(learned.step))
        faults.append((page_faults() - before) / inner)
    (adam_cpu, adam_clock), (cpu, clock) = 1e3 * np.median([adam_spent, learned_spent], axis=1)
    cpu_ratio, ratio = np.median(np.divide(learned_spent, adam_spent), axis=0)
    return {
        "num_tensors": len(shapes),
        "num_params": num_params,
        "adam_cpu_ms": float(adam_cpu),
        "adam_ms": float(adam_clock),
        "update_cpu_ms": float(cpu),
        "update_ms": float(clock),
        "cpu_ratio": float(cpu_ratio),
        "ratio": float(ratio),
        "page_faults": statistics.median(faults),
        "compile_s": learned.seconds,
        "compile_cpu_s": learned.cpu_seconds,
        "first_call_over_adamw": learned.cpu_seconds / adamw.cpu_seconds,
        "state_bytes_per_param": learned.state_bytes / num_params,
        "temp_bytes_per_param": learned.temp_bytes / num_params,
    }


def main(arguments: list[str]) -> int:
    """Prints one JSON line; exit code 2 for a tree or an optimizer that does not exist."""
    try:
        if len(arguments) != 2:
            raise ValueError("use python -m eval.speed.update TREE OPTIMIZER")
        tree, reference = arguments
        if tree not in TREES:
            raise ValueError(f"tree={tree!r}: {hint(tree, TREES)}")
        lopt = resolve(reference, ARCHITECTURES, "optimizer")()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    keep_freed_memory()
    print(json.dumps(benchmark_update(tree, lopt)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
