"""The run folder: atomic, locked, damage found and stepped over, no metrics row lost or doubled."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.runs import run_store
from meta_train.runs.run_store import StoredCheckpoint
from meta_train.runs.state_arrays import from_arrays, to_arrays


def _checkpoint(step):
    arrays = {
        "theta/w": np.random.default_rng(step).normal(size=(3, 4)).astype(np.float32),
        "key": np.array([0, step], np.uint32),
        "empty": np.zeros((0, 2), np.float32),
        "step": np.array(step, np.int32),
    }
    return StoredCheckpoint(step, arrays, {"config": {"seed": 1}, "elapsed": 1.5})


@pytest.fixture
def run_dir(tmp_path):
    run_dir = tmp_path / "run"
    run_store.create_run(run_dir)
    run_store.write_config(run_dir, {"seed": 1})
    return run_dir


def _save(run_dir, *steps, keep=3):
    for step in steps:
        run_store.save_checkpoint(run_dir, _checkpoint(step), keep)


def _names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_round_trip(run_dir):
    _save(run_dir, 5)
    loaded, damages = run_store.newest_checkpoint(run_dir)
    expected = _checkpoint(5)
    assert loaded is not None and damages == []
    assert loaded.meta == expected.meta and loaded.step == 5
    assert loaded.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], array, strict=True)


def test_array_in_another_memory_order(run_dir):
    array = np.arange(6.0).reshape(2, 3).T
    run_store.save_checkpoint(run_dir, StoredCheckpoint(1, {"a": array}, {}), 3)
    loaded, _ = run_store.newest_checkpoint(run_dir)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.arrays["a"], array)


def test_keeps_the_newest(run_dir):
    _save(run_dir, 1, 2, 10, 20, keep=2)
    assert _names(run_dir / "checkpoints") == ["step_00000010", "step_00000020"]


def test_saving_a_step_again_replaces_it(run_dir):
    _save(run_dir, 3)
    changed = _checkpoint(3)._replace(meta={"elapsed": 9.0})
    run_store.save_checkpoint(run_dir, changed, 3)
    loaded, _ = run_store.newest_checkpoint(run_dir)
    assert loaded is not None and loaded.meta == {"elapsed": 9.0}
    assert _names(run_dir / "checkpoints") == ["step_00000003"]


@pytest.mark.parametrize("trials", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_damage_is_found_and_stepped_over(run_dir, trials):
    rng = np.random.default_rng(trials)
    _save(run_dir, 1, 2)
    newest = run_dir / "checkpoints" / "step_00000002"
    for _ in range(trials):
        file = newest / rng.choice(_names(newest))
        data = bytearray(file.read_bytes())
        kind = rng.choice(["bit", "byte", "cut", "delete", "append", "zeros"])
        position = int(rng.integers(len(data)))
        if kind == "bit":
            data[position] ^= 1 << int(rng.integers(8))
        elif kind == "byte":
            data[position] ^= 0xFF
        elif kind == "cut":
            del data[position:]
        elif kind == "append":
            data += b"\n"
        elif kind == "zeros":
            data[:] = bytes(len(data))
        if kind == "delete":
            file.unlink()
        else:
            file.write_bytes(data)
        loaded, damages = run_store.newest_checkpoint(run_dir)
        assert loaded is not None and loaded.step == 1, (kind, file)
        assert [damage.folder for damage in damages] == [newest]
        assert any(name in damages[0].reason for name in ("arrays", "meta", "MANIFEST", "version"))
        _save(run_dir, 2)


def test_swapped_checkpoint_is_found(run_dir):
    _save(run_dir, 1, 2)
    root = run_dir / "checkpoints"
    os.rename(root / "step_00000001", root / "step_00000003")
    loaded, damages = run_store.newest_checkpoint(run_dir)
    assert loaded is not None and loaded.step == 2 and "step 1" in damages[0].reason


def test_damaged_checkpoints_do_not_push_out_good_ones(run_dir):
    _save(run_dir, 1, 2, 3)
    for step in (2, 3):
        (run_dir / "checkpoints" / f"step_{step:08d}" / "MANIFEST.json").write_text("{}")
    _, damages = run_store.newest_checkpoint(run_dir)
    run_store.set_aside(damages)
    _save(run_dir, 2, keep=2)
    assert _names(run_dir / "checkpoints") == [
        "damaged-step_00000002",
        "damaged-step_00000003",
        "step_00000001",
        "step_00000002",
    ]


def test_newer_format_is_named(run_dir, monkeypatch):
    monkeypatch.setattr(run_store, "FORMAT_VERSION", 2)
    _save(run_dir, 1)
    monkeypatch.undo()
    loaded, damages = run_store.newest_checkpoint(run_dir)
    assert loaded is None and "version 2" in damages[0].reason


@pytest.mark.parametrize("call", range(12))
def test_full_disk_leaves_earlier_checkpoints(run_dir, monkeypatch, call):
    """Every fsync and rename of a save fails once."""
    _save(run_dir, 1, 2)
    calls = 0

    def failing(real):
        def function(*args):
            nonlocal calls
            calls += 1
            if calls == call + 1:
                raise OSError(28, "No space left on device")
            return real(*args)

        return function

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(os.fsync))
        patch.setattr(os, "rename", failing(os.rename))
        try:
            _save(run_dir, 3, keep=2)
        except OSError:
            pass
        else:
            assert call >= calls
    loaded, damages = run_store.newest_checkpoint(run_dir)
    assert loaded is not None and damages == [] and loaded.step >= 2
    with run_store.locked(run_dir):
        _save(run_dir, 3)
    loaded, damages = run_store.newest_checkpoint(run_dir)
    assert loaded is not None and damages == [] and loaded.step == 3
    assert all(name.startswith("step_") for name in _names(run_dir / "checkpoints"))


def test_leftovers_are_swept_under_the_lock(run_dir):
    _save(run_dir, 1)
    for name in (".tmp-step_00000002-77", ".del-step_00000000-77"):
        (run_dir / "checkpoints" / name).mkdir()
        (run_dir / "checkpoints" / name / "arrays.safetensors").write_bytes(b"x")
    (run_dir / ".tmp-metrics.jsonl-77").write_bytes(b"x")
    with run_store.locked(run_dir):
        assert _names(run_dir / "checkpoints") == ["step_00000001"]
        assert _names(run_dir) == ["LOCK", "checkpoints", "config.json"]


def test_lock_refuses_a_second_process_and_dies_with_its_holder(run_dir):
    holder = (
        "import sys, time; from pathlib import Path; from meta_train.runs.run_store import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, str(run_dir)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"in use by process {process.pid} on "):
            with run_store.locked(run_dir):
                pass
    finally:
        process.kill()
        process.communicate()
    with run_store.locked(run_dir):
        pass


def test_create_refuses_what_is_there(run_dir, tmp_path):
    with pytest.raises(ValueError, match=f"resume {run_dir}"):
        run_store.create_run(run_dir)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="not empty"):
        run_store.create_run(tmp_path / "other")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="cannot be created"):
        run_store.create_run(tmp_path / "file")
    (tmp_path / "abandoned").mkdir()
    (tmp_path / "abandoned" / "LOCK").write_text("")
    run_store.create_run(tmp_path / "abandoned")


def _write_metrics(run_dir, text):
    (run_dir / "metrics.jsonl").write_text(text)


def _row(step):
    return json.dumps({"step": step, "meta_loss": 1 / step}) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        "".join(map(_row, [1, 2, 3])),
        "".join(map(_row, [1, 2, 3, 4, 5])),
        "".join(map(_row, [1, 2, 3, 4])) + '{"step": 5, "me',
        "".join(map(_row, [1, 2, 3, 4])) + '{"step": 5}',
        "".join(map(_row, [1, 2, 3, 4, 3])) + '{"ste\n' + "\x00\n[]\n7\n",
    ],
)
def test_metrics_are_rewound(run_dir, text):
    _write_metrics(run_dir, text)
    rows = run_store.rewind_metrics(run_dir, 3)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert [row["step"] for row in run_store.read_rows(run_dir / "metrics.jsonl")] == [1, 2, 3]


def test_a_damaged_row_costs_only_itself(run_dir):
    _write_metrics(run_dir, _row(1) + "#" + _row(2) + _row(3))
    assert [row["step"] for row in run_store.rewind_metrics(run_dir, 3)] == [1, 3]


def _state():
    return {
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4, impl="rbg"), 2),
        "half": jnp.array([1.5, -0.0, jnp.nan], jnp.bfloat16),
        "nested": (
            jnp.int32(7),
            {"empty": jnp.zeros((0, 3)), "none": None, "flag": jnp.array(True)},
        ),
    }


def test_state_round_trip_is_bitwise(run_dir):
    state = _state()
    run_store.save_checkpoint(run_dir, StoredCheckpoint(1, to_arrays(state), {}), 3)
    stored, _ = run_store.newest_checkpoint(run_dir)
    assert stored is not None and "nested/1/flag" in stored.arrays
    template = jax.tree.map(lambda x: x if _is_key(x) else jnp.zeros_like(x), state)
    restored = from_arrays(stored.arrays, template)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for new, old in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert new.dtype == old.dtype and new.sharding == old.sharding
        if _is_key(old):
            new, old = jax.random.key_data(new), jax.random.key_data(old)
        assert np.asarray(new).tobytes() == np.asarray(old).tobytes()


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"half": None}, "also has 'half'"),
        ({"more": jnp.zeros(2)}, "lacks 'more'"),
        ({"half": jnp.zeros(4, jnp.bfloat16)}, "half"),
        ({"half": jnp.zeros(3, jnp.float32)}, "float32"),
        ({"key": jax.random.key(0, impl="rbg")}, "key"),
    ],
)
def test_state_of_another_run_is_refused(change, words):
    with pytest.raises(ValueError, match=words) as caught:
        from_arrays(to_arrays(_state()), {**_state(), **change})
    assert "\n" not in str(caught.value)
