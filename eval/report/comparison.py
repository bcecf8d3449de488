"""The files of one comparison beside its results: table.md and curves.png."""

import os
from pathlib import Path

from eval.report.curve_figure import draw_curves
from eval.report.table import markdown_table
from eval.results import Results
from learned_opt.atomic_file import write_atomic


def write_comparison(results: Results, folder: str | os.PathLike[str]) -> None:
    """Writes both into the folder."""
    write_atomic(Path(folder) / "table.md", markdown_table(results).encode())
    draw_curves(results, Path(folder) / "curves.png")
