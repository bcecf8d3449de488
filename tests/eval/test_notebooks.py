"""The notebooks run from start to end at a smoke setting; each .ipynb is the notebook of its .py, with its output."""

from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(ROOT.glob("*/notebooks/*.py"))


def test_there_are_notebooks():
    assert len(SCRIPTS) >= 8


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_pair_is_in_step_and_shows_its_output(script):
    path = script.with_suffix(".ipynb")
    notebook = jupytext.read(path)
    cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
    # `make notebooks-refresh ARGS=NAME` brings a pair in step.
    assert cells == [(cell.cell_type, cell.source) for cell in jupytext.read(script).cells]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    kinds = {output.output_type for output in outputs}
    assert "error" not in kinds and any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 300_000


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_runs(script, tmp_path, monkeypatch):
    monkeypatch.setenv("FAST", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = jupytext.read(script)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert any(cell.get("outputs") for cell in notebook.cells)
