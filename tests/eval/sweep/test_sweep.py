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

from eval.compare.contenders import Contender, contender
from eval.sweep.plan import Cell, SweepPlan
from eval.sweep.sweep import load_sweep, run_sweep
from learned_opt.algorithms.server import fedavg
from tests.eval.toy import TOY, toy_data, toy_family

ROOT = Path(__file__).resolve().parents[3]
SMALL = dataclasses.replace(TOY, num_rounds=2, num_seeds=1)
PLAN = SweepPlan("suite", "toys", tuple(Cell(name, dataclasses.replace(SMALL, task=name)) for name in ("a", "b", "c")))


def only_local_sgd(plan, cell):
    del plan
    return [contender("local_sgd", cell.protocol, lambda h: fedavg(), {}, lambda h: optax.sgd(0.5))]


def family(cell):
    del cell
    return toy_family()


def broken_in_b(plan, cell):
    if cell.name != "b":
        return only_local_sgd(plan, cell)

    def make(hparams):
        raise ValueError("shapes\ndiffer in b")

    return [Contender("broken", make, {})]


def run(folder, make_family=family, plan=PLAN, contenders=only_local_sgd, **options):
    return run_sweep(plan, folder, make_family, contenders=contenders, **options)


def test_a_failing_cell_is_recorded_and_the_others_go_on(tmp_path):
    outcome = run(tmp_path, contenders=broken_in_b)
    assert outcome == (("a", "c"), ("b",), ())
    sweep = load_sweep(tmp_path)
    assert list(sweep.finished) == ["a", "c"] and sweep.missing == () and sweep.plan == PLAN
    assert sweep.failed["b"].message == "ValueError: shapes differ in b"
    assert "in make" in sweep.failed["b"].traceback

    def must_not_run(cell):
        raise AssertionError(cell.name)

    before = (tmp_path / "cells" / "a" / "results.json").stat().st_mtime_ns
    assert run(tmp_path, must_not_run) == ((), (), ())
    assert (tmp_path / "cells" / "a" / "results.json").stat().st_mtime_ns == before

    again = run(tmp_path, retry_failed=True)
    assert again.finished == ("b",) and load_sweep(tmp_path).failed == {}


def test_families_that_cannot_be_used_are_all_named_before_anything_runs(tmp_path):
    def some(cell):
        if cell.name == "b":
            raise FileNotFoundError("dataset 'b' not found")
        data = toy_data()
        if cell.name == "c":
            data["test"]["label"] = data["test"]["label"] + 1
        return toy_family(data)

    with pytest.raises(ValueError) as caught:
        run(tmp_path / "new", some)
    message = str(caught.value)
    assert message.startswith(
        "2 of 3 task families cannot be used; leave them out or mend them: b: dataset 'b' not found"
    )
    assert "c: task family toy, test/label: labels 1 to 3, with 3 classes they lie in 0 to 2" in message
    assert not (tmp_path / "new").exists()


def test_a_cell_that_another_process_holds_is_left_to_it(tmp_path):
    (tmp_path / "cells" / "a").mkdir(parents=True)
    with open(tmp_path / "cells" / "a" / "LOCK", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        outcome = run(tmp_path, family)
        assert outcome == (("b", "c"), (), ("a",)) and load_sweep(tmp_path).missing == ("a",)
    assert run(tmp_path).finished == ("a",)


CHILD = """
import time
from eval.machine.progress import SweepProgress
from eval.sweep.sweep import run_sweep
from tests.eval.sweep import test_sweep as t
def progress(cell, status):
    if (cell, status) == ("b", "running"):
        print("inside b", flush=True)
        time.sleep(600)
run_sweep(t.PLAN, {folder!r}, t.family, SweepProgress(progress, lambda *_: None), contenders=t.only_local_sgd)
"""


def test_a_kill_costs_the_running_cell_only(tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD.format(folder=str(tmp_path))]
    child = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "inside b\n"
    # While it lives its cell is taken; once killed, free.
    outcome = run(tmp_path, family)
    assert outcome.elsewhere == ("b",) and outcome.finished == ("c",)
    child.send_signal(signal.SIGKILL)
    child.wait()
    started = time.monotonic()
    assert run(tmp_path, family) == (("b",), (), ())
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
