"""Command line: `python -m eval compare | suite | axis | report`; each explains itself with --help."""

import contextlib
import dataclasses
import difflib
import io
import re
import sys
from pathlib import Path
from typing import Annotated

import tyro

Checkpoints = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="PATH")]


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare meta-trained optimizers with tuned baselines."""

    protocol: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PROTOCOL")]
    """demo or fmnist8_k8_h4."""
    checkpoint: Checkpoints = ()
    """Checkpoint file or name of a pretrained optimizer; may be given several times."""
    out_dir: str = "runs/eval"
    """Folder for results.json, table.md and curves.png."""
    overwrite: bool = False
    """Replace the results of an earlier comparison in out_dir."""
    baselines: str | None = None
    """Results file of the same protocol whose tuned baselines are used instead of tuning again."""
    num_seeds: int | None = None
    """Final runs per contender; the protocol's own number by default."""
    num_rounds: int | None = None
    """Rounds of every run; the protocol's own number by default."""
    seed: int | None = None
    """Root of all randomness; the protocol's own by default."""


@dataclasses.dataclass(frozen=True)
class ProtocolFlags:
    """What every contender of every cell is given; the default protocol's values where not set."""

    num_rounds: int | None = None
    """Communication rounds of every run."""
    num_workers: int | None = None
    """Workers, K."""
    num_local_steps: int | None = None
    """Local steps between two rounds, H."""
    batch_size: int | None = None
    """Examples per worker and local step, B."""
    num_seeds: int | None = None
    """Final runs per contender."""
    seed: int | None = None
    """Root of all randomness."""
    tuning: str | None = None
    """full (27 settings for each tuned contender before its grid grows) or coarse (9)."""
    tuning_seeds: int | None = None
    """Runs per setting while tuning."""
    max_extensions: int | None = None
    """How often a grid may grow."""
    eval_every: int | None = None
    """Rounds between two points of a curve."""
    num_curve_examples: int | None = None
    """Training examples the curve is measured on."""


@dataclasses.dataclass(frozen=True)
class Suite:
    """Compare optimizers on every task family of a suite."""

    suite: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SUITE")]
    """meta_test, meta_valid, meta_train, all, or families separated by commas."""
    protocol: Annotated[ProtocolFlags, tyro.conf.arg(name="")] = ProtocolFlags()
    checkpoint: Checkpoints = ()
    """Checkpoint file or pretrained name, or NAME=PATH; may be given several times."""
    optax: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """module:function of another optimizer: (EvalProtocol) -> eval.compare.contenders.Contender."""
    tune_multiplier: bool = False
    """Tune a factor on the learned updates with the budget of a baseline."""
    baselines: str | None = None
    """Run folder whose tuned baselines are used for the cells that it has."""
    run_dir: str | None = None
    """Run folder; runs/suite_SUITE by default. Run the same command again to go on, or elsewhere to help."""
    retry_failed: bool = False
    """Run cells again that failed before."""


@dataclasses.dataclass(frozen=True)
class AxisSweep:
    """Vary one thing, tune everyone anew at each of its values, and draw the curve."""

    axis: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="AXIS")]
    """num_local_steps, num_workers, batch_size, num_rounds, width, depth, dirichlet_alpha, label_noise,
    gradient_noise or parameter_scale."""
    protocol: Annotated[ProtocolFlags, tyro.conf.arg(name="")] = ProtocolFlags()
    task: str = "fmnist8_mlp32"
    """Task family; width and depth bring their own."""
    values: Annotated[str | None, tyro.conf.arg(metavar="V,V,...")] = None
    """Values in place of the default ones; multiples of the rounds for num_rounds."""
    checkpoint: Checkpoints = ()
    """Checkpoint file or pretrained name, or NAME=PATH; may be given several times."""
    optax: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """module:function of another optimizer: (EvalProtocol) -> eval.compare.contenders.Contender."""
    tune_multiplier: bool = False
    """Tune a factor on the learned updates with the budget of a baseline."""
    baselines: str | None = None
    """Run folder whose tuned baselines are used for the cells that it has."""
    run_dir: str | None = None
    """Run folder; runs/axis_AXIS by default."""
    retry_failed: bool = False
    """Run cells again that failed before."""


@dataclasses.dataclass(frozen=True)
class Report:
    """One page from run folders, the same tables as CSV and Markdown beside it."""

    run: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders of suites, axes or comparisons."""
    out_dir: str | None = None
    """Folder for report.html, report.md and tables/; the first run's by default."""
    latency: float = 0.05
    """Simulated seconds a round costs in any case."""
    bandwidth: float = 12.5e6
    """Simulated bytes a second from each worker."""
    gradient_seconds: float = 0.0
    """Simulated seconds of one minibatch gradient; 0 counts communication alone."""


@dataclasses.dataclass(frozen=True)
class Card:
    """The model card of a learned optimizer from run folders; a section "Notes" that it has stays."""

    name: tyro.conf.Positional[str]
    """Of the optimizer in the runs, and the pretrained one unless --checkpoint says otherwise."""
    run: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders of suites, axes or comparisons."""
    checkpoint: str | None = None
    """Checkpoint file."""
    out: str | None = None
    """File to write; NAME.md by default."""


COMMANDS = {"compare": Compare, "suite": Suite, "axis": AxisSweep, "report": Report, "card": Card}

USER_OS_ERRORS = (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)
"""What a mistyped path raises."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code.

    0 done, 1 the machine failed (disk full) or a cell of a sweep did, 2 a user's mistake, 130 interrupted; all but 0
    print one line on standard error.
    """
    try:
        command = parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(command, Compare):
            run_compare(command)
        elif isinstance(command, Report):
            run_report(command)
        elif isinstance(command, Card):
            run_card(command)
        else:
            return run_cells(command)
    except (ValueError, *USER_OS_ERRORS) as error:
        return _fail(error, 2)
    except OSError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def parse(arguments: list[str]) -> Compare | Suite | AxisSweep | Report | Card:
    """The command of the arguments.

    Raises:
      ValueError: an unknown command or flag, or a value of the wrong type.
      SystemExit: with code 0 after --help.
    """
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise ValueError(f"unknown command {arguments[0]!r}: use {', '.join(COMMANDS)}")
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="python -m eval", description=__doc__, args=arguments
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(_one_line(messages.getvalue())) from None


def run_compare(command: Compare) -> None:
    """Checks the arguments before JAX is asked for anything, then compares."""
    from eval.protocol import PROTOCOLS

    if command.protocol not in PROTOCOLS:
        close = difflib.get_close_matches(command.protocol, PROTOCOLS) or list(PROTOCOLS)
        raise ValueError(f"unknown protocol {command.protocol!r}: use {' or '.join(close)}")
    changes = {
        field: value for field in ("num_seeds", "num_rounds", "seed") if (value := getattr(command, field)) is not None
    }
    protocol = dataclasses.replace(PROTOCOLS[command.protocol], **changes)
    earlier = Path(command.out_dir) / "results.json"
    if earlier.exists() and not command.overwrite:
        raise ValueError(f"{earlier} exists: choose another --out-dir or pass --overwrite")

    from eval.compare.compare import compare
    from eval.machine.devices import use_all_cores
    from eval.machine.progress import show_progress
    from eval.report.table import plain_table

    use_all_cores()
    with show_progress() as progress:
        results = compare(
            protocol,
            command.checkpoint,
            command.out_dir,
            progress,
            baselines_from=command.baselines,
        )
    print(plain_table(results))
    print(f"wrote results.json, table.md and curves.png to {Path(command.out_dir)}")


def run_cells(command: Suite | AxisSweep) -> int:
    """Runs what is left of a sweep, then writes its report; 1 if a cell failed here."""
    from eval.machine.devices import use_all_cores

    use_all_cores()
    from eval.machine.progress import show_sweep_progress
    from eval.report.report import write_report
    from eval.sweep.axes import AXIS_PROTOCOL, axis_family, axis_plan
    from eval.sweep.suite import SUITE_PROTOCOL, suite_family, suite_plan
    from eval.sweep.sweep import run_sweep

    changes = {k: v for k, v in dataclasses.asdict(command.protocol).items() if v is not None}
    shared = {
        "contenders": command.optax,
        "tune_multiplier": command.tune_multiplier,
        "baselines_from": command.baselines,
    }
    if isinstance(command, Suite):
        protocol = dataclasses.replace(SUITE_PROTOCOL, **changes)
        plan = suite_plan(command.suite, protocol, command.checkpoint, **shared)
        make_family, default = suite_family, f"runs/suite_{command.suite.replace(',', '_')}"
    else:
        protocol = dataclasses.replace(AXIS_PROTOCOL, task=command.task, **changes)
        values = _numbers(command.values)
        plan = axis_plan(command.axis, protocol, command.checkpoint, values=values, **shared)
        make_family, default = axis_family(command.axis), f"runs/axis_{command.axis}"
    if command.baselines is not None and not Path(command.baselines, "cells").is_dir():
        raise FileNotFoundError(f"--baselines {command.baselines}: not the run folder of a suite or an axis")
    run_dir = command.run_dir or default
    with show_sweep_progress(len(plan.cells)) as progress:
        outcome = run_sweep(plan, run_dir, make_family, progress, retry_failed=command.retry_failed)
    if outcome.elsewhere:
        print(f"{len(outcome.elsewhere)} cells are running in other processes; they write the report when done")
    print(f"wrote {write_report([run_dir])}")
    if outcome.failed:
        return _fail(f"{len(outcome.failed)} cells failed: {', '.join(outcome.failed)}; see the report", 1)
    return 0


def run_report(command: Report) -> None:
    """Writes a report."""
    from eval.report.report import write_report
    from eval.scores.measures import Network

    network = Network(command.latency, command.bandwidth, command.gradient_seconds)
    print(f"wrote {write_report(command.run, command.out_dir, network)}")


def run_card(command: Card) -> None:
    """Writes a model card."""
    from eval.report.model_card import write_model_card

    source, path = command.checkpoint or command.name, command.out or f"{command.name}.md"
    print(f"wrote {write_model_card(command.name, source, command.run, path)}")


def _numbers(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ValueError(f"--values {text}: use numbers separated by commas") from None


def _fail(error: object, code: int) -> int:
    print(f"eval: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _one_line(message: str) -> str:
    """tyro's message without its box, its title and the help text of the flag."""
    lines = [line for line in message.splitlines() if not line.startswith(("╭", "╰"))]
    text = " ".join(" ".join(lines).replace("│", " ").replace("─", " ").split())
    text = text.partition("Argument helptext")[0].partition("For full help")[0]
    text = re.sub(r"(Perhaps you meant: [\w-]+).*", r"\1", text)
    return f"{text.strip() or 'bad command line'}; see python -m eval --help"


if __name__ == "__main__":
    sys.exit(main())
