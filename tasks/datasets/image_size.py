"""Images made smaller and grey, with exact integer arithmetic.

An output pixel is the mean of the input over the area it covers (area interpolation): with input size n, output size
m and g = gcd(n, m), the overlap of output pixel i with input pixel j is an integer in units of 1 / m pixels,

    w_ij = max(0, min((i + 1) n, (j + 1) m) - max(i n, j m)) / g,        y = W x W^T / (n / g)^2.

Where m divides n this is the plain mean over boxes. Sums are whole numbers, and the floating-point type is chosen to
hold them exactly, so the result does not depend on the machine; they are rounded to the nearest integer, halves to
even.
"""

import math

import numpy as np
from jaxtyping import Float64, UInt8

from tasks.base import Data

CHUNK = 512
REC_601 = np.array([299, 587, 114])
"""Luma of red, green and blue in thousandths (ITU-R BT.601)."""


def enlarged(data: Data, factor: int) -> Data:
    """The images of every split with each pixel repeated `factor` times along both axes.

    Raises:
      ValueError: factor below 1.
    """
    if factor < 1:
        raise ValueError(f"factor={factor}: use at least 1")

    def enlarge(images):
        return np.repeat(np.repeat(images, factor, axis=1), factor, axis=2)

    return {split: {**rows, "image": enlarge(np.asarray(rows["image"]))} for split, rows in data.items()}


def to_form(images: UInt8[np.ndarray, "n h w c"], image_size: int | None, grey: bool) -> UInt8[np.ndarray, "n H W C"]:
    """Grey first, then smaller; each rounds once.

    Args:
      images: one or three channels.
      image_size: height and width of the result; None leaves the size as it is.
      grey: one channel. Grey images stay as they are either way.

    Raises:
      ValueError: image_size above the size of the images, or below 1.
    """
    if grey and images.shape[-1] == 3:
        images = to_grey(images)
    if image_size is None or images.shape[1:3] == (image_size, image_size):
        return images
    return shrink(images, image_size)


def to_grey(images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w 1"]:
    """Rec. 601 luma, 0.299 R + 0.587 G + 0.114 B, to the nearest integer, halves to even."""
    chunks = np.split(images, range(CHUNK, len(images), CHUNK))
    return np.concatenate([np.rint(chunk @ REC_601 / 1000).astype(np.uint8)[..., None] for chunk in chunks])


def shrink(images: UInt8[np.ndarray, "n h w c"], size: int) -> UInt8[np.ndarray, "n size size c"]:
    """Area interpolation to `size` x `size` pixels, to the nearest integer, halves to even.

    Raises:
      ValueError: size above the height or width of the images, or below 1.
    """
    height, width = images.shape[1:3]
    if not 1 <= size <= min(height, width):
        raise ValueError(f"image_size={size}: the images are {height}x{width}, use between 1 and {min(height, width)}")
    rows, columns = area_weights(height, size), area_weights(width, size)
    area = rows[0].sum() * columns[0].sum()
    exact = np.float32 if 255 * area < 2**24 else np.float64
    rows, columns = rows.astype(exact), columns.astype(exact)
    result = np.empty((len(images), size, size, images.shape[3]), np.uint8)
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK].astype(exact)
        low = (rows @ chunk.reshape(len(chunk), height, -1)).reshape(-1, width, images.shape[3])
        sums = (columns @ low).reshape(-1, *result.shape[1:])
        result[start : start + CHUNK] = np.rint(sums / np.float64(area))
    return result


def area_weights(native: int, size: int) -> Float64[np.ndarray, "size native"]:
    """The whole numbers w_ij above; every row sums to native / gcd(native, size)."""
    i, j = np.arange(size)[:, None], np.arange(native)
    overlap = np.minimum((i + 1) * native, (j + 1) * size) - np.maximum(i * native, j * size)
    return np.maximum(overlap, 0) / math.gcd(native, size)
