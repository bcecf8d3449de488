"""Cost of a round of every simulated algorithm against Local SGD's: `python -m eval.speed.rounds [NAME ...]`.

K = 8, H = 4, batch 64, MLP 784-128-10. Both have the same local optimizer and compute the same gradients, so that what
is above 1 is the algorithm's own doing; those that compute more gradients, fewer or none are left out. Rounds are
jitted with donated state and run in turns within one process. Two ratios: of the CPU seconds of all threads, each at
its least, which others on the machine hardly change; and the median of those on the clock, which wants a quiet one.
"""

import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithm_table import ALGORITHMS
from learned_opt.algorithms.gossip.topology import ring
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.muloco import muon_and_adamw
from learned_opt.algorithms.palsgd import palsgd
from learned_opt.algorithms.round import simulate
from learned_opt.algorithms.server import diloco
from learned_opt.base import LocalAlgorithm

NUM_WORKERS, NUM_LOCAL_STEPS, BATCH_SIZE = 8, 4, 64
SIZES = (784, 128, 10)
REPEATS = 21
ALLOWED = 1.15

SGD, NESTEROV = optax.sgd(0.1), optax.sgd(0.1, 0.9, nesterov=True)
ADAM, ADAMW, MUON = optax.adam(1e-3), optax.adamw(1e-3, b2=0.95, weight_decay=0.1), muon_and_adamw(0.02)


def _made(name: str, *arguments: Any, **settings: Any) -> LocalAlgorithm:
    return ALGORITHMS[name].function(*arguments, **settings)


ROUNDS: dict[str, tuple[Callable[[], LocalAlgorithm], optax.GradientTransformation]] = {
    "local_sgd": (lambda: local_sgd(SGD, diloco()), SGD),
    "post_local_sgd": (lambda: _made("post_local_sgd", SGD, 0), SGD),
    "diloco_adamw": (lambda: _made("diloco_adamw", 10**6, 1e-3), ADAMW),
    "muloco": (lambda: _made("muloco"), MUON),
    "palsgd": (lambda: palsgd(optax.sgd, 0.1), SGD),
    "streaming_diloco": (lambda: _made("streaming_diloco", SGD, 2), SGD),
    "greedy_fragments": (lambda: _made("greedy_fragments", SGD, 2), SGD),
    "loss_weighted_averaging": (lambda: _made("loss_weighted_averaging", SGD), SGD),
    "local_sgd_without_late_workers": (lambda: _made("local_sgd_without_late_workers", SGD), SGD),
    "sparse_loco": (lambda: _made("sparse_loco", SGD), SGD),
    "quantized_diloco": (lambda: _made("quantized_diloco", SGD), SGD),
    "quantized_diloco, 2 statistical bits": (
        lambda: _made("quantized_diloco", SGD, 2, scheme="statistical"),
        SGD,
    ),
    "fedprox": (lambda: _made("fedprox", SGD), SGD),
    "scaffold": (lambda: _made("scaffold", SGD), SGD),
    "feddyn": (lambda: _made("feddyn", SGD), SGD),
    "dpsgd": (lambda: _made("dpsgd", SGD, ring(NUM_WORKERS)), SGD),
    "qg_dsgdm": (lambda: _made("qg_dsgdm", 0.1, ring(NUM_WORKERS)), NESTEROV),
    "qg_adam": (lambda: _made("qg_adam", 1e-3, ring(NUM_WORKERS)), ADAM),
    "consensus_control": (lambda: _made("consensus_control", SGD, ring(NUM_WORKERS), 10.0), SGD),
    "noloco": (lambda: _made("noloco", SGD), SGD),
    "synchronous": (lambda: _made("synchronous", SGD, NUM_LOCAL_STEPS), SGD),
    "lookahead": (lambda: _made("lookahead", SGD, NUM_LOCAL_STEPS), SGD),
    "snoo": (lambda: _made("snoo", SGD, NUM_LOCAL_STEPS), SGD),
    "gpa": (lambda: _made("gpa", SGD, NUM_LOCAL_STEPS), SGD),
}
"""Name -> (algorithm, the local optimizer that Local SGD is given beside it). Consensus control averages once here;
more are its user's choice."""


def mlp_loss(params: Any, key: jax.Array, batch: Any) -> jax.Array:
    """Cross entropy of an MLP with one hidden layer."""
    del key
    hidden = jax.nn.relu(batch["x"] @ params["w0"] + params["b0"])
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ params["w1"] + params["b1"], batch["y"]).mean()


def _inputs() -> tuple[Any, Any]:
    keys = jax.random.split(jax.random.key(0), 4)
    inputs, hidden, classes = SIZES
    params = {
        "w0": jax.random.normal(keys[0], (inputs, hidden)) * inputs**-0.5,
        "b0": jnp.zeros((1, hidden)),
        "w1": jax.random.normal(keys[1], (hidden, classes)) * hidden**-0.5,
        "b1": jnp.zeros((1, classes)),
    }
    shape = (NUM_WORKERS, NUM_LOCAL_STEPS, BATCH_SIZE)
    x = jax.random.normal(keys[2], (*shape, inputs))
    return params, {"x": x, "y": jax.random.randint(keys[3], shape, 0, classes)}


def runner(algorithm: LocalAlgorithm) -> Callable[[], tuple[float, float]]:
    """() -> (CPU seconds, seconds) of one round, compiled and warm."""
    params, batches = _inputs()
    algorithm = simulate(algorithm, NUM_WORKERS)
    one_round = jax.jit(functools.partial(algorithm.round, mlp_loss), donate_argnums=(0,))
    # Donated arrays must be of their own: states begin with the parameters in several places.
    held = [jax.tree.map(jnp.array, algorithm.init(params))]

    def step() -> tuple[float, float]:
        cpu, clock = time.process_time(), time.perf_counter()
        held[0], info = one_round(held[0], jax.random.key(1), batches)
        jax.block_until_ready((held[0], info))
        return time.process_time() - cpu, time.perf_counter() - clock

    step()
    return step


def benchmark_round(name: str) -> dict[str, float]:
    """CPU milliseconds of a round of the algorithm and of Local SGD, their ratio, and that on the clock."""
    make, local_opt = ROUNDS[name]
    own, reference = runner(make()), runner(local_sgd(local_opt, optax.sgd(1.0)))
    pairs = [(reference(), own()) for _ in range(REPEATS)]
    least = [1e3 * min(pair[i][0] for pair in pairs) for i in range(2)]
    return {
        "local_sgd_ms": least[0],
        "round_ms": least[1],
        "ratio": least[1] / least[0],
        "clock_ratio": statistics.median(theirs[1] / base[1] for base, theirs in pairs),
    }


def main(names: list[str]) -> int:
    """A line per algorithm on standard error, then one JSON line of the ratios."""
    unknown = [name for name in names if name not in ROUNDS]
    if unknown:
        print(f"{unknown[0]!r} is unknown: use {', '.join(ROUNDS)}", file=sys.stderr)
        return 2
    ratios = {}
    for name in names or ROUNDS:
        found = benchmark_round(name)
        ratios[name] = found["ratio"]
        above = "" if found["ratio"] <= ALLOWED else f", above {ALLOWED}"
        print(
            f"{name:<38} {found['round_ms']:7.1f} ms, Local SGD {found['local_sgd_ms']:7.1f} ms: {found['ratio']:.2f}"
            f" (on the clock {found['clock_ratio']:.2f}){above}",
            file=sys.stderr,
            flush=True,
        )
    print(json.dumps(ratios))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
