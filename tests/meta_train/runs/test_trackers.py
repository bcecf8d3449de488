"""Metrics elsewhere: TensorBoard's files, Weights & Biases by a stand-in, and the figure while the run goes on."""

import importlib.util
import struct
import sys
import types

import pytest

import meta_train.runs.loop
from meta_train.__main__ import main
from meta_train.runs.run import resume, run
from meta_train.runs.trackers import TRACKERS, tracker_names
from tests.meta_train.toy_trainer import result_of, toy_config, toy_trainer


def events(folder):
    """(meta-step, name, value) of every scalar in TensorBoard's files: records of length, checksum, protocol buffer."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            at += 16 + length
    return found


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    run(toy_config(tmp_path / "run", meta_steps=12, log="tensorboard"), toy_trainer())
    found = events(tmp_path / "run" / "tensorboard")
    losses = {step: value for step, name, value in found if name == "meta_loss"}
    rows = result_of(tmp_path / "run")[2]
    assert losses == pytest.approx({row["step"]: row["meta_loss"] for row in rows}, rel=1e-6) and len(losses) == 12
    assert {"learning_rate", "gradient_norm", "snr", "elapsed"} <= {name for _, name, _ in found}
    resume(tmp_path / "run", toy_trainer(), meta_steps=14)
    steps = [step for step, name, _ in events(tmp_path / "run" / "tensorboard") if name == "meta_loss"]
    assert sorted(steps) == list(range(1, 15))


@pytest.fixture
def stand_in(monkeypatch):
    """A module `wandb` that writes down what it is told."""
    told = []
    session = types.SimpleNamespace(
        log=lambda row, step: told.append(("log", step, row["meta_loss"])), finish=lambda: told.append(("finish",))
    )
    module = types.ModuleType("wandb")
    module.init = lambda **settings: told.append(("init", settings)) or session  # pyright: ignore[reportAttributeAccessIssue]
    module.__spec__ = importlib.util.spec_from_loader("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return told


def test_wandb(tmp_path, stand_in, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run(toy_config(tmp_path / "run", meta_steps=3, log="wandb"), toy_trainer())
    (_, settings), *logged, last = stand_in
    rows = result_of(tmp_path / "run")[2]
    assert logged == [("log", row["step"], row["meta_loss"]) for row in rows] and last == ("finish",)
    assert settings["mode"] == "offline" and settings["resume"] == "allow" and settings["config"]["meta_steps"] == 3
    resume(tmp_path / "run", toy_trainer(), meta_steps=4)
    (_, again), (_, step, _), _ = stand_in[5:]
    # One run there, however often it is started here.
    assert again["id"] == settings["id"] and step == 4
    run(toy_config(tmp_path / "other", meta_steps=1, log="wandb"), toy_trainer())
    assert stand_in[8][1]["id"] != settings["id"]


def test_a_missing_extra_is_named_before_anything_starts(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    real = importlib.util.find_spec
    packages = [extra.package for extra in TRACKERS.values()]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else real(name))
    for name in TRACKERS:
        assert main(["demo", "--log", name]) == 2
        error = capsys.readouterr().err
        assert f"pip install {TRACKERS[name].package}" in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert tracker_names("") == []
    with pytest.raises(ValueError, match="log='csv': use one of tensorboard, wandb"):
        tracker_names("csv")


def test_the_figure_is_drawn_while_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(meta_train.runs.loop, "_SECONDS_BETWEEN_FIGURES", -1.0)
    figure = tmp_path / "run" / "figures" / "meta_loss.png"
    seen = {}
    run(toy_config(tmp_path / "run"), toy_trainer(), callback=lambda step, info: seen.setdefault(step, figure.exists()))
    # Checkpoints are of 7, 14, ..; rows come up to ten meta-steps late.
    assert not seen[7] and seen[30] and seen[28]
