"""`make gpu-check`: its time budgets and tables; all of it, on a CPU, so that it works the day there is a GPU."""

import subprocess
import sys
import time

import pytest

from meta_train.gpu_check.__main__ import Part, measured, parts, run_part
from meta_train.gpu_check.tables import Column, table
from meta_train.gpu_check.updates import transformer_shapes
from meta_train.presets import PRESETS

COLUMNS = (Column("name", "name"), Column("bytes", "GB", "{:.1f}", 1e-9))


def printing(text):
    return ("-c", f"print({text!r}, flush=True)")


def test_tables_leave_out_what_is_not_known():
    rows = [{"name": "a", "bytes": 2_500_000_000}, {"name": "b", "bytes": None}]
    assert table(COLUMNS, rows) == "| name | GB |\n| --- | --- |\n| a | 2.5 |\n| b | - |\n"
    assert table(COLUMNS, []) == ""


def test_rows_are_kept_of_a_process_that_takes_too_long_or_fails():
    first = "print('{\"name\": 1}', flush=True)"
    begin = time.monotonic()
    stopped = measured(("-c", f"{first}; import time; time.sleep(60)"), 2.0, {})
    assert time.monotonic() - begin < 30
    assert stopped.rows == [{"name": 1}] and stopped.problem == "stopped after 2 s"
    failed = measured(("-c", f"{first}; raise ValueError('no memory')"), 60.0, {})
    assert failed.rows == [{"name": 1}] and failed.problem == "ValueError: no memory"


def test_a_job_sees_its_environment_and_no_compilation_cache(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    program = "import json, os; print(json.dumps([os.environ.get(n) for n in ('A', 'JAX_COMPILATION_CACHE_DIR')]))"
    assert measured(("-c", program), 60.0, {"A": "1"}).last_line == '["1", null]'


def test_a_part_names_what_failed_and_what_found_no_time():
    jobs = {
        "good": (printing('{"name": "a", "bytes": 1}'), {}),
        "no memory": (printing('{"name": "b", "problem": "out of memory"}'), {}),
        "bad": (("-c", "raise SystemExit('broken')"), {}),
    }
    rows, remarks = run_part(Part("Title", COLUMNS, 100, jobs), lambda: 100.0)
    assert [row["name"] for row in rows] == ["a", "b"]
    assert remarks == ["no memory: out of memory", "bad: broken"]
    rows, remarks = run_part(Part("Title", COLUMNS, 100, jobs), lambda: 1.0)
    assert rows == [] and remarks == [f"{name}: skipped, the time is up" for name in jobs]


def test_layouts_are_one_device_and_more_of_those_that_there_are():
    jobs = parts({"platform": "gpu", "devices": 4})[2].jobs
    assert [changes for _, changes in jobs.values()] == [
        {"CUDA_VISIBLE_DEVICES": visible} for visible in ("0", "0,1", "0,1,2,3")
    ]
    assert list(parts({"platform": "cpu", "devices": 1})[3].jobs) == list(PRESETS)


def test_the_largest_tree_is_gpt_2_small():
    shapes = transformer_shapes(768, 12, 50257, 1024)
    # The published count, with the output layer tied to the embedding.
    assert sum(a * b for a, b in ((*s, 1)[:2] for s in shapes.values())) == 124_439_808


@pytest.mark.slow
def test_all_of_it_on_a_cpu():
    done = subprocess.run(
        [sys.executable, "-m", "meta_train.gpu_check"], capture_output=True, text=True, timeout=560, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the figures mean nothing" in done.stdout and " passed" in done.stdout
    for expected in ("transformer", *PRESETS):
        assert f"| {expected}" in done.stdout
    layouts = done.stdout.split("on so many devices\n")[1].split("###")[0].splitlines()[4:]
    hashes = [line.split("|")[3] for line in layouts if line]
    assert len(hashes) > 1 and len(set(hashes)) == 1
