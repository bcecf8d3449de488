"""A meta-trained optimizer as one file: the meta-parameters and what is needed to use them, without
running any code.

The file is an ordinary safetensors file of float32 tensors named by their path in theta ("mlp/w0").
Its header carries one JSON string under "learned_opt": the format version, the architecture's
config, the card (provenance: K, H, task, ...) and a SHA-256. safetensors itself accepts a damaged
data byte, so the digest covers the whole file, every byte of it, read with the digest's own
characters set to "0".
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import safetensors.numpy
from safetensors import SafetensorError

from learned_opt.architectures import from_config
from learned_opt.atomic_file import write_atomic
from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.pretrained import find_pretrained

FORMAT_VERSION = 1
MODEL_FILE = "model.safetensors"
_METADATA_KEY = "learned_opt"
_NO_DIGEST = "0" * 64
_MAX_BYTES = 256 * 2**20


class Checkpoint(NamedTuple):
    """A loaded checkpoint.

    Attributes:
      lopt: the learned optimizer, rebuilt from the file's config.
      theta: its meta-parameters, float32 numpy arrays in the tree that `lopt.init` returns.
      card: provenance written by `save`; JSON values only.
    """

    lopt: LearnedOptimizer
    theta: Theta
    card: dict[str, Any]


def save(path: str | os.PathLike[str], lopt: LearnedOptimizer, theta: Theta, **card: Any) -> None:
    """Writes a checkpoint; a crash on the way leaves the old file as it was.

    Args:
      path: file to write, by convention `NAME.safetensors`; its folder must exist.
      lopt: the optimizer theta belongs to.
      theta: meta-parameters, float32 and finite.
      **card: provenance to keep in the file, JSON values (num_workers=8, num_local_steps=4,
        task="...").

    Raises:
      ValueError: theta does not fit lopt or is not finite, or a card entry is not JSON.
      OSError: the file cannot be written.
    """
    name = os.fspath(path)
    tensors = {key: np.array(leaf, order="C") for key, leaf in _named_leaves(theta).items()}
    _check_tensors(name, tensors, lopt)
    for field, value in card.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: card entry {field}={value!r} is not JSON: {error}") from None
    write_atomic(path, _encode(tensors, lopt.config, card))


def load(path_or_name: str | os.PathLike[str]) -> optax.GradientTransformationExtraArgs:
    """The optax transform of a checkpoint file, of a folder of `export_folder`, or of a pretrained optimizer
    (`learned_opt.pretrained_names()`).

    Raises:
      FileNotFoundError: neither a file, nor such a folder, nor a pretrained name.
      ValueError: a damaged file, a newer format, another architecture or other tensors than the
        architecture has.
    """
    checkpoint = load_checkpoint(path_or_name)
    return checkpoint.lopt.transform(jax.tree.map(jax.numpy.asarray, checkpoint.theta))


def load_checkpoint(path_or_name: str | os.PathLike[str]) -> Checkpoint:
    """The optimizer, the meta-parameters and the card of a checkpoint; arguments and errors as in
    `load`."""
    name = os.fspath(path_or_name)
    data = read_bytes(name)
    tensors, header = _decode(name, data)
    lopt = _rebuild(name, header["config"], len(tensors))
    shapes = _check_tensors(name, tensors, lopt)
    leaves = [tensors[key] for key in _named_leaves(shapes)]
    theta = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    return Checkpoint(lopt, theta, header["card"])


def _encode(tensors: dict[str, np.ndarray], config: dict[str, Any], card: dict[str, Any]) -> bytes:
    header = {
        "format_version": FORMAT_VERSION,
        "config": config,
        "card": card,
        "sha256": _NO_DIGEST,
    }
    metadata = {_METADATA_KEY: json.dumps(header, allow_nan=False)}
    data = safetensors.numpy.save(tensors, metadata)
    digest = hashlib.sha256(data).hexdigest()
    # The last occurrence in the JSON header: a card could hold 64 zeros of its own, sha256 comes
    # after it.
    header_end = 8 + int.from_bytes(data[:8], "little")
    start = data.rindex(_NO_DIGEST.encode(), 0, header_end)
    return data[:start] + digest.encode() + data[start + len(digest) :]


def read_bytes(path_or_name: str | os.PathLike[str]) -> bytes:
    """The bytes of a checkpoint, unchecked; a folder's are those of its `model.safetensors`.

    Raises:
      FileNotFoundError: neither a file, nor a folder with one, nor a pretrained name.
      ValueError: too large to be a learned optimizer.
    """
    name, path = os.fspath(path_or_name), Path(path_or_name)
    if (path / MODEL_FILE).is_file():
        path = path / MODEL_FILE
    source = path if path.is_file() else find_pretrained(name)
    with source.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read() if size <= _MAX_BYTES else b""
    if size > _MAX_BYTES:
        raise ValueError(f"{name}: larger than {_MAX_BYTES} bytes, so not a learned optimizer")
    return data


def _decode(name: str, data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    damaged = "copy it again or load another checkpoint"
    try:
        tensors = safetensors.numpy.load(data)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{name}: damaged or not a safetensors file ({error}); {damaged}") from None
    header_end = 8 + int.from_bytes(data[:8], "little")
    header = _parse_header(data[8:header_end])
    version = header.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ValueError(
            f"{name}: format version {version}, this library reads up to {FORMAT_VERSION}; upgrade learned_opt"
        )
    fields = [header.get(field) for field in ("format_version", "config", "card", "sha256")]
    if not all(map(isinstance, fields, (int, dict, dict, str))):
        raise ValueError(f"{name}: safetensors without a learned_opt header; write it with learned_opt.save")
    digest = header["sha256"]
    start = data.rfind(digest.encode(errors="replace"), 0, header_end)
    blank = data[:start] + _NO_DIGEST.encode() + data[start + len(_NO_DIGEST) :]
    if len(digest) != len(_NO_DIGEST) or hashlib.sha256(blank).hexdigest() != digest:
        raise ValueError(f"{name}: its bytes do not match its SHA-256, it was damaged; {damaged}")
    return tensors, header


def _parse_header(data: bytes) -> dict[str, Any]:
    """The JSON object under our key of a safetensors header; empty if there is none."""
    try:
        text = json.loads(data, object_pairs_hook=_once)["__metadata__"][_METADATA_KEY]
        header = json.loads(text, object_pairs_hook=_once)
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Which of two equal names counts is a matter of taste, so two readers could see two different files.
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _rebuild(name: str, config: dict[str, Any], num_tensors: int) -> LearnedOptimizer:
    # Every layer has tensors: this bounds the work that a hostile config can ask for.
    layers = config.get("hidden_layers", 0)
    if not isinstance(layers, int) or layers > num_tensors:
        raise ValueError(f"{name}: hidden_layers {layers!r} with only {num_tensors} tensors")
    try:
        return from_config(config)
    except ValueError as error:
        # Its config is quoted in it, and may be as long as a hostile file likes.
        raise ValueError(f"{name}: cannot rebuild its optimizer: {str(error)[:500]}") from None


def _check_tensors(name: str, tensors: dict[str, np.ndarray], lopt: LearnedOptimizer) -> Theta:
    """Checks names, shapes, dtypes and values; returns theta's tree of shapes."""
    architecture = lopt.config["architecture"]
    try:
        shapes = jax.eval_shape(lopt.init, jax.random.key(0))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: config {lopt.config} cannot be built: {error}") from None
    expected = _named_leaves(shapes)
    for problem, keys in (
        ("lacks tensor", expected.keys() - tensors.keys()),
        ("has an unknown tensor", tensors.keys() - expected.keys()),
    ):
        if keys:
            raise ValueError(f"{name}: {problem} {min(keys)!r}; theta is not of a {architecture}")
    for key, leaf in expected.items():
        found = tensors[key]
        if found.shape != leaf.shape:
            raise ValueError(
                f"{name}: {key} has shape {found.shape}, {architecture} with config {lopt.config} "
                f"needs {leaf.shape}; use the config it was trained with"
            )
        if found.dtype != leaf.dtype:
            raise ValueError(f"{name}: {key} is {found.dtype}; cast it to {leaf.dtype}")
        if not np.isfinite(found).all():
            raise ValueError(f"{name}: {key} holds NaN or infinity; use an earlier checkpoint")
    return shapes


def _named_leaves(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
