"""What every architecture costs, as a table in Markdown: `python -m eval.speed.costs [ROW ...]`.

An update over that of `optax.adam` on two trees of `eval.speed.trees`, in seconds of the processor and, in brackets, of
the clock (see `eval.speed.update`); the first call on models of 4 and of 8 tensors over that of `optax.adamw`;
compilation for 74 tensors; memory of the state and of temporaries. Compilation is counted in seconds of the processor,
all threads together, which other work on the machine does not lengthen as much. Every row is measured in a process of
its own with a cold compiler.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import jax

import learned_opt
from eval.speed.freed_memory import keep_freed_memory
from eval.speed.fresh_process import failure_of, in_fresh_process
from eval.speed.update import benchmark_update
from learned_opt.base import LearnedOptimizer
from learned_opt.names import hint

OPTIMIZERS: dict[str, Callable[[], LearnedOptimizer]] = {
    "learnable_sgd": learned_opt.learnable_sgd,
    "learnable_sgdm": learned_opt.learnable_sgdm,
    "learnable_adam": learned_opt.learnable_adam,
    "nn_adam": learned_opt.nn_adam,
    "mlp_lopt": learned_opt.mlp_lopt,
    "adafac_mlp_lopt, 4 units": lambda: learned_opt.adafac_mlp_lopt(hidden_size=4),
    "adafac_mlp_lopt, 4 units, beside Adam": lambda: learned_opt.adafac_mlp_lopt(hidden_size=4, nominal="adam"),
    "adafac_mlp_lopt, 32 units": learned_opt.adafac_mlp_lopt,
    "mup of adafac_mlp_lopt, 4 units": lambda: learned_opt.mup(learned_opt.adafac_mlp_lopt(hidden_size=4)),
    "rnn_mlp_lopt": learned_opt.rnn_mlp_lopt,
    "hyper_v2": learned_opt.hyper_v2,
    "hyper_v2, as large as VeLO": lambda: learned_opt.hyper_v2(lstm_hidden_size=512, num_mlps=256),
    "celo": learned_opt.celo,
    "celo_adam": learned_opt.celo_adam,
    "celo2_base, 8 units": learned_opt.celo2_base,
    "celo2": learned_opt.celo2,
    "as_server of celo2_base": lambda: learned_opt.as_server(learned_opt.celo2_base()),
    "lopt_a, 32 units": learned_opt.lopt_a,
    "lagg_a, 32 units, K = 8": learned_opt.lagg_a,
    "lagg_set": learned_opt.lagg_set,
    "lagg_set, as lagg_any": lambda: learned_opt.lagg_set(controller_size=0, hidden_size=0),
}
"""Every architecture, by the name of its row."""

HEADER = (
    "| optimizer | update / Adam, 784-128-10, CPU (clock) | 74 tensors | first call / AdamW, 4 tensors | 8 tensors | "
    "compile, 74 tensors, CPU s (s) | state, bytes per parameter | temporary |\n|---|" + "---:|" * 7
)


def measured(name: str) -> dict[str, dict[str, float]]:
    """The figures of `benchmark_update` by tree."""
    found = {}
    for tree in ("mlp", "deep_mlp", "transformer"):
        jax.clear_caches()
        found[tree] = benchmark_update(tree, OPTIMIZERS[name]())
    return found


def row(name: str, found: dict[str, dict[str, float]]) -> str:
    """A line of the table."""
    small, deep, large = found["mlp"], found["deep_mlp"], found["transformer"]
    cells = (
        name,
        f"{small['cpu_ratio']:.1f} ({small['ratio']:.1f})",
        f"{large['cpu_ratio']:.1f} ({large['ratio']:.1f})",
        f"{small['first_call_over_adamw']:.1f}",
        f"{deep['first_call_over_adamw']:.1f}",
        f"{large['compile_cpu_s']:.1f} ({large['compile_s']:.1f})",
        f"{large['state_bytes_per_param']:.1f}",
        f"{large['temp_bytes_per_param']:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def rows(names: list[str]) -> Iterator[str]:
    """The lines, as they are measured; of a failure its last line."""
    for name in names:
        done = in_fresh_process("eval.speed.costs", "--one", name)
        if done.returncode:
            yield f"| {name} | failed: {failure_of(done)} |"
        else:
            yield row(name, json.loads(done.stdout.splitlines()[-1]))


def main(arguments: list[str]) -> int:
    """Prints the table, or with `--one ROW` the figures of one row as a JSON line; exit code 2 for an unknown row."""
    is_one = arguments[:1] == ["--one"]
    names = (arguments[1:] if is_one else arguments) or list(OPTIMIZERS)
    for name in names:
        if name not in OPTIMIZERS:
            print(f"error: row {name!r}: {hint(name, OPTIMIZERS)}", file=sys.stderr)
            return 2
    if is_one:
        keep_freed_memory()
        print(json.dumps(measured(names[0])))
        return 0
    print(HEADER, flush=True)
    for line in rows(names):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
