"""Shifted versions of image data, for measuring networks that were trained on the data as they are.

    rotation    turned about the centre by an angle, bilinear, black outside        Rotated MNIST: Ghifary et al. 2015
    noise       + N(0, sigma^2) for every pixel, clipped to [0, 1]                  CIFAR-10-C: Hendrycks &
    blur        convolved with a Gaussian of width sigma (pixels), edges repeated       Dietterich 2019, 1903.12261
    channels    red, green and blue exchanged; of images that have colour

Images are float32 [N, height, width, channels] in [0, 1]. The noise is drawn once, from a fixed seed: everyone sees the
same images.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Images = Float[np.ndarray, "examples height width channels"]
Shift = Callable[[Images], Images]


def rotation(degrees: float) -> Shift:
    """Turned counter-clockwise about the centre."""

    def apply(images: Images) -> Images:
        height, width = images.shape[1:3]
        row, column = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        row, column = row - (height - 1) / 2, column - (width - 1) / 2
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        # Where each pixel comes from; rows grow downwards.
        source_row = cos * row + sin * column + (height - 1) / 2
        source_column = -sin * row + cos * column + (width - 1) / 2
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
        low_row, low_column = np.floor(source_row), np.floor(source_column)
        total = np.zeros_like(images)
        for step_row in (0, 1):
            for step_column in (0, 1):
                at_row, at_column = low_row + step_row, low_column + step_column
                weight = (1 - np.abs(source_row - at_row)) * (1 - np.abs(source_column - at_column))
                # Everything outside lies in the black margin.
                r = np.clip(at_row + 1, 0, height + 1).astype(int)
                c = np.clip(at_column + 1, 0, width + 1).astype(int)
                total += weight[None, :, :, None].astype(np.float32) * padded[:, r, c]
        return total

    return apply


def noise(sigma: float, seed: int = 0) -> Shift:
    """Gaussian noise of standard deviation sigma, in units of the range of a pixel."""

    def apply(images: Images) -> Images:
        drawn = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
        return np.clip(images + np.float32(sigma) * drawn, 0, 1)

    return apply


def blur(sigma: float) -> Shift:
    """A Gaussian filter that is cut off at three widths."""
    reach = max(1, int(np.ceil(3 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)

    def apply(images: Images) -> Images:
        for axis in (1, 2):
            margins = [(reach, reach) if i == axis else (0, 0) for i in range(4)]
            padded, size = np.pad(images, margins, mode="edge"), images.shape[axis]
            shifted = (np.take(padded, np.arange(i, i + size), axis=axis) for i in range(len(kernel)))
            images = sum((w * x for w, x in zip(kernel, shifted, strict=True)), np.zeros_like(images))
        return images

    return apply


def exchanged_channels(images: Images) -> Images:
    """The last channel first."""
    return np.roll(images, 1, axis=-1)


SHIFTS: dict[str, Shift] = {
    "rotation15": rotation(15),
    "rotation30": rotation(30),
    "noise0.1": noise(0.1),
    "noise0.2": noise(0.2),
    "blur0.6": blur(0.6),
    "blur1": blur(1.0),
}
"""By name, for all images."""
COLOUR_SHIFTS: dict[str, Shift] = {"channels": exchanged_channels}
"""For images of three channels."""


def shifted_versions(images: np.ndarray) -> dict[str, np.ndarray]:
    """uint8 [N, height, width(, channels)] under every shift, in the same layout.

    Raises:
      ValueError: what are no such images.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise ValueError(
            f"images of dtype {images.dtype} and shape {images.shape}: use uint8 [N, height, width, channels]"
        )
    wide = images.reshape((*images.shape[:3], -1)).astype(np.float32) / 255
    shifts = SHIFTS | (COLOUR_SHIFTS if wide.shape[-1] == 3 else {})
    return {
        name: np.round(255 * np.clip(shift(wide), 0, 1)).astype(np.uint8).reshape(images.shape)
        for name, shift in shifts.items()
    }
