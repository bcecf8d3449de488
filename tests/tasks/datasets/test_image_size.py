from fractions import Fraction

import numpy as np
import pytest

from tasks.datasets.image_size import shrink, to_form, to_grey


def images(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def area_mean(image: np.ndarray, size: int) -> np.ndarray:
    """Slow oracle in exact fractions: every input pixel is cut into size x size pieces, each in one output pixel."""
    height, width = image.shape
    pieces = np.repeat(np.repeat(image, size, 0), size, 1).astype(int)
    result = np.zeros((size, size), np.uint8)
    for i in range(size):
        for j in range(size):
            box = pieces[i * height : (i + 1) * height, j * width : (j + 1) * width]
            # Python rounds a fraction to the nearest integer, halves to even.
            result[i, j] = round(Fraction(int(box.sum()), box.size))
    return result


@pytest.mark.parametrize(
    ("native", "size"), [((12, 12), 4), ((12, 12), 5), ((7, 10), 6), ((5, 5), 5), ((105, 105), 16)]
)
def test_shrink_is_the_exact_area_mean(native, size):
    x = images((3, *native, 2))
    x[0] = np.where(x[0] > 127, 255, 0)
    found = shrink(x, size)
    assert found.dtype == np.uint8
    for n in range(3):
        for c in range(2):
            np.testing.assert_array_equal(found[n, :, :, c], area_mean(x[n, :, :, c], size))


def test_boxes_where_the_size_divides():
    x = images((600, 8, 8, 1))
    boxes = x.reshape(600, 4, 2, 4, 2, 1).mean((2, 4))
    np.testing.assert_array_equal(shrink(x, 4), np.rint(boxes))


def test_halves_round_to_even():
    x = np.array([[[0, 1], [0, 1]], [[1, 2], [1, 2]]], np.uint8)[..., None]
    np.testing.assert_array_equal(shrink(x, 1).ravel(), [0, 2])


def test_large_images_are_summed_exactly():
    """263 x 263 = 69,169 is odd: sums half a unit below and above k + 1/2 round apart; float32 lacks some."""
    area = 263 * 263
    sums = [k * area + (area - 1) // 2 + above for k in range(244, 254) for above in (0, 1)]
    x = np.stack([total // area + (np.arange(area) < total % area) for total in sums]).astype(np.uint8)
    found = shrink(x.reshape(-1, 263, 263, 1), 1).ravel()
    np.testing.assert_array_equal(found, [k + above for k in range(244, 254) for above in (0, 1)])


def test_grey_is_rec_601_luma():
    x = images((700, 3, 3, 3))
    exact = np.array(
        [[round(Fraction(299 * int(r) + 587 * int(g) + 114 * int(b), 1000))] for r, g, b in x.reshape(-1, 3)]
    )
    np.testing.assert_array_equal(to_grey(x), exact.reshape(700, 3, 3, 1))


def test_form():
    x = images((5, 6, 6, 3))
    assert to_form(x, None, grey=False) is x
    np.testing.assert_array_equal(to_form(x, 3, grey=True), shrink(to_grey(x), 3))
    grey = x[..., :1]
    assert to_form(grey, 6, grey=True) is grey


@pytest.mark.parametrize("size", [0, 7])
def test_bad_size(size):
    with pytest.raises(ValueError, match=f"image_size={size}: the images are 9x6, use between 1 and 6"):
        to_form(images((2, 9, 6, 1)), size, grey=False)
