"""Tuning as the harness does it against the same runs one by one: `python -m eval.speed.sweep`.

27 settings of Local SGD on 8x8 Fashion-MNIST (K = 8, H = 4, B = 128), 200 rounds. `sweep`: all of them by one compiled
program, spread over a device for every core. `one_by_one`: a program of one run on one device with all threads,
called 27 times; compiled once in any case, which is not counted. Each in a process of its own, three times.
"""

import json
import statistics
import subprocess
import sys
import time

import jax

from eval.compare.baselines import make_baselines
from eval.compare.grids import settings
from eval.compare.initial_states import TUNING, draw_initial_states
from eval.compare.runner import make_runner
from eval.machine.devices import use_all_cores
from eval.protocol import EvalProtocol
from eval.scores.targets import LOCAL_SGD
from tasks.suites import make_family

PROTOCOL = EvalProtocol(task="fmnist8_mlp32", num_rounds=200, eval_every=200)
REPEATS = 3


def seconds(mode: str) -> float:
    """Of all runs after compilation, median of the repeats."""
    if mode == "sweep":
        use_all_cores()
    family = make_family(PROTOCOL.task)
    data = {"train": family.data["train"]}
    starts = draw_initial_states(family, PROTOCOL, data, TUNING, PROTOCOL.tuning_seeds)
    (contender,) = make_baselines(PROTOCOL, (LOCAL_SGD,))
    train = make_runner(family, contender, PROTOCOL, data, starts).train
    everything = settings(contender.grid)
    groups = [everything] if mode == "sweep" else [[setting] for setting in everything]
    train(everything[:1], starts, lambda *_: None)
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        for group in groups:
            train(group, starts, lambda *_: None)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> int:
    """Prints one JSON line."""
    if len(sys.argv) > 1:
        print(json.dumps({"seconds": seconds(sys.argv[1]), "devices": len(jax.devices())}))
        return 0
    found = {}
    for mode in ("sweep", "one_by_one"):
        done = subprocess.run(
            [sys.executable, "-m", "eval.speed.sweep", mode], stdout=subprocess.PIPE, text=True, check=True
        )
        found[mode] = json.loads(done.stdout.splitlines()[-1])["seconds"]
    print(json.dumps(found | {"ratio": found["one_by_one"] / found["sweep"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
