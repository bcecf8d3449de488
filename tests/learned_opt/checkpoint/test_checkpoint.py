"""A checkpoint comes back to the last bit, or is refused with one line that names the file and the fault."""

import hashlib
import json
import pickle
import struct
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

from learned_opt.architectures.adafac_mlp_lopt import adafac_mlp_lopt
from learned_opt.architectures.lagg_a import lagg_a
from learned_opt.architectures.lopt_a import lopt_a
from learned_opt.base import LearnedOptimizer
from learned_opt.checkpoint import checkpoint_file, load_checkpoint, rebuilding, save
from learned_opt.loading import load

_LOPT = lagg_a(num_workers=3, hidden_size=4)
_KEY = jax.random.key(0)
_FUNCTION: Any = lopt_a
_RECIPE = {"name": "sgd", "learning_rate": 0.5}


@pytest.fixture(scope="module")
def theta():
    return jax.tree.map(np.asarray, _LOPT.init(jax.random.key(0)))


@pytest.fixture
def path(tmp_path, theta):
    path = tmp_path / "lagg.safetensors"
    save(path, _LOPT, theta, local_opt=_RECIPE, task="fmnist8_mlp32", num_workers=3)
    return path


def _refused(path, *words):
    """Loads, expects a one-line ValueError with the file's name and the words."""
    with pytest.raises(ValueError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message, message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    "lopt",
    [adafac_mlp_lopt(hidden_size=4), lopt_a(nominal="momentum", hidden_layers=3), lagg_a()],
    ids=["adafac", "lopt_a", "lagg_a"],
)
def test_round_trip_is_bitwise(lopt, tmp_path):
    theta = lopt.init(jax.random.key(1))
    save(tmp_path / "x.safetensors", lopt, theta, note="é\n0" * 64, seeds=[1, 2])
    loaded = load_checkpoint(tmp_path / "x.safetensors")
    assert loaded.lopt.config == lopt.config
    assert loaded.card == {"note": "é\n0" * 64, "seeds": [1, 2]}
    assert jax.tree.structure(loaded.theta) == jax.tree.structure(theta)
    for new, old in zip(jax.tree.leaves(loaded.theta), jax.tree.leaves(theta), strict=True):
        assert new.dtype == np.float32 and new.tobytes() == np.asarray(old).tobytes()


def test_load_gives_the_transform(path, theta):
    params = {"w": jnp.ones((3, 2))}
    deltas = {"w": jnp.linspace(-1, 1, 18).reshape(3, 3, 2)}
    mean = jax.tree.map(lambda x: x.mean(0), deltas)

    def update(tx):
        step = jax.jit(lambda: tx.update(mean, tx.init(params), params, worker_updates=deltas)[0])
        return step()["w"]

    expected = update(_LOPT.transform(jax.tree.map(jnp.asarray, theta)))
    np.testing.assert_array_equal(update(load(path)), expected)
    np.testing.assert_array_equal(update(load(str(path))), expected)


def test_layout_does_not_depend_on_memory_order(tmp_path, theta):
    transposed = {**theta, "mlp": {k: np.asfortranarray(v) for k, v in theta["mlp"].items()}}
    save(tmp_path / "t.safetensors", _LOPT, transposed)
    np.testing.assert_array_equal(load_checkpoint(tmp_path / "t.safetensors").theta["mlp"]["w0"], theta["mlp"]["w0"])


def test_every_byte_is_protected(path):
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    header_end = 8 + struct.unpack("<Q", data[:8])[0]
    positions = [0, 7, 8, header_end - 1, header_end, len(data) - 1]
    positions += list(rng.integers(0, header_end, 25)) + list(rng.integers(0, len(data), 50))
    for position in positions:
        flipped = bytearray(data)
        flipped[position] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        _refused(path)


@pytest.mark.parametrize("keep", [0, 5, 8, 500, -1])
def test_truncated(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    _refused(path)


def test_trailing_bytes(path):
    path.write_bytes(path.read_bytes() + b"\0")
    _refused(path)


def test_giant_header(path):
    path.write_bytes(struct.pack("<Q", 2**62) + path.read_bytes()[8:])
    _refused(path)


def test_too_large(path, monkeypatch):
    monkeypatch.setattr(checkpoint_file, "_MAX_BYTES", 1000)
    _refused(path, "1000 bytes")


def test_pickle_does_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "bomb.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    _refused(path)
    assert not (tmp_path / "ran").exists()


def _forge(path, theta, config=_LOPT.config, **changes):
    """A file whose digest is right but whose content is not what `save` writes."""
    flat = {k: v for k, v in theta.items() if k != "mlp"}
    flat |= {f"mlp/{k}": v for k, v in theta["mlp"].items()}
    tensors = {**flat, **changes}
    tensors = {k: v for k, v in tensors.items() if v is not None}
    path.write_bytes(checkpoint_file.encode(tensors, config, None, {}))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"mlp/w0": None}, ["lacks", "mlp/w0"]),
        ({"mlp/w9": np.zeros(3, np.float32)}, ["unknown", "mlp/w9"]),
        ({"../../etc/x": np.zeros(3, np.float32)}, ["unknown"]),
        ({"mlp/b0": np.zeros(5, np.float32)}, ["mlp/b0", "(5,)", "(4,)"]),
        ({"mlp/b0": np.zeros(4, np.float64)}, ["mlp/b0", "float64", "float32"]),
        ({"mlp/b0": np.full(4, np.nan, np.float32)}, ["mlp/b0", "NaN"]),
        ({"mlp/b0": np.full(4, np.inf, np.float32)}, ["mlp/b0", "infinity"]),
    ],
)
def test_wrong_tensors(path, theta, changes, words):
    _forge(path, theta, **changes)
    _refused(path, *words)


@pytest.mark.parametrize(
    "config, words",
    [
        ({**_LOPT.config, "num_workers": 4}, ["mlp/w0", "42"]),
        ({**_LOPT.config, "architecture": "lopt_a"}, ["num_workers"]),
        ({**_LOPT.config, "architecture": "lag_a"}, ["lag_a", "lagg_a"]),
        ({"hidden_size": 4}, ["architecture"]),
        ({**_LOPT.config, "hidden_size": 0}, ["hidden_size"]),
        ({**_LOPT.config, "hidden_size": "4"}, ["hidden_size"]),
        ({**_LOPT.config, "hidden_size": 10**12}, ["hidden_size"]),
        ({**_LOPT.config, "hidden_layers": 10**9}, ["hidden_layers"]),
        ({**_LOPT.config, "hidden_layers": [[]]}, ["hidden_layers"]),
        ({**_LOPT.config, "nominal": "sum"}, ["sum"]),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_wrong_architecture(path, theta, config, words):
    _forge(path, theta, config)
    _refused(path, *words)


def test_newer_version(path, theta, monkeypatch):
    monkeypatch.setattr(checkpoint_file, "FORMAT_VERSION", 3)
    _forge(path, theta)
    monkeypatch.undo()
    _refused(path, "version 3", "upgrade")


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"learned_opt": "no json"},
        {"learned_opt": "[" * 100_000},
        {"learned_opt": "[1]"},
        {"learned_opt": json.dumps({"format_version": 1, "config": [], "card": {}, "sha256": "x"})},
        {"learned_opt": json.dumps({"format_version": 2, "config": {}, "local_opt": 1, "card": {}, "sha256": "x"})},
        {"learned_opt": json.dumps({"format_version": 1, "config": {}, "card": {}, "sha256": "\ud800"})},
    ],
)
def test_foreign_header(path, metadata):
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(2, np.float32)}, metadata))
    _refused(path)


@pytest.mark.parametrize("name", ["missing.safetensors", "no_such_optimizer", "folder/x"])
def test_missing_names_the_pretrained(name):
    with pytest.raises(FileNotFoundError, match="pretrained") as caught:
        load(name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_pretrained_names_resolve(tmp_path, monkeypatch, path):
    from learned_opt import pretrained

    monkeypatch.setattr(pretrained, "files", lambda _: path.parent)
    assert pretrained.pretrained_names() == ["lagg"]
    assert load_checkpoint("lagg").lopt.config == _LOPT.config
    with pytest.raises(FileNotFoundError, match="did you mean 'lagg'"):
        load("lag")


def test_shipped_checkpoints_load_with_their_recipe():
    from learned_opt.pretrained import pretrained_names

    for name in pretrained_names():
        loaded = load_checkpoint(name)
        assert loaded.card and (loaded.local_opt is None) == (loaded.lopt.reads == "gradient")
    assert load_checkpoint("lopt_generalist").local_opt == {"name": "adam_b1_0", "learning_rate": 0.01}


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("adafac_generalist", "ea1ed2c20ba15e77"),
        ("lagg_fmnist8_k8_h4", "2a2f954d6569bc3c"),
        ("lopt_generalist", "d79fe3e812f5229c"),
    ],
)
def test_shipped_meta_parameters_are_those_that_were_published(name, digest):
    """Recorded from the files of format 1."""
    theta = rebuilding.named_leaves(load_checkpoint(name).theta)
    assert hashlib.sha256(b"".join(theta[key].tobytes() for key in sorted(theta))).hexdigest()[:16] == digest


def _learned_sgd(rate=0.1, sizes=(2,)):
    def init(key):
        del key
        return {"log_rate": jnp.zeros(sizes, jnp.float32)}

    return LearnedOptimizer(
        init,
        lambda theta, num_steps=None: optax.with_extra_args_support(optax.set_to_zero()),
        {"architecture": "learned_sgd", "rate": rate},
    )


def test_an_architecture_of_ones_own(tmp_path):
    lopt = _learned_sgd(0.25)
    theta, path = lopt.init(jax.random.key(0)), tmp_path / "own.safetensors"
    mine = {"learned_sgd": _learned_sgd}
    with pytest.raises(ValueError, match=r"nothing could load this file: pass save\(..., architectures={'learned_sgd'"):
        save(path, lopt, theta)
    assert not path.exists()
    save(path, lopt, theta, architectures=mine)
    assert load_checkpoint(path, mine).lopt.config == lopt.config
    with pytest.raises(ValueError, match=r"architecture='learned_sgd'.*architectures={'learned_sgd': FUNCTION}"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match="num_steps=-1: use at least 1"):
        load(path, num_steps=-1, architectures=mine)


@pytest.mark.parametrize(
    ("architectures", "message"),
    [
        (_learned_sgd, "architectures=.*: use a dict of functions by name"),
        ({"learned_sgd": _learned_sgd()}, r"architectures\['learned_sgd'\]=.*: use the function, not what it returns"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_architectures_are_functions_by_name(architectures, message, tmp_path):
    lopt, path = _learned_sgd(), tmp_path / "own.safetensors"
    save(path, lopt, lopt.init(_KEY), architectures={"learned_sgd": _learned_sgd})
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path, architectures)


def _no_optimizer(rate) -> Any:
    return int(rate)


def test_a_function_that_returns_no_optimizer_is_named(tmp_path):
    lopt, path = _learned_sgd(), tmp_path / "own.safetensors"
    save(path, lopt, lopt.init(_KEY), architectures={"learned_sgd": _learned_sgd})
    with pytest.raises(ValueError, match=r"architectures\['learned_sgd'\] returned int: return a LearnedOptimizer"):
        load_checkpoint(path, {"learned_sgd": _no_optimizer})


@pytest.mark.usefixtures("unchecked_annotations")
def test_save_names_a_place_and_a_thing_that_it_cannot_write(tmp_path):
    theta = _LOPT.init(_KEY)
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere: create it first"):
        save(tmp_path / "nowhere" / "x.safetensors", _LOPT, theta)
    with pytest.raises(IsADirectoryError, match="is a folder: name a file in it"):
        save(tmp_path, _LOPT, theta)
    with pytest.raises(ValueError, match="lopt=<function lopt_a.*: use the LearnedOptimizer that it returns"):
        save(tmp_path / "x", _FUNCTION, theta)
    lopt = _learned_sgd()
    with pytest.raises(ValueError, match="use a dict of functions by name; nothing could load this file"):
        save(tmp_path / "x", lopt, lopt.init(_KEY), architectures=_FUNCTION)


def test_a_config_that_rebuilds_something_else_is_not_saved(tmp_path):
    forgetful = _learned_sgd(0.25)._replace(config={"architecture": "learned_sgd"})
    with pytest.raises(ValueError, match="must hold every argument of the function"):
        save(tmp_path / "x", forgetful, forgetful.init(jax.random.key(0)), architectures={"learned_sgd": _learned_sgd})
    other_theta = _learned_sgd(sizes=(3,))
    with pytest.raises(ValueError, match=r"log_rate has shape \(3,\).*nothing could load this file"):
        save(tmp_path / "x", other_theta, other_theta.init(_KEY), architectures={"learned_sgd": _learned_sgd})
    not_json = _learned_sgd(rate=jnp.float32(1))
    with pytest.raises(ValueError, match="config entry rate=.* is not JSON"):
        save(tmp_path / "x", not_json, not_json.init(_KEY), architectures={"learned_sgd": _learned_sgd})


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_save_refuses_theta_that_is_not_finite(path, theta, value):
    before = path.read_bytes()
    with pytest.raises(ValueError, match="mlp/b0"):
        save(path, _LOPT, {**theta, "mlp": {**theta["mlp"], "b0": np.full(4, value, "f4")}})
    assert path.read_bytes() == before


def test_save_refuses_theta_of_another_architecture(path, theta):
    with pytest.raises(ValueError, match="mlp/w0"):
        save(path, lopt_a(hidden_size=4), theta)


def test_save_refuses_a_card_that_is_not_json(path, theta):
    with pytest.raises(ValueError, match="card entry rate"):
        save(path, _LOPT, theta, rate=jnp.float32(1))
    with pytest.raises(ValueError, match="card entry rate"):
        save(path, _LOPT, theta, rate=float("nan"))


def test_failed_write_leaves_the_old_file(path, theta, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError):
        save(path, _LOPT, theta)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.usefixtures("unchecked_annotations")
def test_what_is_no_name_and_no_path_is_said():
    with pytest.raises(ValueError, match="^None: use the name of a pretrained optimizer, or a path$"):
        load(None)  # pyright: ignore[reportArgumentType]
