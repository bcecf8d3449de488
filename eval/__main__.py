"""Command line: `python -m eval COMMAND`; every command explains itself with --help."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eval.commands import (
    COMMANDS,
    AxisSweep,
    Calibrate,
    Card,
    Claims,
    Command,
    Compare,
    Conditions,
    Diagnostics,
    Ood,
    ParticipantFlags,
    ProtocolFlags,
    Report,
    Settings,
    Suite,
    Zoo,
)
from eval.machine.command_line import fail, fail_in_user_code, parse_command

USER_OS_ERRORS = (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)
"""What a mistyped path raises."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code.

    0 done, 1 the machine failed (disk full) or a cell of a sweep did, 2 a user's mistake, 130 interrupted; all but 0
    print one line on standard error, after the lines of a user's own file where that is at fault. Other mistakes are
    found before the work begins: a ValueError after that is a fault, and leaves with its traceback.
    """
    try:
        try:
            command = parse_command(
                COMMANDS, "python -m eval", __doc__, sys.argv[1:] if arguments is None else arguments
            )
            work = prepare(command)
        except (ValueError, *USER_OS_ERRORS) as error:
            return fail_in_user_code("eval", error) or fail("eval", error, 2)
        return work()
    except OSError as error:
        return fail_in_user_code("eval", error) or fail("eval", error, 1)
    except KeyboardInterrupt:
        return fail("eval", "interrupted", 130)
    except Exception as error:
        code = fail_in_user_code("eval", error)
        if code is None:
            raise
        return code


def prepare(command: Command) -> Callable[[], int]:
    """Checks everything that a user may have got wrong; returns the work, which returns the exit code.

    Raises:
      ValueError, OSError: a mistake.
    """
    if isinstance(command, Compare | Suite | AxisSweep | Zoo | Ood) and command.data_dir is not None:
        if not Path(command.data_dir).is_dir():
            raise FileNotFoundError(f"--data-dir {command.data_dir}: there is no such folder")
        # Where tasks.datasets looks, and what child processes inherit.
        os.environ["LEARNED_OPT_DATA"] = command.data_dir
    if isinstance(command, Compare):
        return prepare_compare(command)
    if isinstance(command, Zoo):
        return prepare_zoo(command)
    if isinstance(command, Report):
        return prepare_report(command)
    if isinstance(command, Card):
        return prepare_card(command)
    if isinstance(command, Settings):
        return prepare_settings(command)
    if isinstance(command, Calibrate):
        return prepare_calibration(command)
    if isinstance(command, Diagnostics):
        return list_diagnostics
    if isinstance(command, Claims):
        return prepare_claims(command)
    if isinstance(command, Conditions):
        return prepare_conditions(command)
    if isinstance(command, Ood):
        return prepare_ood(command)
    return prepare_sweep(command)


def prepare_compare(command: Compare) -> Callable[[], int]:
    """One comparison."""
    from eval.protocol import make_protocol

    task = {} if command.task is None else {"task": command.task}
    protocol = dataclasses.replace(make_protocol(command.protocol), **_changes(command.flags), **task)
    folder = Path(command.out_dir)
    if (folder / "results.json").exists() and not command.overwrite:
        raise ValueError(f"{folder / 'results.json'} exists: choose another --out-dir or pass --overwrite")

    from eval.compare.compare import prepare as prepare_comparison
    from eval.compare.compare import run
    from eval.machine.devices import use_all_cores
    from eval.machine.progress import show_progress
    from eval.report.comparison import write_comparison
    from eval.report.report import write_report
    from eval.report.table import plain_table

    use_all_cores()
    comparison = prepare_comparison(
        protocol, command.participants.checkpoint, folder, baselines_from=command.baselines_from, **_who(command)
    )

    def work() -> int:
        with show_progress() as progress:
            results = run(comparison, progress)
        write_comparison(results, folder)
        print(plain_table(results))
        report = write_report([folder], None, command.network)
        print(f"wrote results.json, table.md and curves.png to {folder}, and {report}")
        return 0

    return work


def prepare_sweep(command: Suite | AxisSweep) -> Callable[[], int]:
    """What is left of a sweep, then its report; 1 if a cell failed here."""
    from eval.machine.devices import use_all_cores

    use_all_cores()
    from eval.compare.earlier import holds_settings
    from eval.machine.progress import show_sweep_progress
    from eval.report.report import write_report
    from eval.sweep.axes import AXIS_PROTOCOL, axis_family, axis_plan
    from eval.sweep.plan import reference_name
    from eval.sweep.suite import SUITE_PROTOCOL, suite_family, suite_plan
    from eval.sweep.sweep import check_sweep, run_cells

    changes, checkpoints = _changes(command.protocol), command.participants.checkpoint
    shared = {"baselines_from": command.baselines_from, **_who(command)}
    if isinstance(command, Suite):
        plan = suite_plan(command.suite, dataclasses.replace(SUITE_PROTOCOL, **changes), checkpoints, **shared)
        make_family, default = suite_family, f"runs/suite_{reference_name(plan.name)}"
    else:
        protocol = dataclasses.replace(AXIS_PROTOCOL, task=command.task, **changes)
        plan = axis_plan(command.axis, protocol, checkpoints, values=_numbers(command.values), **shared)
        make_family, default = axis_family(command.axis), f"runs/axis_{reference_name(command.axis)}"
    source = command.baselines_from
    if source is not None and not Path(source, "cells").is_dir() and not holds_settings(source):
        raise FileNotFoundError(
            f"--baselines-from {source}: not the run folder of a suite or an axis, nor a file of settings, nor shipped"
        )
    run_dir = command.run_dir or default
    check_sweep(plan, run_dir, make_family, retry_failed=command.retry_failed)

    def work() -> int:
        with show_sweep_progress(len(plan.cells)) as progress:
            outcome = run_cells(plan, run_dir, make_family, progress, retry_failed=command.retry_failed)
        if outcome.elsewhere:
            print(f"{len(outcome.elsewhere)} cells are running in other processes; they write the report when done")
        print(f"wrote {write_report([run_dir])}")
        if outcome.failed:
            names = ", ".join(outcome.failed)
            return fail("eval", f"{len(outcome.failed)} cells failed: {names}; see the report", 1)
        return 0

    return work


def prepare_zoo(command: Zoo) -> Callable[[], int]:
    """What is left of a zoo, then its table and report; 1 if a cell failed here."""
    from eval.machine.devices import use_all_cores

    use_all_cores()
    from eval.machine.progress import show_sweep_progress
    from eval.report.report import write_report
    from eval.report.zoo_table import zoo_table
    from eval.sweep.suite import suite_family
    from eval.sweep.sweep import check_sweep, load_sweep, run_cells
    from eval.sweep.zoo import ZOO_PROTOCOL, ZOO_SUITE, make_zoo, zoo_plan
    from learned_opt.atomic_file import write_atomic

    protocol = dataclasses.replace(ZOO_PROTOCOL, **_changes(command.protocol))
    long = None if command.long == "none" else command.long
    plan = zoo_plan(command.suite or ZOO_SUITE, protocol, command.checkpoint, command.weights, long)
    contenders = make_zoo(plan)
    check_sweep(plan, command.run_dir, suite_family, contenders=contenders, retry_failed=command.retry_failed)

    def work() -> int:
        with show_sweep_progress(len(plan.cells)) as progress:
            outcome = run_cells(
                plan, command.run_dir, suite_family, progress, contenders=contenders, retry_failed=command.retry_failed
            )
        if outcome.failed:
            names = ", ".join(outcome.failed)
            return fail("eval", f"{len(outcome.failed)} cells failed: {names}; see the folder", 1)
        table = zoo_table(load_sweep(command.run_dir))
        write_atomic(Path(command.run_dir) / "zoo.md", table.encode())
        print(table, end="")
        print(f"wrote {command.run_dir}/zoo.md and {write_report([command.run_dir])}")
        return 0

    return work


def prepare_report(command: Report) -> Callable[[], int]:
    """A report."""
    from eval.report.report import load_runs, write_report

    load_runs(command.run)

    def work() -> int:
        print(f"wrote {write_report(command.run, command.out_dir, command.network)}")
        return 0

    return work


def prepare_card(command: Card) -> Callable[[], int]:
    """A model card: its errors are all in what it reads."""
    from eval.report.model_card import write_model_card

    source, path = command.checkpoint or command.name, command.out or f"{command.name}.md"
    written = write_model_card(command.name, source, command.run, path)
    return lambda: print(f"wrote {written}") or 0


def prepare_calibration(command: Calibrate) -> Callable[[], int]:
    """A file of calibrated settings: its errors are all in what it reads."""
    from eval.compare.one_setting import save_calibration
    from eval.report.report import load_runs

    sweeps = load_runs(command.run)
    cells = {name: results for sweep in sweeps for name, results in sweep.finished.items()}
    save_calibration(command.out, cells, ["python", "-m", "eval", "calibrate", *command.run, "--out", command.out])
    return lambda: print(f"wrote {command.out}") or 0


def prepare_settings(command: Settings) -> Callable[[], int]:
    """A file of tuned settings: its errors are all in what it reads."""
    from eval.compare.tuned_settings import save_settings
    from eval.report.report import load_runs

    sweeps = load_runs(command.run)
    held = save_settings(command.out, (results for sweep in sweeps for results in sweep.finished.values()))
    return lambda: print(f"wrote {command.out}, which holds settings of {held} comparisons") or 0


def prepare_claims(command: Claims) -> Callable[[], int]:
    """The cells that are left, then the table."""
    from eval.claims.run import check_cells, run_claims
    from eval.machine.devices import use_all_cores
    from eval.machine.progress import show_sweep_progress

    use_all_cores()
    cells = check_cells(_names(command.cells))

    def work() -> int:
        with show_sweep_progress(len(cells)) as progress:
            table = run_claims(cells, Path(command.run_dir), progress)
        print(table)
        print(f"wrote {Path(command.run_dir) / 'claims.md'}")
        return 0

    return work


def prepare_conditions(command: Conditions) -> Callable[[], int]:
    """Tuned and learned optimizers under every condition."""
    from eval.claims.run_conditions import prepare as prepare_runs
    from eval.machine.devices import use_all_cores
    from eval.machine.progress import show_progress

    use_all_cores()
    run = prepare_runs(command.checkpoint, Path(command.run_dir), command.num_rounds, command.num_seeds)

    def work() -> int:
        with show_progress() as progress:
            table = run(progress)
        print(table)
        print(f"wrote conditions.md and loss_against_bytes.svg to {command.run_dir}")
        return 0

    return work


def prepare_ood(command: Ood) -> Callable[[], int]:
    """Everyone's sweep, in and out of distribution."""
    from eval.machine.devices import use_all_cores
    from eval.machine.progress import show_progress
    from eval.machine.provenance import provenance
    from eval.ood.sweep import CHECKPOINTS, OOD_PROTOCOL, prepare, run
    from eval.ood.table import FORMAT, ood_record, ood_table
    from learned_opt.atomic_file import write_atomic

    use_all_cores()
    changes = {"task": command.task, **_changes(command.flags)}
    # No curve is drawn: one point at the end.
    changes["eval_every"] = changes.get("num_rounds", OOD_PROTOCOL.num_rounds)
    protocol = dataclasses.replace(OOD_PROTOCOL, **changes)
    prepared = prepare(protocol, command.checkpoint or CHECKPOINTS, _names(command.baselines), command.contender)

    def work() -> int:
        with show_progress() as progress:
            sweeps = run(prepared, progress)
        folder, table = Path(command.run_dir), ood_table(sweeps, protocol)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "ood.md", table.encode())
        FORMAT.write(folder / "ood.json", ood_record(sweeps, protocol, provenance()))
        print(table)
        print(f"wrote ood.md and ood.json to {folder}")
        return 0

    return work


def list_diagnostics() -> int:
    """Prints what --diagnostics can record."""
    from eval.diagnostics.table import DIAGNOSTICS, GROUPS, description

    width = max(map(len, (*DIAGNOSTICS, *GROUPS)))
    for name, diagnostic in DIAGNOSTICS.items():
        needed = "" if diagnostic.requires is None else f" Needs {diagnostic.requires.words}."
        print(f"{name:<{width}}  {diagnostic.needs:<8}  {description(diagnostic)}{needed}")
    for name, members in GROUPS.items():
        print(f"{name:<{width}}  group     {', '.join(members)}")
    return 0


def _changes(flags: ProtocolFlags) -> dict[str, Any]:
    """The protocol fields that the command line sets."""
    changes = {field: value for field, value in dataclasses.asdict(flags).items() if value is not None}
    if "diagnostics" in changes:
        changes["diagnostics"] = _names(changes["diagnostics"])
    return changes


def _who(command: Compare | Suite | AxisSweep) -> dict[str, Any]:
    """Who takes part beside the checkpoints."""
    flags: ParticipantFlags = command.participants
    return {
        "baselines": _names(flags.baselines),
        "contenders": flags.contender,
        "tune_multiplier": flags.tune_multiplier,
        "one_setting": None if flags.one_setting == "none" else flags.one_setting,
    }


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ValueError(f"--values {text}: use numbers separated by commas") from None


if __name__ == "__main__":
    sys.exit(main())
