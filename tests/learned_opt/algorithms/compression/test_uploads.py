"""Uploads against NumPy loops of their definitions, and their sizes against messages that are packed to the bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.algorithms.compression.quantize import quantize
from learned_opt.algorithms.compression.top_k import top_k
from learned_opt.algorithms.compression.upload import error_feedback

RNG = np.random.default_rng(0)


def send(upload, tree, state=None) -> Any:
    transform = upload.transform
    return jax.jit(transform.update)(tree, transform.init(tree) if state is None else state)


def sent(upload, x):
    return np.asarray(send(upload, jnp.asarray(x))[0])


def numpy_linear(x, bits):
    """Codes and the ends of the range: what goes over the wire."""
    x = x.astype(np.float64)
    step = (x.max() - x.min()) / (2**bits - 1)
    return np.round((x - x.min()) / step).astype(int), np.asarray([x.min(), x.max()], np.float32)


def numpy_statistical(values, bits):
    """Codes and the mean of each bin."""
    values = values.astype(np.float64)
    width = 6 * values.std(ddof=1) / 2**bits
    codes = np.clip(np.round((values - values.mean()) / width + 2 ** (bits - 1)), 0, 2**bits - 1).astype(int)
    means = [values[codes == code].mean() if np.any(codes == code) else 0.0 for code in range(2**bits)]
    return codes, np.asarray(means, np.float32)


def numpy_top_k(x, k, chunk_size):
    """Indices within their chunk, of all chunks in order, and the values there."""
    indices, values = [], []
    for begin in range(0, x.size, chunk_size):
        chunk = x[begin : begin + chunk_size]
        order = sorted(range(chunk.size), key=lambda i, chunk=chunk: -abs(chunk[i]))[:k]
        indices.append(np.sort(order))
        values.append(chunk[np.sort(order)])
    return indices, values


def pack(codes, bits):
    """Numbers of `bits` bits one after the other, as bytes."""
    return np.packbits([(code >> bit) & 1 for code in codes for bit in range(bits)]).tobytes()


def unpack(message, bits, count):
    flags = np.unpackbits(np.frombuffer(message, np.uint8))[: bits * count].reshape(count, bits)
    return flags @ (1 << np.arange(bits))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_linear_message_decodes_to_what_was_sent_and_has_its_size(bits):
    x = RNG.normal(size=37).astype(np.float32)
    codes, ends = numpy_linear(x, bits)
    message = pack(codes, bits) + ends.tobytes()
    assert quantize(bits).bytes_sent(x) == len(message)
    low, high = np.frombuffer(message[-8:], np.float32)
    decoded = low + unpack(message, bits, x.size) * (high - low) / (2**bits - 1)
    np.testing.assert_allclose(sent(quantize(bits), x), decoded, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_statistical_message_decodes_to_what_was_sent_and_has_its_size(bits):
    x = RNG.standard_t(3, size=61).astype(np.float32)
    codes, means = numpy_statistical(x, bits)
    message = pack(codes, bits) + means.tobytes()
    assert quantize(bits, "statistical").bytes_sent(x) == len(message)
    decoded = np.frombuffer(message[-4 * 2**bits :], np.float32)[unpack(message, bits, x.size)]
    np.testing.assert_allclose(sent(quantize(bits, "statistical"), x), decoded, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 8, 32])
@pytest.mark.parametrize(
    ("size", "k", "chunk_size"), [(40, 3, 16), (48, 3, 16), (33, 4, 16), (10, 3, 4096), (2, 3, 16)]
)
def test_a_top_k_message_decodes_to_what_was_sent_and_has_its_size(size, k, chunk_size, bits):
    x = RNG.normal(size=size).astype(np.float32)
    chunk = min(chunk_size, size)
    index_bits = int(np.ceil(np.log2(chunk)))
    indices, values = numpy_top_k(x, k, chunk)
    kept = np.concatenate(values)
    if bits == 32:
        decoded, payload = kept, kept.tobytes()
    else:
        codes, means = numpy_statistical(kept, bits)
        decoded, payload = means[codes], pack(codes, bits) + means.tobytes()
    message = pack(np.concatenate(indices), index_bits) + payload
    upload = top_k(k, chunk_size, bits)
    assert upload.bytes_sent(x) == len(message)
    expected = np.zeros(size)
    expected[np.concatenate([begin * chunk + index for begin, index in enumerate(indices)])] = decoded
    np.testing.assert_allclose(sent(upload, x), expected, rtol=1e-5, atol=1e-6)


def test_sparse_loco_sends_a_hundred_and_forty_sixth():
    """64 of 4,096, each 2 + 12 bits, against 4,096 of 32."""
    size = 4096 * 1000
    assert 4 * size / top_k().bytes_sent(np.empty(size, np.float32)) == pytest.approx(146.3, abs=0.1)


@pytest.mark.parametrize("upload", [quantize(32), quantize(32, "statistical"), top_k(4096, 4096, 32), top_k(8, 8, 32)])
def test_everything_in_full_is_the_identity(upload):
    x = {"matrix": RNG.normal(size=(5, 7)).astype(np.float32), "scalar": np.float32(2.0)}
    found, _ = send(upload, x)
    jax.tree.map(np.testing.assert_array_equal, found, x)
    assert upload.bytes_sent(x) >= 4 * 36


@pytest.mark.parametrize("upload", [quantize(2), quantize(4, "statistical"), top_k(2, 16, 2)])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_tiny_and_huge_elements_are_sent_as_those_of_size_one(upload, size):
    x = RNG.normal(size=20).astype(np.float32)
    np.testing.assert_allclose(sent(upload, x * np.float32(size)) / np.float32(size), sent(upload, x), rtol=1e-4)


@pytest.mark.parametrize("upload", [quantize(2), quantize(2, "statistical"), top_k(2, 16, 2)])
def test_equal_elements_and_zeros_are_sent_exactly(upload):
    x = {"zeros": jnp.zeros((3, 5)), "twos": jnp.full(2, 2.0), "one": jnp.float32(-1.5)}
    found, _ = send(upload, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, x)


@pytest.mark.parametrize("upload", [quantize(2), quantize(2, "statistical"), top_k(2, 16, 2)])
def test_what_is_not_a_number_is_not_hidden(upload):
    x = RNG.normal(size=20).astype(np.float32)
    x[3] = np.nan
    assert np.isnan(sent(upload, x)[3])


@pytest.mark.parametrize("inner", [quantize(2), top_k(2, 16, 2)])
def test_error_feedback_loses_nothing(inner):
    upload = error_feedback(inner)
    deltas = RNG.normal(size=(8, 20)).astype(np.float32)
    state: Any = upload.transform.init(jnp.zeros(20))
    total = np.zeros(20)
    for delta in deltas:
        message, state = send(upload, jnp.asarray(delta), state)
        total += np.asarray(message)
    np.testing.assert_allclose(total + state.residual, deltas.sum(axis=0), rtol=1e-5, atol=1e-5)
    assert np.abs(state.residual).max() > 0.01


def test_error_feedback_forgets_by_its_decay():
    deltas = RNG.normal(size=(6, 20)).astype(np.float32)
    upload, residual = error_feedback(top_k(2, 8, 32), 0.9), np.zeros(20)
    state: Any = upload.transform.init(jnp.zeros(20))
    for delta in deltas:
        message, state = send(upload, jnp.asarray(delta), state)
        total = 0.9 * residual + delta
        expected = np.zeros(20)
        for begin, (indices, values) in enumerate(zip(*numpy_top_k(total, 2, 8), strict=True)):
            expected[8 * begin + indices] = values
        residual = total - expected
        np.testing.assert_allclose(message, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.residual, residual, rtol=1e-5, atol=1e-6)


def test_the_residual_is_float32_and_knows_what_a_bfloat16_message_rounded():
    upload = error_feedback(quantize(32))
    x = jnp.asarray([1.0, 2.0], jnp.bfloat16)
    residual = jnp.asarray([0.0, 1e-3])
    start: Any = upload.transform.init(x)
    message, state = send(upload, x, start._replace(residual=residual))
    assert message.dtype == jnp.bfloat16 and state.residual.dtype == jnp.float32
    np.testing.assert_allclose(state.residual, [0.0, 1e-3], rtol=1e-3)


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quantize(3), "bits=3: use one of 2, 4, 8, 32"),
        (lambda: quantize(4, "even"), "scheme='even': use one of linear, statistical"),
        (lambda: top_k(5000), "k=5000: use 1 to chunk_size=4096"),
        (lambda: top_k(0), "k=0: use at least 1"),
        (
            lambda: top_k(2.5),  # pyright: ignore[reportArgumentType]
            "k=2.5: use a whole number",
        ),
        (lambda: top_k(4, bits=1), "bits=1: use one of 2, 4, 8, 32"),
    ],
)
def test_settings_that_are_not_there_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
