import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.data.make_fashion_mnist_8x8 import read_source, shrink
from tasks.datasets import DATA_DIR, EMBEDDED, load_dataset

SOURCE = Path(__file__).resolve().parents[3] / "shared" / "data"
FILE = "fashion_mnist_8x8.npz"


@pytest.fixture(scope="module")
def data():
    return load_dataset("fashion_mnist", image_size=8, grey=True)


def test_splits_of_fashion_mnist(data):
    sizes = {"train": 48_000, "inner_valid": 6_000, "outer_valid": 6_000, "test": 10_000}
    assert {split: len(part["label"]) for split, part in data.items()} == sizes
    for split, part in data.items():
        assert part["image"].shape == (sizes[split], 8, 8, 1) and part["image"].dtype == np.uint8
        assert part["label"].dtype == np.int32
        counts = np.bincount(part["label"], minlength=10) / sizes[split]
        assert counts.shape == (10,) and abs(counts - 0.1).max() < 0.012
    train = np.concatenate([data[s]["label"] for s in ("train", "inner_valid", "outer_valid")])
    np.testing.assert_array_equal(np.bincount(train), np.full(10, 6_000))
    np.testing.assert_array_equal(np.bincount(data["test"]["label"]), np.full(10, 1_000))
    # The labels of the original file begin with an ankle boot, two T-shirts, a dress.
    np.testing.assert_array_equal(train[:6], [9, 0, 0, 3, 0, 2])


def test_every_embedded_file_is_the_registered_one():
    for name, image_size, grey in EMBEDDED:
        load_dataset(name, image_size, grey)


def test_a_damaged_or_missing_file_gives_one_clear_line(tmp_path):
    content = bytearray((DATA_DIR / FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"fashion_mnist_8x8\.npz is damaged .*from git") as error:
        load_dataset("fashion_mnist", 8, True, data_dir=tmp_path)
    assert "\n" not in str(error.value)
    shutil.rmtree(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"fashion_mnist_8x8\.npz is missing"):
        load_dataset("fashion_mnist", 8, True, data_dir=tmp_path)


def test_unknown_dataset_says_what_there_is():
    with pytest.raises(ValueError, match="image_size=9.*there is fashion_mnist, image_size=8"):
        load_dataset("fashion_mnist", 9, True)


def test_shrink_is_jax_image_resize_without_antialiasing():
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    resized = jax.image.resize(images.astype(np.float32), (20, 8, 8), method="linear", antialias=False)
    np.testing.assert_array_equal(shrink(images), np.asarray(jnp.rint(resized), np.uint8))


@pytest.mark.skipif(not SOURCE.exists(), reason="the original images are not beside the checkout")
def test_embedded_images_are_rebuilt_from_the_original(data):
    source = read_source(SOURCE)
    first, last = slice(0, 50), slice(-50, None)
    images = {split: part["image"][..., 0] for split, part in data.items()}
    np.testing.assert_array_equal(images["train"][first], shrink(source["x_train"][first]))
    np.testing.assert_array_equal(images["test"][last], shrink(source["x_test"][last]))
    np.testing.assert_array_equal(data["outer_valid"]["label"], source["y_train"][54_000:])
    np.testing.assert_array_equal(data["test"]["label"], source["y_test"])
