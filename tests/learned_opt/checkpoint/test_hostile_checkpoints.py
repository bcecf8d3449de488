"""Files that are made to harm are refused: no code runs, no memory is taken, nothing is written, one line says why.

The forger knows the format, so wherever a file gets that far its SHA-256 is right.
"""

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
import safetensors.numpy

from learned_opt.architectures.lagg_a import lagg_a
from learned_opt.base import LearnedOptimizer
from learned_opt.checkpoint import load_checkpoint, save
from learned_opt.checkpoint.rebuilding import rebuild

_LOPT = lagg_a(num_workers=2, hidden_size=4)
_CANARY = "canary"


class _Runs:
    def __reduce__(self):
        return (os.mkdir, (_CANARY,))


def _genuine(folder: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Tensors and our header of a good file."""
    recipe = {"name": "sgd", "learning_rate": 0.1}
    save(folder / "good", _LOPT, _LOPT.init(jax.random.key(0)), local_opt=recipe, task="fmnist8_mlp32")
    data = (folder / "good").read_bytes()
    (folder / "good").unlink()
    text = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["learned_opt"]
    tensors = safetensors.numpy.load(data)
    return {"mlp/w0": tensors.pop("mlp/w0"), **tensors}, json.loads(text)


def _packed(header: bytes, body: bytes) -> bytes:
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + body


def _signed(data: bytes) -> bytes:
    """With the digest that the format asks for, in place of 64 zeros."""
    start = data.rindex(b"0" * 64)
    return data[:start] + hashlib.sha256(data).hexdigest().encode() + data[start + 64 :]


def _forged(tensors: dict, header: dict, edit: Callable[[str], str] = str) -> bytes:
    """A well-formed file with any tensors and header of ours; `edit` changes the header's text."""
    text = edit(json.dumps(header | {"sha256": "0" * 64}))
    return _signed(safetensors.numpy.save(tensors, {"learned_opt": text}))


def _by_hand(tensors: dict, header: dict, edit: Callable[[str], str]) -> bytes:
    """The same, written without the safetensors library, so that its own header can be anything."""
    entries: dict[str, dict] = {"__metadata__": {"learned_opt": json.dumps(header | {"sha256": "0" * 64})}}
    body = b""
    for name, array in tensors.items():
        entries[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + array.nbytes],
        }
        body += array.tobytes()
    return _signed(_packed(edit(json.dumps(entries)).encode(), body))


def _zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"../../{_CANARY}", b"x" * 100)
    return buffer.getvalue()


def hostile_files(folder: Path) -> dict[str, bytes]:
    """Contents by what is wrong with them."""
    tensors, header = _genuine(folder)
    config = header["config"]
    w0 = tensors["mlp/w0"]

    def configured(**changes):
        return _forged(tensors, header | {"config": config | changes})

    def recipe(**changes):
        return _forged(tensors, header | {"local_opt": header["local_opt"] | changes})

    def lying(old, new):
        def edit(text):
            assert old in text
            return text.replace(old, new, 1)

        return _by_hand(tensors, header, edit)

    def edited(old, new):
        return _forged(tensors, header, lambda text: text.replace(old, new, 1))

    shape = f'"shape": {list(w0.shape)}'
    return {
        "empty": b"",
        "header of 2^64 bytes": b"\xff" * 8 + b"{}",
        "header of 10 GB": (10 * 2**30).to_bytes(8, "little") + b'{"a": 1}',
        "offsets beyond the end": lying(f", {w0.nbytes}]", ", 10000000000]"),
        "negative offset": lying('"data_offsets": [0', '"data_offsets": [-8'),
        "overlapping tensors": _by_hand(tensors, header, _overlapping),
        "shape of 10 GB": lying(shape, '"shape": [50000, 50000]'),
        "shape that overflows": lying(shape, '"shape": [4294967296, 4294967296, 16]'),
        "unknown dtype": lying('"F32"', '"OBJECT"'),
        "tensor twice": lying('"mlp/w0"', '"mlp/w0": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, "mlp/w0"'),
        "trailing bytes": _forged(tensors, header) + b"x" * 100,
        "cut": _forged(tensors, header)[:-10],
        "pickle": pickle.dumps(_Runs()),
        "pickle as a tensor": _packed(b'{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}', pickle.dumps([])[:9]),
        "npz of objects": _npz(),
        "zip that climbs out": _zipped(),
        "deep JSON": _packed(b"[" * 100_000 + b"]" * 100_000, b""),
        "deep JSON in our header": _forged(tensors, header, lambda text: "[" * 100_000 + text + "]" * 100_000),
        "deep card": edited('"card": {', '"card": {"a": ' + "[" * 99_999),
        "our field twice": edited('"config":', '"config": {"architecture": "x"}, "config":'),
        "NaN": _forged(tensors | {"mlp/w0": np.full_like(w0, np.nan)}, header),
        "infinity": _forged(tensors | {"mlp/b0": np.full_like(tensors["mlp/b0"], np.inf)}, header),
        "other architecture": configured(architecture="lopt_a"),
        "architecture is code": configured(architecture="__import__('os').mkdir('canary')"),
        "architecture is a path": configured(architecture="../../../etc/passwd"),
        "a billion units": configured(hidden_size=10**9),
        "a billion layers": configured(hidden_layers=10**9),
        "a billion workers": configured(num_workers=10**9),
        "a billion billion units": configured(hidden_size=10**18),
        "a hundred thousand layers": configured(hidden_layers=10**5),
        "layers without tensors": configured(hidden_layers=len(tensors)),
        "layers are many lists": configured(hidden_layers=[[4] * 1000] * 100),
        "a long list": configured(hidden_size=[4] * 10**5),
        "five thousand tensors": _forged({f"t{i}": np.zeros(1, np.float32) for i in range(5000)}, header),
        "recipe is code": recipe(name="os:system"),
        "recipe of another library": recipe(name="optax.sgd"),
        "recipe with a path": recipe(name="../../mine.py:make"),
        "recipe is text": _forged(tensors, header | {"local_opt": "sgd"}),
        "recipe with an endless name": recipe(name="a" * 10**5),
        "recipe with an endless number": edited('"learning_rate": 0.1', '"learning_rate": 1' + "0" * 4000),
        "recipe with an infinite rate": edited('"learning_rate": 0.1', '"learning_rate": 1e999'),
        "recipe with a deep argument": recipe(momentum=[[[[]]]]),
        "recipe with another argument": recipe(accumulator_dtype="float16"),
        "units are text": configured(hidden_size="4" * 10_000),
        "units are infinite": edited('"hidden_size": 4', '"hidden_size": 1e999'),
        "unknown field": configured(on_load="rm -rf"),
        "tensor with a path": _forged(tensors | {f"../{_CANARY}": np.zeros(1, np.float32)}, header),
        "float64": _forged(tensors | {"mlp/w0": w0.astype(np.float64)}, header),
        "no header of ours": safetensors.numpy.save(tensors),
        "another digest": _forged(tensors, header).replace(b"mlp/w0", b"mlp/w9"),
    }


def _overlapping(text: str) -> str:
    entries = json.loads(text)
    first = entries["mlp/w0"]
    same = next(n for n, e in entries.items() if n not in ("__metadata__", "mlp/w0") and e["shape"] != first["shape"])
    entries[same] = {**entries[same], "shape": first["shape"], "data_offsets": first["data_offsets"]}
    return json.dumps(entries)


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([_Runs()], dtype=object))
    return buffer.getvalue()


_CHILD = """
import json, resource, sys
from pathlib import Path
import jax
from learned_opt.checkpoint import load_checkpoint
load_checkpoint("good.safetensors")
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
results = {}
for path in sorted(Path(".").glob("hostile*")):
    before = peak()
    try:
        load_checkpoint(path)
        results[path.name] = ["accepted", "", 0]
    except Exception as error:
        results[path.name] = [type(error).__name__, str(error), peak() - before]
print(json.dumps(results))
"""


def test_hostile_files_are_refused(tmp_path):
    files = hostile_files(tmp_path)
    assert len(files) >= 20
    outside, folder = tmp_path, tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    save(folder / "good.safetensors", _LOPT, _LOPT.init(jax.random.key(0)))
    names = {f"hostile{number}": what for number, what in enumerate(files)}
    for name, what in names.items():
        (folder / name).write_bytes(files[what])
    with open(folder / "hostile_sparse", "wb") as file:
        file.truncate(10 * 2**30)
    (folder / "hostile_endless").symlink_to("/dev/zero")
    os.mkfifo(folder / "hostile_pipe")
    names |= {"hostile_sparse": "10 GB of holes", "hostile_endless": "/dev/zero", "hostile_pipe": "a pipe"}
    before = sorted(outside.rglob("*"))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD], cwd=folder, capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results.keys() == names.keys()
    for name, (error, message, megabytes) in results.items():
        what = f"{names[name]}: {error}: {message}"
        assert error in ("ValueError", "FileNotFoundError"), what
        assert name in message and "\n" not in message and len(message) < 1000, what
        assert megabytes < 100, f"{what}: {megabytes} MB"
    assert sorted(outside.rglob("*")) == before
    assert not list(Path.cwd().glob(_CANARY)) and not list(folder.glob(_CANARY))


def test_the_forger_is_good_enough(tmp_path):
    """With nothing changed his files load: it is what he changes that is refused."""
    tensors, header = _genuine(tmp_path)
    for data in (_forged(tensors, header), _by_hand(tensors, header, str)):
        (tmp_path / "forged").write_bytes(data)
        loaded = load_checkpoint(tmp_path / "forged")
        np.testing.assert_array_equal(loaded.theta["mlp"]["w0"], tensors["mlp/w0"])


def test_pickle_would_have_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(_Runs()))
    with pytest.raises(FileExistsError):
        pickle.loads(pickle.dumps(_Runs()))


def _counting(built: list):
    """An architecture of any number of parts, each with a tensor of its own, which notes every part it makes."""

    def parts(num_parts=2, size=4, heads=2, horizon=100):
        if size % heads:
            raise ValueError(f"size={size}: use a multiple of heads={heads}")

        def init(key):
            built.extend(range(num_parts))
            return {f"part{i}": jax.random.normal(key, (size, heads)) for i in range(num_parts)}

        config = {"architecture": "parts", "num_parts": num_parts, "size": size, "heads": heads, "horizon": horizon}
        return LearnedOptimizer(
            init, lambda theta, num_steps=None: optax.with_extra_args_support(optax.set_to_zero()), config
        )

    return {"parts": parts}


def _rebuilt(built: list, num_tensors: int, shape: tuple[int, ...], **config):
    tensors = {f"part{i}": np.ones(shape, np.float32) for i in range(num_tensors)}
    return rebuild("file", {"architecture": "parts", **config}, tensors, _counting(built))


def test_work_is_bounded_without_knowing_the_architecture():
    built = []
    with pytest.raises(ValueError, match="needs more tensors than the file's 3"):
        _rebuilt(built, 3, (4, 2), num_parts=10**6)
    assert len(built) < 10
    with pytest.raises(ValueError, match="part0 has shape"):
        _rebuilt(built, 3, (4, 2), num_parts=3, size=10**6)
    with pytest.raises(ValueError, match="num_parts is an integer beyond"):
        _rebuilt(built, 3, (4, 2), num_parts=10**6 + 1)
    with pytest.raises(ValueError, match="5000 tensors, at most 4096"):
        _rebuilt(built, 5000, (4, 2), num_parts=5000)


def test_large_integers_that_cost_nothing_are_read():
    built = []
    lopt, theta = _rebuilt(built, 3, (96, 8), num_parts=3, size=96, heads=8, horizon=20_000)
    assert lopt.config["horizon"] == 20_000 and len(theta) == 3
