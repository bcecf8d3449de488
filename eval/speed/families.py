"""Compile time of the training program of every suite family: `python -m eval.speed.families [FAMILY ...]`.

The program is the one that a comparison runs (K = 8, H = 4, B = 32): once with the SGD workers of Local SGD, once with
the shipped learned round. Each is traced and compiled in a process of its own without a cache. Beside the seconds
stand those of the processor: XLA compiles with all threads it has, and a machine that is busy delays the first, not
the second.
"""

from __future__ import annotations

import json
import sys
import time

from eval.compare.baselines import make_baselines
from eval.compare.initial_states import FINAL, draw_initial_states
from eval.compare.learned import learned
from eval.compare.runner import make_runner
from eval.machine.devices import use_all_cores
from eval.protocol import EvalProtocol
from eval.scores.targets import LOCAL_SGD
from eval.speed.fresh_process import failure_of, in_fresh_process
from tasks.suites import FAMILIES, make_family, names_of

LEARNED = "lopt_generalist"
CONTENDERS = (LOCAL_SGD, LEARNED)
LIMIT_SECONDS = 15


def measured(family_name: str, contender_name: str) -> dict[str, float]:
    """Seconds, and seconds of all threads of the processor together, to trace and compile the program."""
    use_all_cores()
    family = make_family(family_name)
    protocol = EvalProtocol(task=family_name, num_rounds=20, batch_size=32, num_seeds=1)
    data = {"train": family.data["train"]}
    starts = draw_initial_states(family, protocol, data, FINAL, 1)
    if contender_name == LOCAL_SGD:
        (contender,) = make_baselines(protocol, (LOCAL_SGD,))
    else:
        contender = learned(contender_name, protocol)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    make_runner(family, contender, protocol, data, starts)
    return {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - begin_cpu}


def rows(names: tuple[str, ...]):
    """A row of the table for each family that can be built here, as they are measured."""
    for name in names:
        cells = []
        for contender in CONTENDERS:
            done = in_fresh_process("eval.speed.families", "--one", name, contender)
            if done.returncode:
                cells.append(failure_of(done)[:80])
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            late = "**" if found["seconds"] > LIMIT_SECONDS else ""
            cells.append(f"{late}{found['seconds']:.1f}{late} ({found['cpu_seconds']:.1f})")
        yield f"| `{name}` | " + " | ".join(cells) + " |"


def main(arguments: list[str]) -> int:
    """Prints the table, or with `--one FAMILY CONTENDER` a JSON line."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(measured(*arguments[1:])))
        return 0
    try:
        names = names_of(arguments or list(FAMILIES))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("| family | " + " | ".join(f"{name}: s (CPU s)" for name in CONTENDERS) + " |")
    print("|---|" + "---:|" * len(CONTENDERS))
    for row in rows(names):
        print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
