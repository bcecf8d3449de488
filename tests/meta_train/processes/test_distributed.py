"""A group of processes is one run: the same bits in every layout, one error for all, one writer."""

import os
import signal
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.processes.distributed import (
    any_process,
    check_equal,
    digest,
    on_all_processes,
    on_process_zero,
    parse_setting,
    place,
    to_host,
)
from meta_train.runs.run import resume, run
from tests.meta_train.spawned import PRESET, end, spawn, spawn_group, wait_for_rows
from tests.meta_train.toy_trainer import result_of, toy_config, toy_trainer

pytestmark = pytest.mark.optimized

_STEPS = 30
_START = [PRESET, "--meta-steps", str(_STEPS), "--checkpoint-every", "7", "--run-dir"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    config = toy_config(run_dir, meta_steps=_STEPS, preset=PRESET)
    assert run(config, toy_trainer()).status == "finished"
    return result_of(run_dir)


def test_settings():
    assert parse_setting("auto") == "auto" and parse_setting("none") == "none"
    assert parse_setting("node-1.cluster:2911,4,3") == ("node-1.cluster:2911", 4, 3)
    assert parse_setting("[::1]:80,1,0") == ("[::1]:80", 1, 0)


@pytest.mark.parametrize(
    "setting, word",
    [
        ("", "auto, none, or"),
        ("slurm", "'slurm'"),
        ("node1,2,0", "'node1,2,0'"),
        (":2911,2,0", "':2911,2,0'"),
        ("node1:2911", "COORDINATOR:PORT"),
        ("node1:2911,2", "COORDINATOR:PORT"),
        ("node1:2911,2,-1", "COORDINATOR:PORT"),
        ("node1:2911,two,0", "COORDINATOR:PORT"),
        ("node1:0,2,0", "port from 1"),
        ("node1:70000,2,0", "port from 1"),
        ("node1:2911,2,2", "process id below the number of processes"),
        ("node1:2911,0,0", "process id below"),
    ],
)
def test_wrong_settings(setting, word):
    with pytest.raises(ValueError, match="^distributed=") as caught:
        parse_setting(setting)
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_auto_without_a_cluster():
    done = subprocess.run(
        [sys.executable, "-m", "meta_train", PRESET, "--distributed", "auto"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("meta_train: error: distributed='auto': no SLURM") and done.stderr.count("\n") == 1


def test_one_process_is_a_group_of_its_own():
    assert any_process(True) and not any_process(False)
    assert on_process_zero(lambda: {"a": 1}) == {"a": 1} and on_all_processes(lambda: 3) == 3
    check_equal("anything", "x")
    with pytest.raises(OSError, match="full"):
        on_all_processes(lambda: (_ for _ in ()).throw(OSError("full")))


def test_digest_sees_every_bit():
    arrays = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.int32)}
    same = {"b": arrays["b"].copy(), "a": np.asfortranarray(arrays["a"])}
    assert digest(arrays, {"x": 1, "y": 2}) == digest(same, {"y": 2, "x": 1})
    others = [
        {**arrays, "a": np.where(np.arange(6).reshape(2, 3) == 5, -0.0, 0.0).astype(np.float32)},
        {**arrays, "a": arrays["a"].T},
        {**arrays, "b": arrays["b"].astype(np.uint32)},
        {"a": arrays["a"], "c": arrays["b"]},
        {"a": arrays["a"]},
    ]
    assert len({digest(other) for other in [arrays, *others]}) == 6
    assert digest(arrays, 1) != digest(arrays, 2)


def test_place_and_back():
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    tree = {"x": np.arange(16.0, dtype=np.float32), "key": jax.random.split(jax.random.key(1), 8)}
    placed = place(tree, jax.NamedSharding(mesh, jax.P("d")))
    assert len(placed["x"].addressable_shards) == 8 == len(placed["key"].sharding.device_set)
    np.testing.assert_array_equal(to_host(placed["x"]), tree["x"])
    assert jnp.array_equal(jax.random.key_data(placed["key"]), jax.random.key_data(tree["key"]))


def test_signal_to_one_rank_saves_all_and_another_layout_resumes(tmp_path, whole):
    """Two processes, one of them told to stop; then this process with its eight devices."""
    run_dir = tmp_path / "run"
    ranks = spawn_group(*_START, str(run_dir), seconds=0.05, devices=1)
    try:
        wait_for_rows(run_dir, 5, *ranks)
        ranks[1].send_signal(signal.SIGTERM)
        outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    finally:
        end(*ranks)
    assert [rank.returncode for rank in ranks] == [75, 75], outputs
    step, _, rows = result_of(run_dir)
    assert 5 <= step == len(rows) < _STEPS
    assert f"saved at meta-step {step}" in outputs[0] and "saved" not in outputs[1]
    logs = [(run_dir / "logs" / f"rank_{rank}.log").read_text() for rank in range(2)]
    assert all(f"saved at meta-step {step}" in log for log in logs)
    assert (run_dir / "provenance.jsonl").read_text().count('"num_processes": 2') == 1
    assert resume(run_dir, toy_trainer()).status == "finished"
    assert result_of(run_dir) == whole


@pytest.mark.slow
@pytest.mark.parametrize("processes, devices", [(1, 1), (1, 2), (1, 16), (2, 1), (2, 4), (4, 1), (4, 4)])
def test_every_layout_gives_the_same_bits(tmp_path, whole, processes, devices):
    run_dir = tmp_path / "run"
    ranks = spawn_group(*_START, str(run_dir), processes=processes, devices=devices)
    try:
        outputs = [rank.communicate(timeout=600)[0] for rank in ranks]
    finally:
        end(*ranks)
    assert [rank.returncode for rank in ranks] == [0] * processes, outputs
    assert result_of(run_dir) == whole


@pytest.mark.slow
def test_an_error_of_the_first_rank_is_one_of_all(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    ranks = spawn_group(*_START, str(tmp_path))
    outputs = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2]
    assert all("is not empty; choose another --run-dir" in output for output in outputs)


@pytest.mark.slow
def test_ranks_with_other_settings_are_refused(tmp_path):
    ranks = spawn_group(*_START, str(tmp_path / "run"), last=("--seed", "1"))
    outputs = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2], outputs
    assert all("settings: process 1 has other bytes than process 0" in output for output in outputs)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_slurm_is_recognised(tmp_path, whole):
    """The environment that srun gives to two tasks on one node."""
    run_dir = tmp_path / "run"
    slurm: dict[str, Any] = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    ranks = [
        spawn(
            *(*_START, str(run_dir), "--distributed", "auto"),
            devices=1,
            **slurm,
            SLURM_PROCID=str(rank),
            SLURM_LOCALID=str(rank),
            SLURM_STEP_NUM_NODES="1",
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=600)[0] for rank in ranks]
    finally:
        end(*ranks)
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    assert result_of(run_dir) == whole
    assert (run_dir / "provenance.jsonl").read_text().count('"num_processes": 2') == 1
