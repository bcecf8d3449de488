"""Reads the trees of arrays that flax writes (`flax.serialization.to_bytes`), without flax and without msgpack.

Only what such a file can hold is understood: maps with text keys, text, numbers, and arrays, which flax keeps as
extension 1 (and scalars as 3): a msgpack list [shape, dtype name, bytes]. The format has no instructions, so nothing
can run; a file of n bytes costs about n bytes of memory, because every length is checked against the bytes that are
left before anything is built, and arrays are views of the file's bytes.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

_DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool")
_ARRAY, _SCALAR = 1, 3
_DEEPEST = 32
_MOST_ITEMS = 10_000
_MOST_AXES = 32
_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_TEXT, _BYTES, _LIST, _MAP, _EXTENSION = "text", "bytes", "list", "map", "extension"
_SIZED = {
    **dict(zip((0xD9, 0xDA, 0xDB), ((_TEXT, width) for width in (1, 2, 4)), strict=True)),
    **dict(zip((0xC4, 0xC5, 0xC6), ((_BYTES, width) for width in (1, 2, 4)), strict=True)),
    **dict(zip((0xC7, 0xC8, 0xC9), ((_EXTENSION, width) for width in (1, 2, 4)), strict=True)),
    **dict(zip((0xDC, 0xDD), ((_LIST, width) for width in (2, 4)), strict=True)),
    **dict(zip((0xDE, 0xDF), ((_MAP, width) for width in (2, 4)), strict=True)),
}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


def read_flax_msgpack(data: bytes) -> dict[str, Any]:
    """The tree of a file's bytes: nested dicts with text keys; numpy arrays, numbers and text at the leaves.

    Raises:
      ValueError: not such a file, damaged, or holding anything else.
    """
    reader = _Reader(memoryview(data))
    tree = reader.item(0)
    if reader.at != len(data):
        raise ValueError(f"{len(data) - reader.at} bytes are left over after the tree")
    if not isinstance(tree, dict):
        raise ValueError(f"it holds a {type(tree).__name__}, not a tree of arrays")
    return tree


class _Reader:
    """A place in the bytes."""

    def __init__(self, data: memoryview, items_left: int = _MOST_ITEMS):
        self.data, self.at, self.items_left = data, 0, items_left

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise ValueError(f"it ends {count - len(self.data) + self.at} bytes early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def item(self, depth: int) -> Any:
        self.items_left -= 1
        if depth > _DEEPEST or self.items_left < 0:
            raise ValueError(f"its tree is deeper than {_DEEPEST} or has more than {_MOST_ITEMS} items")
        code = self.take(1)[0]
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _NUMBERS:
            return self.number(_NUMBERS[code])
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 0x100
        kind, count = self.kind_and_count(code)
        if kind == _TEXT:
            return str(self.take(count), "utf-8")
        if kind == _BYTES:
            return self.take(count)
        if kind == _EXTENSION:
            return self.array(count)
        if count > len(self.data) - self.at:
            raise ValueError(f"it announces {count} items in {len(self.data) - self.at} bytes")
        if kind == _LIST:
            return [self.item(depth + 1) for _ in range(count)]
        return self.map(count, depth)

    def kind_and_count(self, code: int) -> tuple[str, int]:
        if code < 0x90:
            return _MAP, code & 0x0F
        if code < 0xA0:
            return _LIST, code & 0x0F
        if code < 0xC0:
            return _TEXT, code & 0x1F
        if code in _FIXED_EXTENSIONS:
            return _EXTENSION, _FIXED_EXTENSIONS[code]
        if code not in _SIZED:
            raise ValueError(f"byte {code:#x} at {self.at - 1} means nothing")
        kind, width = _SIZED[code]
        return kind, int.from_bytes(self.take(width), "big")

    def map(self, count: int, depth: int) -> dict[str, Any]:
        tree = {}
        for _ in range(count):
            key = self.item(depth + 1)
            if not isinstance(key, str):
                raise ValueError(f"it has a {type(key).__name__} as a name; names are text")
            if key in tree:
                raise ValueError(f"the name {key[:80]!r} occurs twice")
            tree[key] = self.item(depth + 1)
        return tree

    def array(self, count: int) -> np.ndarray:
        extension = self.number(">b")
        if extension not in (_ARRAY, _SCALAR):
            raise ValueError(f"it holds an object of extension {extension}; only arrays are read")
        payload = _Reader(self.take(count), self.items_left)
        parts = payload.item(_DEEPEST - 2)
        self.items_left = payload.items_left
        if not isinstance(parts, list) or len(parts) != 3 or payload.at != count:
            raise ValueError("an array is not [shape, dtype, bytes]")
        shape, dtype, content = parts
        if not isinstance(dtype, str) or dtype not in _DTYPES:
            raise ValueError(f"an array has dtype {str(dtype)[:80]!r}; use one of {', '.join(_DTYPES)}")
        if not isinstance(shape, list) or not isinstance(content, memoryview) or len(shape) > _MOST_AXES:
            raise ValueError("an array is not [shape, dtype, bytes]")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"an array has shape {shape}")
        if math.prod(shape) * np.dtype(dtype).itemsize != len(content):
            raise ValueError(f"an array of shape {tuple(shape)} and dtype {dtype} has {len(content)} bytes")
        return np.frombuffer(content, dtype).reshape(shape)
