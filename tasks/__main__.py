"""Command line: `python -m tasks` lists the families of all suites, `python -m tasks NAME ...` some of them.

One line per family: parameters, dataset, network, description and paper. With `--time` every family is built, and its
line has bytes of data, milliseconds of one gradient of 32 examples on this machine, and the loss of the best constant
guess, in the family's own unit.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import NoReturn

import jax

from tasks.base import TaskFamily
from tasks.suites import FAMILIES, SUITES, make_family, names_of

BATCH_SIZE = 32
MIN_SECONDS = 0.2


class OneLineParser(argparse.ArgumentParser):
    """Says a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; '{self.prog} --help' lists what there is")


def main(arguments: list[str]) -> int:
    """Prints the table; returns the exit code, 2 and one line on standard error for a mistake."""
    parser = OneLineParser(prog="python -m tasks", description="Lists task families.", allow_abbrev=False)
    parser.add_argument("names", nargs="*", help=f"families or suites ({', '.join(SUITES)}); none: all")
    parser.add_argument(
        "--time",
        action="store_true",
        help="build every family: its data, the time of a gradient here, the loss of a constant guess; takes minutes",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder with datasets that are not embedded; default: the environment variable LEARNED_OPT_DATA",
    )
    try:
        command = parser.parse_args(arguments)
        if command.data_dir is not None:
            if not Path(command.data_dir).is_dir():
                raise ValueError(f"--data-dir {command.data_dir}: there is no such folder")
            os.environ["LEARNED_OPT_DATA"] = command.data_dir
        names = names_of(tuple(command.names) or tuple(SUITES))
    except ValueError as error:
        print(f"tasks: error: {error}", file=sys.stderr)
        return 2
    header, row = (TIMED_HEADER, timed_row) if command.time else (HEADER, listed_row)
    width = max(map(len, names))
    suite = None
    try:
        for name in names:
            if suite != (suite := next(suite for suite, entries in SUITES.items() if name in entries)):
                print(f"\n{suite}\n{'name':<{width}} {header}")
            print(f"{name:<{width}} {row(name)}", flush=True)
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not write to it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


HEADER = f"{'params':>8}  {'dataset':<26}  {'network':<27}  description"
TIMED_HEADER = f"{'params':>8} {'data MB':>8} {'ms/grad':>8} {'constant':>8}  description"


def listed_row(name: str) -> str:
    """What the suite says of a family, without building it."""
    entry = FAMILIES[name]
    paper = f" ({entry.paper})" if entry.paper else ""
    return f"{entry.num_params:>8,}  {entry.dataset:<26}  {entry.architecture:<27}  {entry.description}{paper}"


def timed_row(name: str) -> str:
    """What a family is and costs; for one whose dataset is missing, what to do."""
    entry = FAMILIES[name]
    row = f"{entry.num_params:>8,}"
    try:
        family = make_family(name)
    except FileNotFoundError as error:
        return f"{row}  {error}"
    megabytes = sum(leaf.nbytes for leaf in jax.tree.leaves(family.data)) / 1e6
    row += f" {megabytes:>8.2f} {gradient_ms(family):>8.2f} {family.uninformed_loss:>8.3f}"
    return f"{row}  {entry.description}"


def gradient_ms(family: TaskFamily) -> float:
    """Milliseconds of one jitted gradient of a sampled task, its batch drawn inside: the median of repeated runs."""

    def gradient(params, key, config, data):
        task = family.task(config, data)
        batch_key, loss_key = jax.random.split(key)
        return jax.grad(task.loss)(params, loss_key, task.sample_batch(batch_key, "train", (BATCH_SIZE,)))

    key = jax.random.key(0)
    config = family.sample(key)
    data = jax.device_put(family.data)
    params = jax.jit(lambda data: family.task(config, data).init(key))(data)
    step = jax.jit(gradient)
    jax.block_until_ready(step(params, key, config, data))
    times, started = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - started < MIN_SECONDS:
        begin = time.perf_counter()
        jax.block_until_ready(step(params, key, config, data))
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
