"""Runs the cells that claims need, and writes the table: RUN/CELL/results.json and RUN/claims.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.claims.cells import CELLS, Cell
from eval.claims.claim import HOLDS, MISSES, UNCLEAR, Claim, outcome
from eval.claims.finished import finished
from eval.claims.table import CLAIMS
from eval.compare.compare import prepare, run
from eval.compare.participants import participants
from eval.machine.progress import SweepProgress
from eval.results import Results
from eval.sweep.plan import reference_name
from learned_opt.atomic_file import write_atomic
from learned_opt.names import hint


def check_cells(names: Sequence[str]) -> tuple[Cell, ...]:
    """The cells of these names, "all" for all.

    Raises:
      ValueError: an unknown name, or none.
    """
    if not names:
        raise ValueError(f"cells: none named; use all, {', '.join(CELLS)}")
    for name in names:
        if name != "all" and name not in CELLS:
            raise ValueError(f"cells: {name!r} is unknown; {hint(name, ('all', *CELLS))}")
    return tuple(cell for name, cell in CELLS.items() if "all" in names or name in names)


def run_claims(
    cells: Sequence[Cell],
    folder: Path,
    progress: SweepProgress,
    claims: Sequence[Claim] = CLAIMS,
) -> str:
    """Runs what is not finished; returns the table as Markdown, which is also written.

    Args:
      cells: to run.
      folder: of the run; a cell whose results lie there, under the same protocol and of the same contenders, is read.
      progress: told of cells, and of what happens inside.
      claims: those whose cells are all there are in the table.
    """
    found: dict[str, Results] = {}
    for cell in cells:
        out_dir = folder / reference_name(cell.name)
        contenders = participants(cell.protocol, baselines=(), contenders=cell.contenders)
        known = finished(out_dir, cell.protocol, contenders)
        progress.cell(cell.name, "running" if known is None else "finished before")
        if known is None:
            comparison = prepare(cell.protocol, (), out_dir, baselines=(), contenders=contenders, family=cell.family())
            known = run(comparison, progress.stage)
            progress.cell(cell.name, f"finished in {known.provenance['seconds']:.0f} s")
        found[cell.name] = known
    text = claims_table(claims, found)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "claims.md", text.encode())
    return text


def claims_table(claims: Sequence[Claim], cells: Mapping[str, Results]) -> str:
    """A row for every claim whose cells are there, those that do not hold included, and their number below."""
    lines = ["| claim | paper | measured, in cell | ratio over seeds (lowest to highest) | needed | |"]
    lines.append("| --- | --- | --- | ---: | ---: | --- |")
    verdicts = []
    for claim in claims:
        if all(name in cells for name in claim.cells):
            mean, low, high, verdict = outcome(claim, claim.ratio(cells))
            where = ", ".join(claim.cells)
            ratio = f"{mean:.3f} ({low:.3f} to {high:.3f})"
            row = (claim.statement, claim.paper, f"{claim.measured}, {where}", ratio, f"> {claim.least:g}", verdict)
            lines.append("| " + " | ".join(row) + " |")
            verdicts.append(verdict)
    hold, miss, unclear = (verdicts.count(word) for word in (HOLDS, MISSES, UNCLEAR))
    counts = f"Of {len(verdicts)} claims {hold} hold, {miss} do not, and {unclear} are not clear."
    seconds = sum(results.provenance.get("seconds", 0.0) for results in cells.values())
    return "\n".join([*lines, "", f"{counts} {seconds / 60:.0f} minutes in all.", ""])
