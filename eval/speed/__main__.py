"""`python -m eval.speed`: every speed figure of the README, each benchmark in a fresh process with a cold compiler.

`python -m eval.speed.costs` writes the table of what every architecture costs, `python -m eval.speed.families` that of
what the suites' training programs take to compile. The cost of meta-training is measured by `python -m
meta_train.speed`, started from here: this layer does not import it.
"""

import json
import sys

from eval.speed.fresh_process import in_fresh_process

BENCHMARKS = {
    "one meta-step of lagg_fmnist8_k8_h4": ["meta_train.speed", "meta_step"],
    "PES, MLP 784-128-10, hidden 4": ["meta_train.speed", "pes"],
    "16 vmapped tasks, per task, against a hand-written loop": ["eval.speed.tasks"],
    "27 settings in one program, against one by one": ["eval.speed.sweep"],
    "rounds of the algorithms, over Local SGD's": ["eval.speed.rounds"],
    "diagnostics, in percent of the training": ["eval.speed.diagnostics"],
    "update, MLP 784-128-10, hidden 4": ["eval.speed.update", "mlp", "adafac_mlp_lopt,hidden_size=4"],
    "update, MLP 784-128-10, hidden 32": ["eval.speed.update", "mlp", "adafac_mlp_lopt,hidden_size=32"],
    "update, 74 tensors, hidden 4": ["eval.speed.update", "transformer", "adafac_mlp_lopt,hidden_size=4"],
    "update, 74 tensors, hidden 32": ["eval.speed.update", "transformer", "adafac_mlp_lopt,hidden_size=32"],
}


def main() -> int:
    """Prints a line per benchmark; exit code 1 if one fails."""
    failed = 0
    for name, command in BENCHMARKS.items():
        done = in_fresh_process(*command)
        if done.returncode:
            failed = 1
            print(f"{name}: failed\n{done.stderr}", file=sys.stderr)
            continue
        figures = json.loads(done.stdout.splitlines()[-1])
        print(f"{name}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
