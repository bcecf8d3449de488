"""The report of one or more run folders: report.html, report.md, tables/*.csv and, of axes, axes.svg.

Nothing in it depends on the time or the machine that writes it: the same result files give the same bytes.
"""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from eval.protocol import EvalProtocol
from eval.report.axes_figure import axes_figure
from eval.report.cell_tables import axis_table, cell_table, price_table
from eval.report.curve_panels import diagnostic_curves, metric_curves, training_curves
from eval.report.detail_tables import (
    checkpoint_table,
    cost_table,
    diagnostic_names,
    diagnostics_table,
    failure_table,
    provenance_table,
    task_table,
)
from eval.report.figures import aggregate_figure, axis_figure, profile_figure
from eval.report.page import Section, html_page, markdown_page
from eval.report.spending import spending_curves, traffic_table
from eval.report.tables import Table, outcome_table, speed_table
from eval.report.verdict import verdict
from eval.results import Results, load_results
from eval.scores.network import DEFAULT_NETWORK, Network
from eval.scores.targets import targets
from eval.sweep.plan import PLAN_FILE, Cell, SweepPlan, reference_name
from eval.sweep.sweep import Sweep, load_sweep
from learned_opt.atomic_file import write_atomic

AXES_TITLE = "Over its anchor along the axes"
AXES_WORDS = "Below 1 the learned optimizer ends lower than its anchor; axes.svg holds the figure."


def load_run(path: str | os.PathLike[str]) -> Sweep:
    """A sweep's run folder, or one comparison (its folder or its results.json) as a sweep of one cell.

    Raises:
      FileNotFoundError: neither.
      ValueError: an unreadable file.
    """
    folder = Path(path)
    if (folder / PLAN_FILE).exists():
        return load_sweep(folder)
    file = folder / "results.json" if folder.is_dir() else folder
    results = load_results(file)
    cell = Cell(reference_name(results.protocol.task), results.protocol)
    return Sweep(SweepPlan("compare", results.protocol.task, (cell,)), {cell.name: results}, {}, ())


def load_runs(runs: Sequence[str | os.PathLike[str]]) -> list[Sweep]:
    """Several runs, for one report.

    Raises:
      FileNotFoundError: no such run.
      ValueError: an unreadable file, two cells of one name, or nothing at all to report.
    """
    if not runs:
        raise ValueError("no run given: name at least one run folder")
    if isinstance(runs, str):
        raise ValueError(f"runs={runs!r}: use a list, [{runs!r}]")
    sweeps = [load_run(run) for run in runs]
    names = [name for sweep in sweeps for name in sweep.finished]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two of the runs have a cell {name!r}: report them one by one")
    return sweeps


def write_report(
    runs: Sequence[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str] | None = None,
    network: Network = DEFAULT_NETWORK,
) -> Path:
    """Writes the report of all the runs together.

    Args:
      runs: run folders of suites, axes or single comparisons.
      out_dir: folder for the files; the first run's by default.
      network: for simulated seconds.

    Returns:
      The HTML file.

    Raises:
      FileNotFoundError, ValueError: as `load_runs`.
    """
    sweeps = load_runs(runs)
    folder = Path(out_dir if out_dir is not None else runs[0])
    folder = folder.parent if folder.is_file() else folder
    title = "Evaluation: " + ", ".join(map(_short_name, sweeps))
    sections = report_sections(sweeps, network)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for table in (table for section in sections for table in section.tables):
        write_atomic(folder / "tables" / f"{table.slug}.csv", _csv(table).encode())
    for section in sections:
        if section.title == AXES_TITLE:
            write_atomic(folder / "axes.svg", section.figures[0][1].encode())
    write_atomic(folder / "report.md", markdown_page(title, sections).encode())
    write_atomic(folder / "report.html", html_page(title, sections).encode())
    return folder / "report.html"


def _short_name(sweep: Sweep) -> str:
    """A suite of families that were named one by one is called by their number."""
    names = sweep.plan.name.split(",")
    return f"{sweep.plan.kind} {sweep.plan.name}" if len(names) < 4 else f"{sweep.plan.kind} of {len(names)} families"


def report_sections(sweeps: Sequence[Sweep], network: Network) -> list[Section]:
    """What the report says, in its order."""
    cells = {name: results for sweep in sweeps for name, results in sweep.finished.items()}
    total = sum(len(sweep.plan.cells) for sweep in sweeps)
    num_failed = sum(len(sweep.failed) for sweep in sweeps)
    summary = (
        f"{len(cells)} of {total} cells finished, {num_failed} failed, "
        f"{total - len(cells) - num_failed} not run or still running."
    )
    sections = [Section("Verdict", (*verdict(list(cells.values())), summary, *_left_out(sweeps)), kind="verdict")]
    failures = failure_table(sweeps)
    if failures is not None:
        traces = tuple(f"{cell}\n{f.traceback}" for sweep in sweeps for cell, f in sweep.failed.items())
        heading = "What failed" if num_failed else "What has not finished"
        table = failures._replace(title=heading)
        sections.append(Section(heading, tables=(table,), code=traces, kind="failed" if num_failed else ""))
    if cells:
        sections += _result_sections(sweeps, cells, network)
    return sections


def _result_sections(sweeps: Sequence[Sweep], cells: dict[str, Results], network: Network) -> list[Section]:
    everything = list(cells.values())
    words = dict.fromkeys(text for sweep in sweeps for text in _protocols_in_words(sweep))
    tasks = task_table(cells)
    sections = [Section("What was trained", (*words, network.words()), tables=() if tasks is None else (tasks,))]
    figures = []
    if any(targets(results) for results in everything):
        figures = [
            ("Speed-up over three targets", aggregate_figure(everything)),
            ("Performance profiles", profile_figure(everything)),
        ]
    sections.append(Section("Results", (), tuple(figures), (speed_table(everything), outcome_table(everything))))
    axes = axes_figure(sweeps)
    if axes is not None:
        sections.append(Section(AXES_TITLE, (AXES_WORDS,), ((AXES_TITLE, axes),)))
    for sweep in sweeps:
        if sweep.plan.kind == "axis" and sweep.finished:
            figure = (f"{sweep.plan.name}", axis_figure(sweep))
            sections.append(Section(f"Axis {sweep.plan.name}", (), (figure,), (axis_table(sweep),)))
    curves = [("Training loss; dotted: targets, the final losses of tuned baselines", training_curves(cells))]
    curves += [(f"Test {metric}, on fixed examples", figure) for metric, figure in metric_curves(cells).items()]
    tables = [
        table
        for name, results in cells.items()
        for table in (cell_table(name, results), price_table(name, results, network))
    ]
    sections.append(Section("Cells", (), tuple(curves), tuple(tables)))
    diagnosed = diagnostics_table(cells)
    if diagnosed is not None:
        names = diagnostic_names(cells)
        drawn = [(name.replace("_", " "), diagnostic_curves(cells, name)) for name in names]
        # The loss again, beside which they are read.
        shown = [(title, figure) for title, figure in drawn if figure is not None]
        figures = (("Training loss", training_curves(cells)), *shown)
        sections.append(Section("Diagnostics", (), figures, (diagnosed,)))
    spent = spending_curves(cells, network)
    sections.append(Section("Bytes and simulated seconds", (), spent, (traffic_table(cells),)))
    cost = cost_table(cells)
    if cost is not None:
        sections.append(Section(cost.title, tables=(cost,)))
    learned = checkpoint_table(cells)
    origins = (provenance_table(cells), *(() if learned is None else (learned,)))
    sections.append(Section("Provenance", tables=origins))
    return sections


def protocol_in_words(protocol: EvalProtocol) -> str:
    """One paragraph."""
    p = protocol
    rate = "constant" if p.schedule == "constant" else f"under the schedule {p.schedule!r} over the whole run"
    average = "" if p.ema is None else f" Evaluated is an average of the parameters with decay {p.ema:g} a round."
    return (
        f"Every contender trains for {p.num_rounds} rounds; in a round each of K={p.num_workers} workers computes the "
        f"gradients of H={p.num_local_steps} minibatches of {p.batch_size} examples. Data-parallel optimizers take "
        f"one step a round on all of them. Learning rates are {rate}, for everyone alike.{average} {p.num_seeds} final "
        f"seeds, which fix initial parameters and batches and are the same for everyone (root {p.seed}); tuning uses "
        f"{p.tuning_seeds} of its own. Tuning is {p.tuning}: every tuned contender has the same number of settings in "
        "its first grid, chosen by the loss on the inner-validation split; a grid whose best setting lies on an edge "
        f"grows, at most {p.max_extensions} times. Learned optimizers are not tuned unless their table says so. The "
        "test split is read once, after all training. Curves are the loss on "
        f"{p.num_curve_examples} fixed training examples, measured every {p.eval_every} rounds."
    )


def _protocols_in_words(sweep: Sweep) -> list[str]:
    """Its protocols; of an axis the first one, and what changes along it."""
    words = list(dict.fromkeys(protocol_in_words(results.protocol) for results in sweep.finished.values()))
    if sweep.plan.kind != "axis":
        return words
    values = ", ".join(f"{cell.value:g}" for cell in sweep.plan.cells)
    label = sweep.plan.label or sweep.plan.name
    return [*words[:1], f"That is the first cell; along the axis, {label} is {values}."]


def _left_out(sweeps: Sequence[Sweep]) -> list[str]:
    """Who did not take part where."""
    lines = []
    for sweep in sweeps:
        for name, _ in sweep.plan.checkpoints:
            absent = [
                cell for cell, results in sweep.finished.items() if name not in [c.name for c in results.contenders]
            ]
            if absent:
                lines.append(
                    f"{name} is tied to another number of workers and did not take part in {', '.join(absent)}."
                )
    return lines


def _csv(table: Table) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table.rows)
    return text.getvalue()
