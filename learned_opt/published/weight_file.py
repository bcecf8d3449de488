"""The arrays of a weight file by their published names, whatever its format: flax msgpack, safetensors or npz.

Nothing in a file is executed, a pickle is refused, and sizes are checked before memory is used.
"""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.lib import format as npy_format
from safetensors import SafetensorError

from learned_opt.published.flax_msgpack import read_flax_msgpack

Arrays = dict[str, np.ndarray]

_MAX_BYTES = 256 * 2**20
_PICKLE = re.compile(rb"\x80[\x02-\x05].", re.DOTALL)
_DEEPEST = 32
_WRAPPERS = ("theta/", "params/")
"""In front of every leaf of some files."""


def read_arrays(source: str | os.PathLike[str] | Mapping[str, Any]) -> Arrays:
    """Flat arrays by name, joined with "/" where the source is nested.

    Args:
      source: a file, or a mapping from names to arrays or further mappings.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file that is too large, damaged, a pickle, or of no known format.
    """
    if isinstance(source, Mapping):
        return _unwrapped(_flat(source))
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MAX_BYTES:
            raise ValueError(f"{path}: {size} bytes, more than {_MAX_BYTES}, so not a learned optimizer")
        data = file.read(_MAX_BYTES)
    try:
        return _unwrapped(_flat(_parse(data)))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as weights: {error}") from None


def _parse(data: bytes) -> Mapping[str, Any]:
    if data[:4] == b"PK\x03\x04":
        return _read_npz(data)
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        try:
            return safetensors.numpy.load(data)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"damaged safetensors ({error})") from None
    if _PICKLE.match(data):
        raise ValueError("it is a pickle, which may run code; save its arrays with safetensors or numpy.savez")
    try:
        return read_flax_msgpack(data)
    except ValueError as error:
        raise ValueError(f"neither safetensors nor npz, and as flax msgpack: {error}") from None


def _read_npz(data: bytes) -> Arrays:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > _MAX_BYTES:
                raise ValueError(f"it unpacks to more than {_MAX_BYTES} bytes")
            return {member.filename.removesuffix(".npy"): _read_npy(archive, member) for member in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"damaged npz ({error})") from None


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    # numpy.load makes room for what a header announces before it looks whether so much is there.
    with archive.open(member) as file:
        version = npy_format.read_magic(file)
        read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds objects, which may run code")
        content = file.read(size) if size <= member.file_size else b""
        if len(content) != size:
            raise ValueError(f"{member.filename} of shape {shape} is cut off")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def _flat(tree: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Leaves by path; text, which names things, is left out."""
    if depth > _DEEPEST:
        raise ValueError(f"its tree is deeper than {_DEEPEST}")
    leaves = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _flat(value, f"{prefix}{name}/", depth + 1)
        elif value is not None and not isinstance(value, str | bytes | memoryview):
            leaves[f"{prefix}{name}"] = value
    return leaves


def _unwrapped(leaves: dict[str, Any]) -> Arrays:
    """Without what stands before the names of theta's leaves, and without what stands beside theta."""
    if not any("/" in name for name in leaves):
        # Some tools write safetensors with dots.
        leaves = {name.replace(".", "/"): value for name, value in leaves.items()}
    for wrapper in _WRAPPERS:
        inside = {name.removeprefix(wrapper): value for name, value in leaves.items() if name.startswith(wrapper)}
        leaves = inside or leaves
    arrays = {name: np.asarray(value) for name, value in leaves.items()}
    return {name: array for name, array in arrays.items() if array.dtype.kind not in "US"}
