"""The launcher ends and restarts a group that lost a rank, and leaves nobody behind."""

import os
import re
import signal
import sys
import time

import pytest

import meta_train.processes.launch
from meta_train.__main__ import main
from meta_train.processes.launch import LaunchConfig, launch
from meta_train.processes.watchdog import HEARTBEAT, LAUNCHER, Heartbeat, Watch
from meta_train.runs.run import run
from tests.meta_train.spawned import PRESET, end, spawn, wait_for_rows
from tests.meta_train.toy_trainer import result_of, toy_config, toy_trainer

pytestmark = pytest.mark.optimized

# A rank that does what PLAN says for its n-th start: one word a start, one list a rank.
_FAKE_RANK = """
import json, os, signal, sys, time
arguments = sys.argv[1:]
rank = int(arguments[-1].rpartition(",")[2])
with open(f"{os.environ['HISTORY']}_{rank}", "a") as history:
    history.write(json.dumps([os.getpid(), *arguments[:-2]]) + chr(10))
def starts(rank):
    history = f"{os.environ['HISTORY']}_{rank}"
    return open(history).read().count(chr(10)) if os.path.exists(history) else 0
plan = json.loads(os.environ["PLAN"])
number = starts(rank) - 1
# The launcher may end a rank before it has written down that it started, once another one leaves.
while any(starts(other) <= number for other in range(len(plan))):
    time.sleep(0.01)
word = plan[rank][number]
print(f"rank {rank} start {number} {word}", flush=True)
if word == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
if word == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if word in ("wait", "deaf"):
    for step in range(100):
        open(os.environ["META_TRAIN_HEARTBEAT"], "w").write(str(step))
        time.sleep(0.1)
    sys.exit(0)
if word == "hang":
    open(os.environ["META_TRAIN_HEARTBEAT"], "w").write("7")
    time.sleep(30)
if word == "done":
    open(os.environ["META_TRAIN_HEARTBEAT"], "w").write("done")
    time.sleep(1)
    sys.exit(0)
if word == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(word))
"""


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Launches fake ranks by a plan; returns exit code, messages, and the arguments of every start by rank."""

    def play(plan, command=("demo",), **fields):
        import json

        monkeypatch.setattr(meta_train.processes.launch, "PROGRAM", (sys.executable, "-c", _FAKE_RANK))
        monkeypatch.setenv("PLAN", json.dumps(plan))
        monkeypatch.setenv("HISTORY", str(tmp_path / "history"))
        (tmp_path / "run").mkdir(exist_ok=True)
        messages = []
        settings = {"processes": len(plan), "hang_seconds": 0.4, "end_seconds": 0.3, **fields}
        code = launch(LaunchConfig(**settings), command, tmp_path / "run", messages.append)
        starts = [
            [json.loads(line) for line in (tmp_path / f"history_{rank}").read_text().splitlines()]
            for rank in range(len(plan))
        ]
        for pid, *_ in sum(starts, []):
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        return code, " | ".join(messages), [[arguments for _, *arguments in rank] for rank in starts]

    return play


@pytest.mark.parametrize(
    "plan, code, reason, starts",
    [
        ([["0"], ["0"]], 0, "", 1),
        ([["75"], ["75"]], 75, "", 1),
        ([["3"], ["3"]], 3, "", 1),
        ([["2"], ["wait"]], 2, "", 1),
        ([["done"], ["0"]], 0, "", 1),
        ([["wait", "0"], ["kill", "0"]], 0, "rank 1 was killed by SIGKILL", 2),
        ([["kill", "0"], ["deaf", "0"]], 0, "rank 0 was killed by SIGKILL", 2),
        ([["1", "0"], ["wait", "0"]], 0, "rank 0 failed with exit code 1", 2),
        ([["wait", "0"], ["hang", "0"]], 0, "rank 1 hangs: no meta-step in 0.4 s after meta-step 7", 2),
        ([["0", "0"], ["75", "0"]], 0, "ended differently", 2),
        ([["kill"] * 3, ["wait"] * 3], 1, "gave up after 2 restarts", 3),
    ],
)
def test_endings(play, plan, code, reason, starts):
    found, messages, arguments = play(plan, max_restarts=2)
    assert found == code and reason in messages, messages
    assert [len(rank) for rank in arguments] == [starts, starts]


def test_restart_resumes_what_exists(play, tmp_path):
    assert play([["1", "0"]] * 2)[2] == [[["demo"]] * 2] * 2
    (tmp_path / "history_0").unlink()
    (tmp_path / "history_1").unlink()
    (tmp_path / "run" / "config.json").write_text("{}")
    resumed = ["resume", str(tmp_path / "run")]
    assert play([["1", "0"]] * 2)[2] == [[["demo"], resumed]] * 2


def test_restart_of_an_extension_extends(play, tmp_path):
    command = ["resume", str(tmp_path / "run"), "--meta-steps", "9"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    assert play([["1", "0"]] * 2, command)[2] == [[command] * 2] * 2


def test_output_goes_to_a_log_a_rank_and_the_first_is_echoed(play, tmp_path, capsys):
    play([["1", "0"], ["0", "0"]])
    assert "rank 0 start 0 1\nrank 0 start 1 0\n" in capsys.readouterr().err
    assert (tmp_path / "run" / "logs" / "rank_1.log").read_text() == "rank 1 start 0 0\nrank 1 start 1 0\n"


@pytest.mark.parametrize(
    "line, word",
    [
        ("launch", "names no run"),
        ("launch --processes 0 demo", "processes=0"),
        ("launch --processes two demo", "--processes"),
        ("launch --process 2 demo", "did you mean --processes"),
        ("launch --hang-seconds -1 demo", "hang_seconds=-1"),
        ("launch --max-restarts -1 demo", "max_restarts=-1"),
        ("launch --processes 2 dem", "did you mean 'demo'"),
        ("launch --processes 2 demo --meta-steps 0", "meta_steps=0"),
        ("launch --processes 2 resume", "resume"),
        ("launch --processes 2 resume no/such/run", "no/such/run"),
        ("demo --distributed here", "distributed='here'"),
        ("demo --distributed", "distributed=''"),
        ("resume x --distributed a:1,2,2", "process id below"),
    ],
)
def test_mistakes_start_nothing(line, word, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(meta_train.processes.launch, "PROGRAM", ("/bin/false",))
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and word in captured.err, captured.err
    assert list(tmp_path.iterdir()) == []


def test_watch(tmp_path):
    path = tmp_path / "heartbeat"
    heartbeat, watch = Heartbeat({HEARTBEAT: str(path)}), Watch(path, start_seconds=0.2, hang_seconds=0.1)
    assert watch.hung() == ""
    time.sleep(0.25)
    assert watch.hung() == "no meta-step in 0.2 s since its start"
    heartbeat.beat(3)
    assert watch.hung() == ""
    time.sleep(0.15)
    assert watch.hung() == "no meta-step in 0.1 s after meta-step 3"
    heartbeat.done()
    time.sleep(0.15)
    assert watch.hung() == ""


def test_heartbeat_without_a_launcher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Heartbeat({}).beat(1)
    assert list(tmp_path.iterdir()) == [] and not Heartbeat({}).orphaned
    assert not Heartbeat({LAUNCHER: str(os.getppid())}).orphaned and Heartbeat({LAUNCHER: str(os.getpid())}).orphaned


_STEPS = 60
_RUN = [PRESET, "--meta-steps", str(_STEPS), "--checkpoint-every", "5", "--run-dir"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    run(toy_config(run_dir, meta_steps=_STEPS, preset=PRESET), toy_trainer())
    return result_of(run_dir)


def _group(launcher):
    """Process ids of the ranks that the launcher names next."""
    for line in launcher.stdout:
        if found := re.match(r"launch: ranks .* are processes ([\d, ]+)", line):
            return [int(pid) for pid in found[1].split(",")]
    raise AssertionError("the launcher ended")


def _attacked(run_dir, attacks, hang_seconds="60"):
    """Runs two ranks to the end; each attack is (rows of metrics to wait for, rank, signal)."""
    flags = ["--processes", "2", "--max-restarts", str(len(attacks)), "--end-seconds", "2"]
    launcher = spawn("launch", *flags, "--hang-seconds", hang_seconds, *_RUN, str(run_dir), seconds=0.05)
    try:
        for rows, rank, number in attacks:
            pids = _group(launcher)
            wait_for_rows(run_dir, rows, launcher)
            os.kill(pids[rank], number)
        output = launcher.communicate(timeout=600)[0]
    finally:
        launcher.terminate()
        end(launcher)
    assert launcher.returncode == 0, output
    return output


@pytest.mark.slow  # endings of made-up ranks are tried every time
def test_group_survives_the_death_of_a_rank(tmp_path, whole):
    output = _attacked(tmp_path / "run", [(12, 1, signal.SIGKILL)])
    assert "rank" in output and "restart 1 of 1" in output
    assert result_of(tmp_path / "run") == whole


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_group_survives_ten_deaths(tmp_path, whole, rank):
    """Kill -9 of one rank at ten moments, R17."""
    attacks = [(rows, rank, signal.SIGKILL) for rows in range(3, 3 + 5 * 10, 5)]
    output = _attacked(tmp_path / "run", attacks)
    assert "restart 10 of 10" in output and result_of(tmp_path / "run") == whole


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_stopped_rank_is_found(tmp_path, whole, rank):
    """A rank that is alive but stands still, R18."""
    output = _attacked(tmp_path / "run", [(12, rank, signal.SIGSTOP)], hang_seconds="5")
    assert "hangs: no meta-step in 5 s" in output and result_of(tmp_path / "run") == whole


@pytest.mark.slow
def test_signal_to_the_launcher_saves(tmp_path, whole):
    flags = ["--processes", "2"]
    launcher = spawn("launch", *flags, *_RUN, str(tmp_path / "run"), seconds=0.05)
    wait_for_rows(tmp_path / "run", 8, launcher)
    launcher.send_signal(signal.SIGTERM)
    output = launcher.communicate(timeout=120)[0]
    assert launcher.returncode == 75 and "saved at meta-step" in output
    step, _, rows = result_of(tmp_path / "run")
    assert 8 <= step == len(rows) < _STEPS
    launcher = spawn("launch", *flags, "resume", str(tmp_path / "run"))
    launcher.communicate(timeout=120)
    assert launcher.returncode == 0 and result_of(tmp_path / "run") == whole


@pytest.mark.slow
def test_ranks_of_a_killed_launcher_save_and_leave(tmp_path):
    launcher = spawn("launch", "--processes", "2", *_RUN, str(tmp_path / "run"), seconds=0.05)
    pids = _group(launcher)
    wait_for_rows(tmp_path / "run", 8, launcher)
    end(launcher)
    deadline = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    step, _, rows = result_of(tmp_path / "run")
    assert 8 <= step == len(rows) < _STEPS
