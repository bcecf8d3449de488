"""Runs notebooks at their full setting and keeps the output: `python .ci/refresh_notebooks.py [NAME ...]`.

The .py of each pair is what is edited; its .ipynb is written anew from it, with figures and printed text. A notebook
that fails leaves the .ipynb as it was.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 300_000
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def main(names: list[str]) -> None:
    """Refreshes the named notebooks, or all."""
    scripts = {path.stem: path for path in sorted(ROOT.glob("*/notebooks/*.py"))}
    if unknown := set(names) - set(scripts):
        raise SystemExit(f"no notebook {sorted(unknown)}: use {', '.join(scripts)}")
    for name in names or scripts:
        started = time.monotonic()
        print(f"{name}: {refresh(scripts[name])} bytes, {time.monotonic() - started:.0f} s", flush=True)


def refresh(script: Path) -> int:
    """Writes the .ipynb of a script; returns its size."""
    os.environ["PYTHONPATH"] = str(ROOT)
    notebook = jupytext.read(script)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=3600, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.execute()
    notebook.metadata["kernelspec"] = KERNEL
    for number, cell in enumerate(notebook.cells):
        # Ids at random and times of this machine would make every refresh a change of every line.
        cell["id"] = f"cell-{number}"
        cell.metadata.pop("execution", None)
    notebook.metadata.pop("language_info", None)
    text = nbformat.writes(notebook)
    if len(text.encode()) > MAX_BYTES:
        raise SystemExit(f"{script.stem}: {len(text.encode())} bytes: draw fewer or smaller figures")
    script.with_suffix(".ipynb").write_text(text + "\n")
    return len(text.encode())


if __name__ == "__main__":
    main(sys.argv[1:])
