"""The reader of flax files, against flax itself as the writer, and against files that nobody should write."""

import struct
import tracemalloc

import flax.serialization
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.published.flax_msgpack import read_flax_msgpack

TREE = {
    "params": {
        "rnn/linear": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": jnp.asarray([1.5, -2.0])},
        "lr": np.float32(0.25),
        "empty": np.zeros((0, 4), np.float64),
        "many": np.arange(70_000, dtype=np.int32),
    },
    "gen_id": "x" * 40,
    "step": 70_000,
    "negative": -5,
    "fraction": 0.5,
    "none": None,
    "flags": {"yes": True, "no": False},
    "sizes": {str(i): i for i in range(20)},
}
DATA = flax.serialization.to_bytes(TREE)


def array(shape, dtype, content, extension=1):
    """An array as flax writes it, whatever it says."""
    payload = b"\x93" + bytes([0x90 | len(shape)]) + b"".join(b"\xcf" + struct.pack(">Q", size) for size in shape)
    payload += bytes([0xA0 | len(dtype)]) + dtype.encode() + b"\xc6" + struct.pack(">I", len(content)) + content
    return b"\xc9" + struct.pack(">I", len(payload)) + struct.pack(">b", extension) + payload


def under_a_name(item):
    return b"\x81\xa1x" + item


def test_what_flax_wrote_is_read():
    found = read_flax_msgpack(DATA)
    expected = flax.serialization.msgpack_restore(DATA)

    def check(a, b):
        if isinstance(b, dict):
            assert list(a) == list(b)
            for name in b:
                check(a[name], b[name])
        else:
            np.testing.assert_array_equal(a, b)
            assert np.asarray(a).dtype == np.asarray(b).dtype

    check(found, expected)


def test_a_file_that_was_cut_off_is_an_error():
    short = flax.serialization.to_bytes({name: TREE[name] for name in TREE if name != "params"})
    for end in range(len(short)):
        with pytest.raises(ValueError):
            read_flax_msgpack(short[:end])
    with pytest.raises(ValueError, match="left over"):
        read_flax_msgpack(short + b"\x00")


def test_damaged_bytes_give_an_error_or_another_tree():
    data = bytearray(flax.serialization.to_bytes({"a": {"w": np.ones((2, 2), np.float32)}, "b": 3, "c": "text"}))
    errors = 0
    for place in range(len(data)):
        for value in range(0, 256, 5):
            damaged = bytes(data[:place]) + bytes([value]) + bytes(data[place + 1 :])
            try:
                read_flax_msgpack(damaged)
            except ValueError:
                errors += 1
    assert errors > 1000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends 1 bytes early"),
        (b"\x07", "holds a int"),
        (under_a_name(b"\xc1"), "means nothing"),
        (under_a_name(b"\xc7\x01\x2a\x00"), "extension 42"),
        (under_a_name(array((2,), "complex64", bytes(16), extension=2)), "extension 2"),
        (under_a_name(array((1,), "object", bytes(8))), "dtype 'object'"),
        (under_a_name(array((1,), "V4", bytes(4))), "dtype 'V4'"),
        (under_a_name(array((2**40, 2**40), "float32", bytes(4))), "has 4 bytes"),
        (under_a_name(array((3,), "float32", bytes(4))), "has 4 bytes"),
        (under_a_name(b"\xc9\xff\xff\xff\xff\x01"), "bytes early"),
        (under_a_name(b"\xdd\xff\xff\xff\xff"), "announces"),
        (b"\xdf\xff\xff\xff\xff", "announces"),
        (b"\x82\xa1x\x01\xa1x\x02", "occurs twice"),
        (b"\x81\x01\x02", "names are text"),
        (b"\x81\xa1x" * 1000 + b"\x00", "deeper"),
        (b"\x81\xa1x" + b"\xdd\x00\x00\x40\x00" + b"\x00" * 0x4000, "items"),
        (b"\x81\xa1\xff\x00", "utf-8"),
    ],
)
def test_hostile_files_are_refused(data, message):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            read_flax_msgpack(data)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
