"""What every diagnostic costs, in percent of the training it explains: `python -m eval.speed.diagnostics [NAME ...]`.

The comparison is the protocol `demo` (8x8 Fashion-MNIST, MLP of 2,410 parameters, K = 8, H = 4, batch 32, 300 rounds)
at the default interval: diagnostics of a round in every round, which is a point of the curve; those of a snapshot at 10
points and 128 examples. CPU seconds of all threads, each at its least over a few turns, compilation left out; a run
trains once in each turn, so that other work on the machine hardly changes the ratio. The shares would be smaller with
tuning, which is not diagnosed, and those of a round with fewer points (`eval_every`).
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

from eval.compare.contenders import contender
from eval.compare.curves import make_diagnostic_curves
from eval.compare.initial_states import FINAL, InitialStates, draw_initial_states
from eval.compare.runner import Runs, make_runner
from eval.diagnostics.table import DIAGNOSTICS, chosen, measurable
from eval.machine.devices import use_all_cores
from eval.protocol import PROTOCOLS, EvalProtocol
from eval.task_families import make_family
from learned_opt.algorithms.server import fedavg
from tasks.base import TaskFamily

PROTOCOL = dataclasses.replace(PROTOCOLS["demo"], num_seeds=2)
LOCAL_RATE = 0.3
REPEATS = 5
LINEAR = "two_layer_linear"
"""Trained for the diagnostic that wants a linear net."""


def training(family: TaskFamily, protocol: EvalProtocol, starts: InitialStates) -> Callable[[], Runs]:
    """() -> finished runs of Local SGD, compiled and warm."""
    data = {"train": family.data["train"]}
    one = contender("local_sgd", protocol, lambda h: fedavg(), {}, lambda h: optax.sgd(LOCAL_RATE))
    runner = make_runner(family, one, protocol, data, starts)
    run = lambda: runner.train([{}], starts, lambda done, total: None, record=True)  # noqa: E731
    run()
    return run


def shares(family: TaskFamily, names: Sequence[str]) -> dict[str, float]:
    """CPU time of each diagnostic over that of training without it, in percent."""
    starts = draw_initial_states(family, PROTOCOL, {"train": family.data["train"]}, FINAL, PROTOCOL.num_seeds)
    plain = training(family, PROTOCOL, starts)
    snapshots, found = plain().snapshots, {}
    rates = np.full(PROTOCOL.num_rounds // PROTOCOL.eval_every, LOCAL_RATE, np.float32)
    for name in names:
        if DIAGNOSTICS[name].needs == "round":
            watched = training(family, dataclasses.replace(PROTOCOL, diagnostics=(name,)), starts)
            base, own = _least(plain, watched)
            found[name] = 100 * (own - base) / base
        else:
            curves = make_diagnostic_curves(family, measurable((name,), family), family.data["train"])
            assert curves is not None
            base, own = _least(plain, lambda curves=curves: curves(snapshots, starts, rates))
            found[name] = 100 * own / base
        print(f"{name:<30} {found[name]:7.1f} % of {1e3 * base:.0f} ms", file=sys.stderr, flush=True)
    return found


def _least(*functions: Callable[[], Any]) -> list[float]:
    """Least CPU seconds of each, run in turns."""
    for function in functions:
        function()
    turns = []
    for _ in range(REPEATS):
        turn = []
        for function in functions:
            start = time.process_time()
            jax.block_until_ready(function())
            turn.append(time.process_time() - start)
        turns.append(turn)
    return np.min(turns, axis=0).tolist()


def main(names: list[str]) -> int:
    """A line per diagnostic (names and groups, else all) on standard error, then one JSON line of the shares."""
    try:
        wanted = [diagnostic.name for diagnostic in chosen(names or ["all"])]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    use_all_cores()
    linear = [name for name in wanted if name == "balancedness_drift"]
    found = shares(make_family(PROTOCOL.task), [name for name in wanted if name not in linear])
    found |= shares(make_family(LINEAR), linear) if linear else {}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
