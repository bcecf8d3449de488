"""Tables of what explains the results: tasks, diagnostics, time and memory, failures, and where numbers come from."""

import math
from collections.abc import Sequence

from eval.diagnostics.curve_numbers import CURVE_NUMBERS
from eval.diagnostics.table import DIAGNOSTICS, description
from eval.report.tables import NEVER, Table, number
from eval.results import Results, everyone
from eval.scores.measures import measures
from eval.scores.targets import LOCAL_SGD
from eval.sweep.sweep import Sweep


def task_table(cells: dict[str, Results]) -> Table | None:
    """What was trained in each cell; None where nothing was recorded."""
    rows = [
        ["cell", "task", "parameters", "examples: train / valid / test", "an example", "reported", "constant guess"]
    ]
    for cell, results in cells.items():
        task = results.task
        if task:
            sizes = " / ".join(f"{task['examples'][split]:,}" for split in ("train", "inner_valid", "test"))
            rows.append(
                [
                    cell,
                    f"{task['name']}: {task['description']}" if task["description"] else task["name"],
                    f"{task['num_params']:,}",
                    sizes,
                    ", ".join(f"{leaf} {form}" for leaf, form in task["leaves"].items()),
                    ", ".join(task["metrics"]),
                    f"{task['constant_guess_loss']:.4g}",
                ]
            )
    note = (
        "An example: the leaves that are stored, with dtype and shape. Constant guess: the loss of the best prediction "
        "that does not look at the input (ln C for C classes), in the unit of the losses."
    )
    return Table("tasks", "Tasks", note, rows) if len(rows) > 1 else None


def diagnostics_table(cells: dict[str, Results]) -> Table | None:
    """The diagnostics averaged over rounds and seeds; None where nothing was recorded."""
    names = diagnostic_names(cells)
    numbers = [(name, CURVE_NUMBERS[name]) for name in names if name in CURVE_NUMBERS]
    titles = [*(name.replace("_", " ") for name in names), *(of_curve.name for _, of_curve in numbers)]
    rows = [["cell", "optimizer", *titles]]
    for cell, results in cells.items():
        for m, c in zip(measures(results), results.contenders, strict=True):
            if m.diagnostics:
                averages = [m.diagnostics.get(name, math.nan) for name in names]
                single = [
                    of_curve.number(c.rounds, c.diagnostics[name]) if name in c.diagnostics else math.nan
                    for name, of_curve in numbers
                ]
                rows.append([cell, m.name, *(number(value, 4) for value in (*averages, *single))])
    known = [name for name in names if name in DIAGNOSTICS]
    said = " ".join(f"{name.replace('_', ' ')}: {description(DIAGNOSTICS[name])}" for name in known)
    note = f"Averaged over the measured rounds and the seeds. {said}"
    if numbers:
        note += f" Of whole curves: {', '.join(of_curve.name for _, of_curve in numbers)}."
    return Table("diagnostics", "Diagnostics", note, rows) if len(rows) > 1 else None


def diagnostic_names(cells: dict[str, Results]) -> list[str]:
    """Names of what was recorded in any cell."""
    return list(dict.fromkeys(name for results in cells.values() for c in results.contenders for name in c.diagnostics))


def cost_table(cells: dict[str, Results]) -> Table | None:
    """Time and memory of training; None where nothing was recorded."""
    rows = [["cell", "optimizer", "ms a round", "of Local SGD's", "state kB", "temporaries MB", "compile s"]]
    for cell, results in cells.items():
        measured = measures(results)
        reference = next((m.cost.get("seconds_per_round") for m in measured if m.name == LOCAL_SGD), None)
        for m in measured:
            pace, state, memory = (m.cost.get(f) for f in ("seconds_per_round", "state_bytes", "memory_bytes"))
            if m.cost:
                rows.append(
                    [
                        cell,
                        m.name,
                        NEVER if pace is None else f"{1000 * pace:.3g}",
                        NEVER if pace is None or not reference else f"{pace / reference:.2f}",
                        NEVER if state is None else f"{state / 1000:.1f}",
                        NEVER if memory is None else f"{memory / 1e6:.1f}",
                        number(m.cost.get("compile_seconds", math.nan), 3),
                    ]
                )
    note = (
        "A round as it ran in the final training: K H minibatch gradients, their batches and the update, one run on "
        "each device (more on accelerators); as exact as the machine was idle. State: of the server optimizer, and of "
        "the local optimizers of all workers. Temporaries: of the compiled training program on one device."
    )
    return Table("cost", "Time and memory", note, rows) if len(rows) > 1 else None


def failure_table(sweeps: Sequence[Sweep]) -> Table | None:
    """Cells that failed or were not run; None if there are none."""
    rows = [["cell", "what happened", "seconds"]]
    for sweep in sweeps:
        rows += [[cell, failure.message, f"{failure.seconds:.0f}"] for cell, failure in sweep.failed.items()]
        rows += [[cell, "not finished", NEVER] for cell in sweep.missing]
    note = "These cells are in no aggregate."
    return Table("failed", "What failed", note, rows) if len(rows) > 1 else None


def provenance_table(cells: dict[str, Results]) -> Table:
    """Where the numbers come from, one row per cell."""
    rows = [["cell", "commit", "device", "versions", "seconds", "of them tuning", "baselines from", "command"]]
    for name, results in cells.items():
        p = results.provenance
        commit = str(p.get("git_commit") or "-")[:12] + (" with changes" if p.get("git_dirty") else "")
        versions = ", ".join(f"{package} {version}" for package, version in p.get("versions", {}).items())
        rows.append(
            [
                name,
                commit,
                f"{p.get('num_devices', '?')} x {p.get('device', '?')}",
                versions,
                str(p.get("seconds", "-")),
                str(p.get("tuning_seconds", "-")),
                str(p.get("baselines_from") or "tuned here"),
                " ".join(str(argument) for argument in p.get("argv", ())),
            ]
        )
    return Table("provenance", "Where the numbers come from", "One row per cell.", rows)


def checkpoint_table(cells: dict[str, Results]) -> Table | None:
    """The learned optimizers as their cards say; None if there are none."""
    rows = [["optimizer", "checkpoint", "architecture", "card"]]
    for name, contender in everyone(list(cells.values())).items():
        # One made by hand, in Python, may have no file.
        if contender.kind == "learned" and "checkpoint" in contender.details:
            said = (f"{key} {value}" for key, value in contender.details["card"].items() if _is_plain(value))
            architecture = contender.details["config"]["architecture"]
            rows.append([name, contender.details["checkpoint"], architecture, ", ".join(said)])
    return Table("checkpoints", "Learned optimizers", "As their cards say.", rows) if len(rows) > 1 else None


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float)
