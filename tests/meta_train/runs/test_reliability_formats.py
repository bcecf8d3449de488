"""Checkpoints of every released format load, and run folders that are made to harm are refused (R9, R14)."""

import hashlib
import json
import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from learned_opt.checkpoint import load_checkpoint
from meta_train.runs import run_store
from meta_train.runs.run_store import StoredCheckpoint

pytestmark = pytest.mark.optimized

_DATA = Path(__file__).parents[2] / "data"


def test_run_checkpoint_of_format_1():
    """Written by the first version; its numbers are these."""
    checkpoint, damages = run_store.newest_checkpoint(_DATA / "run_format_1")
    assert checkpoint is not None and damages == [] and checkpoint.step == 42
    assert checkpoint.meta == {"config": {"seed": 7, "sigma": 0.03}, "elapsed": 12.5}
    expected = {
        "step": np.array(42, np.int32),
        "key": np.array([1, 2**32 - 1], np.uint32),
        "theta/mlp/w0": (np.arange(12, dtype=np.float32) / 8).reshape(3, 4),
        "momentum": np.array([0x3F80, 0x8000, 0x7FC0], np.uint16),
        "flags": np.array([True, False]),
        "none": np.zeros((0, 2), np.float32),
    }
    assert checkpoint.arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(checkpoint.arrays[name], array, strict=True)


def test_exported_optimizer_of_format_1():
    checkpoint = load_checkpoint(_DATA / "optimizer_format_1.safetensors")
    config = checkpoint.lopt.config
    assert config["architecture"] == "lagg_a" and config["num_workers"] == 2 and config["nominal"] == "momentum"
    assert checkpoint.card == {"task": "fmnist8_mlp32", "num_workers": 2}
    for leaf in (checkpoint.theta["mlp"]["w0"], checkpoint.theta["mlp"]["b2"], checkpoint.theta["rms_decays"]):
        np.testing.assert_array_equal(leaf.ravel(), np.arange(leaf.size, dtype=np.float32) / 1024)


def _sign(folder: Path) -> None:
    """A manifest that is right about what the folder holds."""
    files = {name: (folder / name).read_bytes() for name in ("arrays.safetensors", "meta.json")}
    claims = {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
    (folder / "MANIFEST.json").write_bytes(run_store._manifest(claims))


def _link(folder, name, target):
    (folder / name).unlink()
    (folder / name).symlink_to(target)


def _moved(folder):
    os.rename(folder / "arrays.safetensors", folder.parent.parent / "elsewhere")
    (folder / "arrays.safetensors").symlink_to(folder.parent.parent / "elsewhere")


def _pipe(folder):
    (folder / "arrays.safetensors").unlink()
    os.mkfifo(folder / "arrays.safetensors")


def _holes(folder, name, signed):
    size = 10 * 2**30
    with open(folder / name, "wb") as file:
        file.truncate(size)
    if signed:
        content = json.loads((folder / "MANIFEST.json").read_bytes())
        content["files"][name]["bytes"] = size
        (folder / "MANIFEST.json").write_bytes(run_store._json_bytes(content))


def _content(folder, name, data):
    (folder / name).write_bytes(data)
    _sign(folder)


def _manifest(folder, change):
    content = json.loads((folder / "MANIFEST.json").read_bytes())
    change(content)
    (folder / "MANIFEST.json").write_bytes(run_store._json_bytes(content))


def _header(size: int, text: bytes) -> bytes:
    return size.to_bytes(8, "little") + text


_DEEP = b"[" * 100_000 + b"]" * 100_000
_LIES = b'{"a":{"dtype":"F32","shape":[50000,50000],"data_offsets":[0,10000000000]}}'
_HARM = {
    "arrays are a link": lambda f: _link(f, "arrays.safetensors", f.parent.parent / "secret"),
    "arrays are a link to what they were": _moved,
    "arrays are endless": lambda f: _link(f, "arrays.safetensors", "/dev/zero"),
    "arrays are a pipe": _pipe,
    "meta is endless": lambda f: _link(f, "meta.json", "/dev/zero"),
    "manifest is endless": lambda f: _link(f, "MANIFEST.json", "/dev/zero"),
    "10 GB of holes": lambda f: _holes(f, "arrays.safetensors", signed=False),
    "10 GB manifest": lambda f: _holes(f, "MANIFEST.json", signed=False),
    "10 GB claimed": lambda f: _manifest(f, lambda c: c["files"]["arrays.safetensors"].update(bytes=10**10)),
    "endless number claimed": lambda f: (f / "MANIFEST.json").write_text('{"format_version": 1' + "0" * 10**6),
    "path in the manifest": lambda f: _manifest(f, lambda c: c["files"].update({"../../secret": {"bytes": 1}})),
    "deep manifest": lambda f: (f / "MANIFEST.json").write_bytes(_DEEP),
    "manifest is a list": lambda f: (f / "MANIFEST.json").write_bytes(b"[]"),
    "signed pickle": lambda f: _content(f, "arrays.safetensors", pickle.dumps([1, 2])),
    "signed giant header": lambda f: _content(f, "arrays.safetensors", _header(2**62, b"{}")),
    "signed lying offsets": lambda f: _content(f, "arrays.safetensors", _header(len(_LIES), _LIES)),
    "signed empty arrays": lambda f: _content(f, "arrays.safetensors", b""),
    "signed deep metadata": lambda f: _content(f, "meta.json", _DEEP),
    "signed metadata that is a list": lambda f: _content(f, "meta.json", b"[]"),
    "signed metadata without a step": lambda f: _content(f, "meta.json", b"{}"),
    "signed step of another folder": lambda f: _content(f, "meta.json", b'{"step": 7}'),
    "signed step that is text": lambda f: _content(f, "meta.json", b'{"step": "two"}'),
}


@pytest.mark.parametrize("harm", _HARM.values(), ids=_HARM.keys())
def test_hostile_run_is_refused(tmp_path, harm):
    run_dir = tmp_path / "run"
    run_store.create_run(run_dir)
    (run_dir / "secret").write_bytes(safetensors.numpy.save({"a": np.zeros(3, np.float32)}))
    for step in (1, 2):
        run_store.save_checkpoint(run_dir, StoredCheckpoint(step, {"a": np.full(3, step, np.float32)}, {}), 3)
    newest = run_dir / "checkpoints" / "step_00000002"
    harm(newest)
    before = sorted(path for path in tmp_path.rglob("*"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    checkpoint, damages = run_store.newest_checkpoint(run_dir)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100e3
    assert checkpoint is not None and checkpoint.step == 1
    assert [damage.folder for damage in damages] == [newest]
    assert "\n" not in damages[0].reason and len(damages[0].reason) < 1000
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_metadata_too_large_to_parse_are_not_even_hashed(tmp_path):
    run_store.create_run(tmp_path)
    folder = run_store.save_checkpoint(tmp_path, StoredCheckpoint(1, {"a": np.zeros(3, np.float32)}, {}), 3)
    _holes(folder, "meta.json", signed=True)
    with pytest.raises(ValueError, match="meta.json has 10737418240 bytes, more than"):
        run_store.read_checkpoint(folder)


def test_a_linked_checkpoint_folder_is_no_checkpoint(tmp_path):
    """Nothing outside the run folder is read as a checkpoint, or deleted as an old one."""
    run_dir, outside = tmp_path / "run", tmp_path / "outside"
    for folder in (run_dir, outside):
        run_store.create_run(folder)
        run_store.save_checkpoint(folder, StoredCheckpoint(1, {"a": np.zeros(3, np.float32)}, {}), 3)
    (run_dir / "checkpoints" / "step_00000009").symlink_to(outside / "checkpoints" / "step_00000001")
    (run_dir / "checkpoints" / ".del-step").symlink_to(outside / "checkpoints")
    checkpoint, damages = run_store.newest_checkpoint(run_dir)
    assert checkpoint is not None and checkpoint.step == 1 and damages == []
    with run_store.locked(run_dir):
        run_store.save_checkpoint(run_dir, StoredCheckpoint(2, {"a": np.zeros(3, np.float32)}, {}), 1)
    assert run_store.read_checkpoint(outside / "checkpoints" / "step_00000001").step == 1
