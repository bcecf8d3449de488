"""The real trainer gives the same bits on any number of devices and processes, and after a resume on another layout."""

import dataclasses
import sys
from pathlib import Path

import pytest

from meta_train.config import MetaTrainConfig, to_json
from meta_train.processes.distributed import digest
from meta_train.runs import run_store
from meta_train.runs.run_store import newest_checkpoint
from tests.meta_train.device_hash import TINY
from tests.meta_train.spawned import end, rows_of, spawn_group, wait_for_rows
from tests.meta_train.toy_trainer import result_of

pytestmark = pytest.mark.optimized

FAMILIES = ("fmnist8_mlp32", "fmnist8_cnn", "markov_transformer")
LAYOUTS = ((1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (2, 2), (2, 4), (4, 2))
"""(processes, devices of each)"""
_PROGRAM = (sys.executable, "-m", "meta_train")
# With local SGD: what holds for other local optimizers is said in `meta_train.estimators.particle_mesh`.
_RUN = dataclasses.replace(TINY, local_optimizer="sgd,learning_rate=0.1", meta_steps=6, checkpoint_every=2)


def _folder(run_dir: Path, **changes) -> MetaTrainConfig:
    """A run that has not begun."""
    config = dataclasses.replace(_RUN, run_dir=str(run_dir), **changes)
    run_store.create_run(run_dir)
    run_store.write_config(run_dir, to_json(config))
    return config


def _run(run_dir: Path, processes: int, devices: int) -> None:
    ranks = spawn_group("resume", str(run_dir), processes=processes, devices=devices, program=_PROGRAM)
    try:
        outputs = [rank.communicate(timeout=3000)[0] for rank in ranks]
    finally:
        end(*ranks)
    assert [rank.returncode for rank in ranks] == [0] * processes, outputs


def _hash(run_dir: Path) -> str:
    checkpoint, damages = newest_checkpoint(run_dir)
    assert checkpoint is not None and not damages and checkpoint.step == _RUN.meta_steps
    return digest(checkpoint.arrays)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_one_hash_in_every_layout(tmp_path, family):
    """R7."""
    hashes = {}
    for layout in LAYOUTS:
        run_dir = tmp_path / "x".join(map(str, layout))
        _folder(run_dir, task=family)
        _run(run_dir, *layout)
        hashes[layout] = _hash(run_dir)
        print(f"{family}: {layout[0]} processes x {layout[1]} devices: {hashes[layout]}", flush=True)
    assert len(set(hashes.values())) == 1, hashes
    metrics = [result_of(tmp_path / "x".join(map(str, layout)))[2] for layout in LAYOUTS]
    assert all(rows == metrics[0] for rows in metrics)


@pytest.mark.slow
def test_resumed_on_another_layout(tmp_path):
    """R8: begun on 8 devices, killed, continued on one, killed, and ended on two processes."""
    _folder(tmp_path / "whole", meta_steps=30)
    _run(tmp_path / "whole", 1, 2)
    run_dir = tmp_path / "run"
    _folder(run_dir, meta_steps=30)
    for devices in (8, 1):
        (process,) = spawn_group("resume", str(run_dir), processes=1, devices=devices, program=_PROGRAM)
        wait_for_rows(run_dir, rows_of(run_dir) + 5, process, timeout=3000)
        end(process)
    assert rows_of(run_dir) < 30
    _run(run_dir, 2, 2)
    assert result_of(run_dir) == result_of(tmp_path / "whole")
    starts = run_store.read_rows(run_dir / "provenance.jsonl")
    assert [row["num_devices"] for row in starts] == [8, 1, 4]
