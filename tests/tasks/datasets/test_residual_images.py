import numpy as np

from tasks.datasets.residual_images import CHUNK, decode_residuals


def encode(image: np.ndarray) -> np.ndarray:
    """Slow encoder of one image [h, w, 3], written pixel by pixel from the definition in the module."""
    red, green, blue = (image[..., c].astype(int) for c in range(3))
    height, width = green.shape
    folded = np.zeros((3, height, width), np.uint8)
    for plane, x in enumerate([green, (red - green + 128) % 256, (blue - green + 128) % 256]):
        for i in range(height):
            for j in range(width):
                if i == j == 0:
                    a = b = c = 0
                elif i == 0:
                    a = b = c = x[i, j - 1]
                elif j == 0:
                    a = b = c = x[i - 1, j]
                else:
                    a, b, c = x[i, j - 1], x[i - 1, j], x[i - 1, j - 1]
                if c >= max(a, b):
                    prediction = min(a, b)
                elif c <= min(a, b):
                    prediction = max(a, b)
                else:
                    prediction = a + b - c
                residual = (x[i, j] - prediction + 128) % 256 - 128
                folded[plane, i, j] = 2 * residual if residual >= 0 else -2 * residual - 1
    return folded


def test_decoding_undoes_encoding():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 5, 6, 3), np.uint8)
    smooth = (np.add.outer(np.arange(5) * 20, np.arange(6) * 9)[..., None] + [0, 60, 150]).astype(np.uint8)
    images = np.concatenate([noise, smooth[None], np.full_like(noise[:1], 255), np.zeros_like(noise[:1])])
    np.testing.assert_array_equal(decode_residuals(np.stack([encode(image) for image in images])), images)


def test_chunks_are_joined_in_order():
    values = np.arange(CHUNK + 3) % 256
    constant = np.stack([encode(np.full((1, 1, 3), value, np.uint8)) for value in range(256)])
    decoded = decode_residuals(constant[values])
    np.testing.assert_array_equal(decoded[:, 0, 0, 1], values)
