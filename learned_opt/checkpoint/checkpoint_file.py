"""The bytes of a checkpoint: an ordinary safetensors file of float32 tensors named by their path in theta ("mlp/w0").

Its header carries one JSON string under "learned_opt": the format version, the architecture's config, the local recipe
(format 2; before, the card said it), the card (provenance) and a SHA-256. safetensors itself accepts a damaged data
byte, so the digest covers the whole file, every byte of it, read with the digest's own characters set to "0".
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from learned_opt.pretrained import find_pretrained

FORMAT_VERSION = 2
MODEL_FILE, RUN_FILE = "model.safetensors", "optimizer.safetensors"
"""The checkpoint in a folder of `export_folder`, and in a run folder of meta-training."""
_METADATA_KEY = "learned_opt"
_NO_DIGEST = "0" * 64
_MAX_BYTES = 256 * 2**20


class Contents(NamedTuple):
    """What a file says, unchecked but for its digest and the types of these fields.

    Attributes:
      format_version: 1 or 2.
      tensors: by name.
      config: of the architecture.
      local_opt: the local recipe; None in files of format 1.
      card: provenance.
    """

    format_version: int
    tensors: dict[str, np.ndarray]
    config: dict[str, Any]
    local_opt: dict[str, Any] | None
    card: dict[str, Any]


def encode(
    tensors: dict[str, np.ndarray], config: dict[str, Any], local_opt: dict[str, Any] | None, card: dict[str, Any]
) -> bytes:
    """The file that holds these."""
    header = {
        "format_version": FORMAT_VERSION,
        "config": config,
        "local_opt": local_opt,
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
    """The bytes of a checkpoint, unchecked.

    Args:
      path_or_name: a file, a folder with `model.safetensors` (of an export) or `optimizer.safetensors` (of a run), or
        the name of a pretrained optimizer.

    Raises:
      FileNotFoundError: none of these.
      ValueError: too large to be a learned optimizer.
    """
    name, path = os.fspath(path_or_name), Path(path_or_name)
    inside = [path / file for file in (MODEL_FILE, RUN_FILE) if (path / file).is_file()]
    if inside:
        source = inside[0]
    elif path.is_dir():
        raise FileNotFoundError(
            f"{name}: the folder holds no {MODEL_FILE} (of an export) and no {RUN_FILE} (a run writes it with its "
            "first checkpoint); name another one, or a file"
        )
    else:
        source = path if path.is_file() else find_pretrained(name)
    with source.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read() if size <= _MAX_BYTES else b""
    if size > _MAX_BYTES:
        raise ValueError(f"{name}: larger than {_MAX_BYTES} bytes, so not a learned optimizer")
    return data


def decode(name: str, data: bytes) -> Contents:
    """The inverse of `encode`; `name` is for errors.

    Raises:
      ValueError: damaged, foreign, or of a newer format.
    """
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
    local_opt = header.get("local_opt")
    if not all(map(isinstance, fields, (int, dict, dict, str))) or not isinstance(local_opt, dict | None):
        raise ValueError(f"{name}: safetensors without a learned_opt header; write it with learned_opt.save")
    digest = header["sha256"]
    start = data.rfind(digest.encode(errors="replace"), 0, header_end)
    blank = data[:start] + _NO_DIGEST.encode() + data[start + len(_NO_DIGEST) :]
    if len(digest) != len(_NO_DIGEST) or hashlib.sha256(blank).hexdigest() != digest:
        raise ValueError(f"{name}: its bytes do not match its SHA-256, it was damaged; {damaged}")
    return Contents(header["format_version"], tensors, header["config"], local_opt, header["card"])


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
