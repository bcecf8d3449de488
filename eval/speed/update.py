"""Cost of one update of `adafac_mlp_lopt` against `optax.adam` on the same tree: `python -m eval.speed.update TREE
HIDDEN`.

Trees: `mlp`, the four tensors of an MLP 784-128-10; `transformer`, 74 tensors and 10 million parameters. Both updates
are jitted with donated state and timed in turns within one process, so that their ratio does not depend on the
machine's mood.
"""

import json
import math
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import optax

import learned_opt

REPEATS = 15


def mlp_tree() -> dict[str, jax.Array]:
    """Shapes of an MLP 784-128-10."""
    return _random({"w0": (784, 128), "b0": (128,), "w1": (128, 10), "b1": (10,)})


def transformer_tree() -> dict[str, jax.Array]:
    """74 tensors, 10.2 million parameters: 6 blocks of width 352, a vocabulary of 2,750."""
    width = 352
    shapes = {"embedding": (2750, width), "positions": (512, width)}
    block = {
        **{name: (width, width) for name in ("query", "key", "value", "out")},
        **{name: (width,) for name in ("out_bias", "down_bias", "norm1", "norm1_bias", "norm2")},
        "up": (width, 4 * width),
        "up_bias": (4 * width,),
        "down": (4 * width, width),
    }
    for layer in range(6):
        shapes |= {f"block{layer}/{name}": shape for name, shape in block.items()}
    return _random(shapes)


def _random(shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {name: 0.1 * jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)}


TREES = {"mlp": mlp_tree, "transformer": transformer_tree}


def _compiled(tx, params, gradient):
    state = tx.init(params)
    lowered = jax.jit(tx.update, donate_argnums=(1,))
    start = time.perf_counter()
    compiled = lowered.lower(gradient, state, params).compile()
    seconds = time.perf_counter() - start
    held = [state]

    def step():
        updates, held[0] = compiled(gradient, held[0], params)
        return updates

    memory = compiled.memory_analysis()
    return step, seconds, math.nan if memory is None else memory.temp_size_in_bytes


def benchmark_update(tree: str, hidden_size: int) -> dict[str, float]:
    """Milliseconds of both updates, their ratio, compile seconds and temporary bytes per parameter."""
    params = TREES[tree]()
    gradient = jax.tree.map(lambda p: 0.1 * p, params)
    num_params = sum(p.size for p in jax.tree.leaves(params))
    lopt = learned_opt.adafac_mlp_lopt(hidden_size=hidden_size)
    learned, compile_s, temp_bytes = _compiled(lopt.transform(lopt.init(jax.random.key(1))), params, gradient)
    adam, _, _ = _compiled(optax.adam(1e-3), params, gradient)
    inner = max(1, 2_000_000 // num_params)

    def seconds(step):
        start = time.perf_counter()
        for _ in range(inner):
            updates = step()
        jax.block_until_ready(updates)
        return (time.perf_counter() - start) / inner

    seconds(learned)
    seconds(adam)
    pairs = [(seconds(adam), seconds(learned)) for _ in range(REPEATS)]
    return {
        "num_tensors": len(params),
        "num_params": num_params,
        "adam_ms": 1e3 * statistics.median(a for a, _ in pairs),
        "update_ms": 1e3 * statistics.median(u for _, u in pairs),
        "ratio": statistics.median(u / a for a, u in pairs),
        "compile_s": compile_s,
        "temp_bytes_per_param": temp_bytes / num_params,
    }


if __name__ == "__main__":
    jnp.zeros(()).block_until_ready()
    print(json.dumps(benchmark_update(sys.argv[1], int(sys.argv[2]))))
