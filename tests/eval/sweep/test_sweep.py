"""Sweeps: resumed after a kill, shared by processes, failures recorded; on toy tasks."""

import dataclasses
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optax
import pytest

from eval.compare.contenders import contender
from eval.sweep.sweep import Cell, Plan, load_sweep, run_sweep
from learned_opt.algorithms.server import fedavg
from tests.eval.toy import TOY, toy_family

ROOT = Path(__file__).resolve().parents[3]
SMALL = dataclasses.replace(TOY, num_rounds=2, num_seeds=1)
PLAN = Plan("suite", "toys", tuple(Cell(name, dataclasses.replace(SMALL, task=name)) for name in ("a", "b", "c")))


def only_local_sgd(plan, cell):
    del plan
    return [contender("local_sgd", cell.protocol, lambda h: fedavg(), {}, lambda h: optax.sgd(0.5))]


def family(cell):
    if cell.name == "b":
        raise RuntimeError("no data\nfor b")
    return toy_family()


def run(folder, make_family=family, plan=PLAN, **options):
    return run_sweep(plan, folder, make_family, contenders=only_local_sgd, **options)


def test_a_failing_cell_is_recorded_and_the_others_go_on(tmp_path):
    outcome = run(tmp_path)
    assert outcome == (("a", "c"), ("b",), ())
    sweep = load_sweep(tmp_path)
    assert list(sweep.finished) == ["a", "c"] and sweep.missing == () and sweep.plan == PLAN
    assert sweep.failed["b"].message == "RuntimeError: no data for b"
    assert "in family" in sweep.failed["b"].traceback

    def must_not_run(cell):
        raise AssertionError(cell.name)

    before = (tmp_path / "cells" / "a" / "results.json").stat().st_mtime_ns
    assert run(tmp_path, must_not_run) == ((), (), ())
    assert (tmp_path / "cells" / "a" / "results.json").stat().st_mtime_ns == before

    again = run(tmp_path, lambda cell: toy_family(), retry_failed=True)
    assert again.finished == ("b",) and load_sweep(tmp_path).failed == {}


def test_a_cell_that_another_process_holds_is_left_to_it(tmp_path):
    (tmp_path / "cells" / "a").mkdir(parents=True)
    with open(tmp_path / "cells" / "a" / "LOCK", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        outcome = run(tmp_path, lambda cell: toy_family())
        assert outcome == (("b", "c"), (), ("a",)) and load_sweep(tmp_path).missing == ("a",)
    assert run(tmp_path).finished == ("a",)


CHILD = """
import time
from eval.sweep.sweep import run_sweep
from tests.eval.sweep import test_sweep as t
def family(cell):
    if cell.name == "b":
        print("inside b", flush=True)
        time.sleep(600)
    return t.toy_family()
run_sweep(t.PLAN, {folder!r}, family, contenders=t.only_local_sgd)
"""


def test_a_kill_costs_the_running_cell_only(tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD.format(folder=str(tmp_path))]
    child = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "inside b\n"
    # While it lives its cell is taken; once killed, free.
    outcome = run(tmp_path, lambda cell: toy_family())
    assert outcome.elsewhere == ("b",) and outcome.finished == ("c",)
    child.send_signal(signal.SIGKILL)
    child.wait()
    started = time.monotonic()
    assert run(tmp_path, lambda cell: toy_family()) == (("b",), (), ())
    assert time.monotonic() - started < 300
    assert list(load_sweep(tmp_path).finished) == ["a", "b", "c"]


def test_another_plan_is_refused(tmp_path):
    run(tmp_path)
    longer = dataclasses.replace(
        PLAN, cells=tuple(Cell(c.name, dataclasses.replace(c.protocol, num_rounds=4)) for c in PLAN.cells)
    )
    for plan, message in (
        (longer, "its cells or their protocol differ"),
        (dataclasses.replace(PLAN, checkpoints=(("x", "x"),)), "checkpoints="),
    ):
        with pytest.raises(ValueError, match=message):
            run(tmp_path, plan=plan)


def test_an_unsuitable_contender_stops_it_before_anything_is_written(tmp_path):
    def broken(plan, cell):
        raise ValueError("built for 8 workers")

    with pytest.raises(ValueError, match="built for 8"):
        run_sweep(PLAN, tmp_path / "new", family, contenders=broken)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format_version": 9}', b'{"format_version": 1, "kind": "suite"}'])
def test_odd_plans(tmp_path, content):
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(ValueError, match="sweep.json: ") as caught:
        load_sweep(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b"])
def test_cell_names_are_folder_names(name):
    with pytest.raises(ValueError, match="use letters"):
        Cell(name, TOY)
